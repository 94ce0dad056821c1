"""The blocking client. Light to import: sockets, JSON and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self

from gossipswarm_client import calls, results
from gossipswarm_client.calls import Call, Conditions, Line
from gossipswarm_client.errors import NotFound, TimedOut, Unavailable
from gossipswarm_client.exchange import Exchange
from gossipswarm_client.waiting import CONVERGENCE, Backoff, has_happened, nothing_traced


class Client:
    """One agent. Keeps its connection open; not for use from several threads.

    Args:
        url: ``http://host:port``, or https.
        token: bearer token, where the agent wants one.
        timeout: seconds that any call may take in all, retries included, unless the call says otherwise.
        retries: times that a call is sent again when the agent says that it may be, or the connection
            broke. Writes carry a request id, so they are applied once however often they are sent.
        ca_file: certificates to trust for https; default: those of the system.

    Every call raises an error of ``gossipswarm_client.errors``.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 10.0,
        retries: int = 2,
        ca_file: str | None = None,
    ) -> None:
        self.url = url
        self.timeout = timeout
        self._last_dot: str | None = None
        self._attach(Exchange(url, token, timeout, retries, ca_file))

    def _attach(self, exchange: Exchange) -> None:
        """Send every call this way from now on."""
        self._exchange = exchange
        self._run = exchange.run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._exchange.close()

    # --- state ------------------------------------------------------------------------------------

    def get(self, key: str, *, timeout: float | None = None) -> results.Value:
        """The visible value of a key; ``""`` is everything. Raises NotFound."""
        return self._run(calls.get(key), timeout)

    def find(self, key: str, *, timeout: float | None = None) -> results.Value | None:
        """The visible value of a key, or None where nothing is stored."""
        try:
            return self.get(key, timeout=timeout)
        except NotFound as error:
            if error.reason != "not-found":
                raise
            return None

    def keys(self, prefix: str = "", *, timeout: float | None = None) -> Iterator[str]:
        """All keys below a prefix, in order, fetched a page at a time."""
        after: str | None = ""
        while after is not None:
            page, after = self._run(calls.keys(prefix, 1000, after), timeout)
            yield from page

    def set(
        self,
        key: str,
        value: Any,
        *,
        whole: bool = False,
        trace: bool = False,
        wait: bool = False,
        threshold: float | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> results.Written:
        """Replace everything at and below a key. It is durable at the agent when this returns.

        Args:
            whole: keep an object as one leaf instead of one leaf a member.
            trace: ask every agent for a receipt.
            wait: return when the share ``threshold`` of agents has it (None: the swarm's threshold).
                Raises NotConverged at the timeout; the write stands.
            if_match: etag that must still hold; ``"*"``: the key must exist. Raises PreconditionFailed.
            if_none_match: ``"*"``: the key must not exist.
            request_id: the same id twice is applied once; made up where it is None.
        """
        conditions = Conditions(
            trace, wait, threshold, timeout, if_match, if_none_match, request_id
        )
        body = calls.encode(value)
        return self._write("PUT", key, conditions, body, op="leaf" if whole else None)

    def patch(
        self,
        key: str,
        changes: Any,
        *,
        trace: bool = False,
        wait: bool = False,
        threshold: float | None = None,
        if_match: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> results.Written:
        """Merge into the value at a key (RFC 7396: null deletes a member). Otherwise as ``set``."""
        conditions = Conditions(trace, wait, threshold, timeout, if_match, None, request_id)
        return self._write("PATCH", key, conditions, calls.encode(changes))

    def delete(
        self,
        key: str,
        *,
        trace: bool = False,
        wait: bool = False,
        threshold: float | None = None,
        if_match: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> results.Written:
        """Delete a key and all below it; ``changed`` is 0 where nothing was. Otherwise as ``set``."""
        conditions = Conditions(trace, wait, threshold, timeout, if_match, None, request_id)
        return self._write("DELETE", key, conditions, None)

    def _write(
        self,
        method: str,
        key: str,
        conditions: Conditions,
        body: bytes | None,
        op: str | None = None,
    ) -> results.Written:
        if conditions.wait and conditions.timeout is None:
            conditions = conditions._replace(timeout=self.timeout)
        written = self._run(calls.write(method, key, conditions, body=body, op=op))
        self._last_dot = written.dot or self._last_dot
        return written

    def batch(
        self, lines: Iterable[Line | Mapping[str, Any]], *, timeout: float | None = None
    ) -> Iterator[results.Ack]:
        """Write many lines over one request: acknowledgements come in order, while lines are still sent.

        A line that is refused does not stop the others: look at ``Ack.ok``. ``timeout`` bounds the wait for
        any one acknowledgement. Whoever stops early closes the connection.
        """
        return self._exchange.batch(lines, self.timeout if timeout is None else timeout)

    def watch(
        self, prefix: str = "", *, since: str | None = None, timeout: float | None = None
    ) -> Iterator[results.Change | results.Reset]:
        """Changes at and below a prefix, as they happen, for as long as the caller takes them.

        A connection that breaks is made again and resumed behind the last change; one that cannot be made in
        the first place raises Unreachable. Where the agent no longer knows the place to resume from, a Reset
        comes first and the full state follows. ``since`` is the ``id`` of a change seen earlier. With
        ``timeout``, TimedOut is raised after that many seconds in all.
        """
        return self._exchange.watch(prefix, since, timeout)

    # --- the agent and its swarm ------------------------------------------------------------------

    def agent(self, *, timeout: float | None = None) -> results.AgentInfo:
        """What the agent says of itself."""
        return self._run(calls.agent(), timeout)

    def members(self, *, timeout: float | None = None) -> list[results.Member]:
        """Everyone the agent knows, itself included."""
        return self._run(calls.members(), timeout)

    def regions(self, *, timeout: float | None = None) -> list[results.Region]:
        """Every region the agent knows."""
        return self._run(calls.regions(), timeout)

    def partition(self, *, timeout: float | None = None) -> results.Partition:
        """Which regions hear each other, and which did not in the past."""
        return self._run(calls.partition(), timeout)

    def conflicts(self, *, timeout: float | None = None) -> results.Conflicts:
        """Concurrent writes that lost, and what beat them."""
        return self._run(calls.conflicts(), timeout)

    def convergence(self, dot: str, *, timeout: float | None = None) -> results.Convergence:
        """How far a traced write of this agent has come. Raises NotFound for one that is not known."""
        return self._run(calls.convergence(dot, wait=False, threshold=None, timeout=None), timeout)

    def recent_convergence(self, *, timeout: float | None = None) -> list[results.Convergence]:
        """The agent's traced writes, latest first."""
        return self._run(calls.recent_convergence(), timeout)

    def convergence_stats(self, *, timeout: float | None = None) -> results.ConvergenceStats:
        """Convergence times over the agent's recent traced writes."""
        return self._run(calls.convergence_stats(), timeout)

    def config(self, *, timeout: float | None = None) -> results.Config:
        """The swarm's parameters as the agent applies them."""
        return self._run(calls.config(), timeout)

    def configure(self, timeout: float | None = None, **changes: Any) -> results.Config:
        """Change parameters of the swarm, whole or not at all. Raises Invalid."""
        return self._run(calls.configure(changes), timeout)

    def ready(self, *, timeout: float | None = None) -> bool:
        """Whether the agent is in its swarm and has caught up."""
        try:
            self._run(calls.ready(), timeout, 0)
        except Unavailable:
            return False
        return True

    def metrics(self, *, timeout: float | None = None) -> str:
        """The agent's metrics in Prometheus's text format."""
        return self._exchange.fetch(calls.metrics(), timeout).decode()

    def wait_for(
        self,
        event: str = CONVERGENCE,
        *,
        threshold: float | None = None,
        dot: str | None = None,
        timeout: float = 30.0,
    ) -> results.Document:
        """Block until something is so; returns what then was.

        Events: ``convergence-reached`` (of ``dot``; default: the last write of this client, else the agent's
        latest traced write), ``ready``, ``partition-detected``, ``partition-healed``.

        Raises:
            NotConverged, TimedOut: it was not so within ``timeout`` seconds.
            ValueError: for an event of another name.
        """
        ends = monotonic() + timeout
        if event == CONVERGENCE:
            wanted = dot or self._last_dot or self._latest_traced(ends)
            left = max(0.001, ends - monotonic())
            return self._run(
                calls.convergence(wanted, wait=True, threshold=threshold, timeout=left)
            )
        awaited = has_happened(event)
        backoff = Backoff(0.02, 0.25)
        while True:
            try:
                found = self._run(awaited.request, max(0.001, ends - monotonic()), retries=0)
            except Unavailable:
                pass
            else:
                if awaited.holds(found):
                    return found
            if monotonic() + backoff.current >= ends:
                raise TimedOut(f"{event} did not come within {timeout:g} s")
            sleep(backoff.next())

    def _latest_traced(self, ends: float) -> str:
        latest = self.recent_convergence(timeout=max(0.001, ends - monotonic()))
        if not latest:
            raise nothing_traced()
        return latest[0].dot

    # --- administration ---------------------------------------------------------------------------

    def degraded_mode(
        self, enabled: bool, *, scope: str = "swarm", timeout: float | None = None
    ) -> bool:
        """Read-only on or off, for the ``swarm`` or this ``agent``; whether it is on now."""
        return self._run(calls.degraded_mode(enabled, scope), timeout)

    def anti_entropy(
        self, peer: str | None = None, *, timeout: float = 30.0
    ) -> results.AntiEntropyReport:
        """Compare everything with one peer now (None: a random one), and repair what differs."""
        return self._run(calls.anti_entropy(peer, timeout))

    def keyring(
        self,
        action: str = "list",
        *,
        key: str | None = None,
        key_id: str | None = None,
        timeout: float | None = None,
    ) -> list[str]:
        """``list``, ``install`` a key (base64), ``use`` or ``remove`` one by id; ids of the keys held."""
        return self._run(calls.keyring(action, key=key, key_id=key_id), timeout)

    def reset_peers(self, *, timeout: float | None = None) -> int:
        """Have the agent give up its connections to peers; how many."""
        return self._run(calls.reset_peers(), timeout)

    def drop_list(self, *, timeout: float | None = None) -> results.DropList:
        """Regions whose packets the agent drops."""
        return self._run(calls.drop_list(), timeout)

    def set_drop_list(
        self,
        inbound: Sequence[str] = (),
        outbound: Sequence[str] = (),
        *,
        duration_ms: int | None = None,
        timeout: float | None = None,
    ) -> results.DropList:
        """Drop the packets of regions from now on; two empty lists end it."""
        return self._run(calls.set_drop_list(inbound, outbound, duration_ms), timeout)

    def hooks(self, *, timeout: float | None = None) -> results.Hooks:
        """Actions that follow events at this agent, and how the last ones ended."""
        return self._run(calls.hooks(), timeout)

    def call_hooks(
        self, event: str, detail: Mapping[str, Any] | None = None, *, timeout: float = 60.0
    ) -> list[results.HookOutcome]:
        """Say that an event has happened: its actions are carried out now; how each one ended."""
        return self._run(calls.call_hooks(event, detail or {}, timeout))

    def release(self, *, timeout: float | None = None) -> list[str]:
        """Let regions merge that wait for an operator (``healing_strategy: manual``); which."""
        return self._run(calls.release(), timeout)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """The JSON that answers a request of any kind; for what has no method of its own yet."""
        data = calls.encode(body) if body is not None else None
        where = calls.target(path, **(query or {}))
        safe = method in ("GET", "PUT", "DELETE", "HEAD")
        call: Call[Any] = Call(method, where, lambda found: found, data, safe=safe)
        return self._run(call, timeout)
