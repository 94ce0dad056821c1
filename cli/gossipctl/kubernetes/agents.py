"""Agents in pods, reached through the API server's pod proxy; where that is barred, by port-forward."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from gossipctl import failures
from gossipctl.backend import REQUEST_SECONDS, Agent
from gossipctl.failures import CommandFailed, UsageError
from gossipctl.kubernetes.api import Api
from gossipctl.kubernetes.refusal import Refusal
from gossipctl.kubernetes.resources import API_PORT, core
from gossipswarm_client import results
from gossipswarm_client.calls import Call, Line, decode_object
from gossipswarm_client.errors import ApiError, GossipSwarmError, TimedOut, Unreachable
from gossipswarm_client.exchange import Exchange
from gossipswarm_client.http1 import Endpoint
from gossipswarm_client.waiting import group_lines

TOKEN_HEADER = "X-Gossipswarm-Token"  # noqa: S105 - a name
RETRIES = 2
T = TypeVar("T")


class Pod(NamedTuple):
    """Where an agent is."""

    namespace: str
    name: str
    region: str
    tls: bool = False
    """Its API speaks TLS."""

    @property
    def proxy(self) -> str:
        """Path of the pod proxy to its API."""
        scheme = "https:" if self.tls else ""
        return f"{core('pods', self.namespace)}/{scheme}{self.name}:{API_PORT}/proxy"


class NotReached(GossipSwarmError):
    """The API server answered in place of the agent. ``failure`` is what that means to the user."""

    def __init__(self, failure: CommandFailed) -> None:
        super().__init__(failure.message)
        self.failure = failure


class PodAgent(Agent):
    """One agent's HTTP API behind the API server."""

    def __init__(self, api: Api, pod: Pod, token: str) -> None:
        super().__init__(pod.name, pod.region, api.url(pod.proxy), token)
        self._attach(_PodExchange(api, pod, token))


class _PodExchange(Exchange):
    """Calls to one pod: by proxy, or by port-forward once the proxy turned out to be barred."""

    def __init__(self, api: Api, pod: Pod, token: str) -> None:
        headers = {**api.headers(), TOKEN_HEADER: token}
        super().__init__(
            api.url(pod.proxy), None, REQUEST_SECONDS, RETRIES, None, headers, api.dial
        )
        self._api = api
        self._pod = pod
        self._token = token
        self._forwards = False

    def fetch(
        self, call: Call[Any], timeout: float | None = None, retries: int | None = None
    ) -> bytes:
        """The body that answers a call. Raises NotReached where no agent did."""
        try:
            return super().fetch(call, timeout, retries)
        except Refusal as refusal:  # of the port-forward
            raise NotReached(refusal) from None
        except ApiError as error:
            self._go_round(error)
            return self.fetch(call, timeout, retries)
        except Unreachable as error:
            raise self._silent(error) from None

    def watch(
        self, prefix: str, since: str | None, timeout: float | None
    ) -> Iterator[results.Change | results.Reset]:
        """Changes for as long as they are taken."""
        try:
            yield from super().watch(prefix, since, timeout)
        except Refusal as refusal:
            raise NotReached(refusal) from None
        except ApiError as error:
            self._go_round(error)
            yield from self.watch(prefix, since, timeout)
        except TimedOut:
            raise
        except Unreachable as error:
            raise self._silent(error) from None

    def batch(
        self, lines: Iterable[Line | Mapping[str, Any]], patience: float
    ) -> Iterator[results.Ack]:
        """Send lines and yield their acknowledgements, a group at a time.

        The API server passes nothing of an answer on while a request is still being sent.
        """
        for _, data in group_lines(lines):
            call: Call[Any] = Call(
                "POST",
                "/v1/batch",
                lambda found: found,
                data,
                {"Content-Type": "application/x-ndjson"},
                patience,
                safe=False,
            )
            for line in self.fetch(call).splitlines():
                yield results.Ack(decode_object(line))

    def _go_round(self, error: ApiError) -> None:
        """Use port-forward from now on, if it was the proxy that refused; raise the refusal otherwise."""
        if error.problem.get("kind") != "Status":
            raise error
        explained = _explained(self._pod, error)
        if self._forwards or error.status not in (403, 500, 502, 503, 504):
            raise NotReached(explained) from None
        from gossipctl.kubernetes.portforward import Forwarding

        self._forwards = True
        pod = self._pod
        self._where = Endpoint(pod.name, API_PORT, pod.tls, "")
        self._dial = Forwarding(self._api, pod.namespace, pod.name, API_PORT, tls=pod.tls)
        self._headers = {"Accept": "application/json", "Authorization": f"Bearer {self._token}"}
        self._connection.close()
        self._connection = self._connect()
        self._connection.deadline = monotonic() + self.timeout
        self._try_forwarding(explained)

    def _try_forwarding(self, refused: CommandFailed) -> None:
        """Raises what the proxy said if port-forward is barred as well: that is the better explanation."""
        try:
            super().fetch(Call("GET", "/healthz", lambda found: found), retries=0)
        except (Refusal, Unreachable):
            raise NotReached(refused) from None

    def _silent(self, error: Unreachable) -> NotReached:
        why = str(error).partition(": ")[2] or str(error)
        return NotReached(
            failures.Unreachable(
                f"agent {self._pod.name} does not answer through the API server: {why}",
                "see how it is with: gossipctl agent list",
            )
        )


def _explained(pod: Pod, error: ApiError) -> CommandFailed:
    """What the API server's own answer means."""
    document = error.problem
    text = str(document.get("message") or f"HTTP {error.status}")
    if error.status == 404:
        return UsageError(f"no agent {pod.name}", "see them with: gossipctl agent list")
    if error.status in (401, 403):
        return Refusal.of(error.status, json.dumps(document).encode())
    return failures.Unreachable(
        f"the API server cannot reach agent {pod.name}: {text}",
        "see how it is with: gossipctl agent list",
    )
