"""The agent's HTTP API as data: what each call sends, and what its answer means.

Both clients carry these out, one blocking, one with asyncio.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from gossipswarm_client import results
from gossipswarm_client.errors import ProtocolError

T = TypeVar("T")

GRACE = 5.0
"""Seconds that the answer may take beyond what the agent was asked to wait."""

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~")
_TIDIED = frozenset(("", ".", ".."))
"""Parts of a path that stand for something else."""
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class Call(Generic[T]):
    """One request, and how its answer is read."""

    __slots__ = ("body", "headers", "method", "result", "safe", "target", "timeout")

    def __init__(
        self,
        method: str,
        target: str,
        result: Callable[[Any], T],
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        *,
        safe: bool = True,
    ) -> None:
        self.method = method
        self.target = target
        self.result = result
        self.body = body
        self.headers = headers or {}
        self.timeout = timeout
        """Seconds the whole call may take; None = the client's own."""
        self.safe = safe
        """May be sent again when nobody knows whether it arrived."""


def quote(text: str) -> str:
    """Percent-encoded UTF-8 that survives in any part of a URL."""
    return "".join(
        chr(byte) if byte in _PLAIN else f"%{byte:02X}"
        for byte in text.encode("utf-8", "surrogatepass")
    )


def target(path: str, **query: Any) -> str:
    """A path with its query; parameters that are None or False are left out, True is a bare flag."""
    parts = [
        name if value is True else f"{name}={quote(_as_text(value))}"
        for name, value in query.items()
        if value is not None and value is not False
    ]
    return f"{path}?{'&'.join(parts)}" if parts else path


def _as_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Seconds as a duration of the API."""
    return f"{max(1, round(seconds * 1000))}ms"


def encode(value: Any) -> bytes:
    """A value as JSON. Raises ValueError or TypeError for what JSON cannot say."""
    return _encode(value).encode()


def decode(body: bytes) -> Any:
    """JSON as a value. Raises ProtocolError."""
    try:
        return json.loads(body) if body else None
    except ValueError as error:
        raise ProtocolError(f"the agent's answer is not JSON: {error}") from None


def decode_object(body: bytes) -> dict[str, Any]:
    """JSON as an object. Raises ProtocolError."""
    value = decode(body)
    if not isinstance(value, dict):
        raise ProtocolError("the agent's answer is not a JSON object")
    return value


def problem_of(body: bytes, content_type: str) -> dict[str, Any]:
    """The problem document of a refusal; something like one where it is none (a proxy's page, say)."""
    if "json" in content_type:
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if isinstance(found, dict):
            return found
    text = body[:200].decode("utf-8", "replace").strip()
    return {"reason": "unknown", "detail": " ".join(text.split())} if text else {}


# State


def state_target(key: str, **query: Any) -> str:
    """Path and query of a key.

    What a proxy might tidy up, such as double slashes or ``..``, travels in the query.
    """
    if not key:
        return target("/v1/state", **query)
    if any(part in _TIDIED for part in key.split("/")):
        return target("/v1/state", key=key, **query)
    return target(f"/v1/state/{quote(key)}", **query)


def get(key: str) -> Call[results.Value]:
    """Read a value."""
    return Call("GET", state_target(key), results.Value)


def keys(prefix: str, limit: int, after: str) -> Call[tuple[list[str], str | None]]:
    """A page of keys, and where the next begins."""
    wanted = state_target(prefix, keys=True, limit=limit, after=after or None)
    return Call("GET", wanted, lambda page: (page["keys"], page["next"]))


class Conditions(NamedTuple):
    """What else goes with a write."""

    trace: bool = False
    wait: bool = False
    threshold: float | None = None
    timeout: float | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    request_id: str | None = None


def write(
    method: str,
    key: str,
    conditions: Conditions,
    *,
    body: bytes | None = None,
    op: str | None = None,
) -> Call[results.Written]:
    """Replace, merge or delete. Carries a request id, so that sending it twice applies it once."""
    waits = conditions.wait
    limit = conditions.timeout
    headers = {"X-Request-Id": conditions.request_id or os.urandom(12).hex()}
    if conditions.if_match is not None:
        headers["If-Match"] = _quoted(conditions.if_match)
    if conditions.if_none_match is not None:
        headers["If-None-Match"] = _quoted(conditions.if_none_match)
    where = state_target(
        key,
        op=op,
        trace=conditions.trace,
        wait="converged" if waits else None,
        threshold=conditions.threshold if waits else None,
        timeout=duration(limit) if waits and limit is not None else None,
    )
    patience = limit + GRACE if waits and limit is not None else limit
    return Call(method, where, results.Written, body, headers, patience)


def _quoted(etag: str) -> str:
    return etag if etag == "*" or etag.startswith('"') else f'"{etag}"'


class Line(NamedTuple):
    """One line of a batch: ``op`` is put, merge, delete or leaf."""

    key: str
    value: Any = None
    op: str = "put"
    trace: bool = False
    id: str | int | None = None
    if_match: str | None = None


def encode_line(line: Line | Mapping[str, Any]) -> bytes:
    """A line as it is sent."""
    if not isinstance(line, Line):
        return encode(line) + b"\n"
    document: dict[str, Any] = {"op": line.op, "key": line.key}
    if line.op != "delete":
        document["value"] = line.value
    if line.trace:
        document["trace"] = True
    if line.id is not None:
        document["id"] = line.id
    if line.if_match is not None:
        document["if_match"] = line.if_match
    return encode(document) + b"\n"


# The agent and its swarm


def _plain(path: str, result: Callable[[Any], T]) -> Call[T]:
    return Call("GET", path, result)


def agent() -> Call[results.AgentInfo]:
    """What the agent says of itself."""
    return _plain("/v1/agent", results.AgentInfo)


def ready() -> Call[results.Document]:
    """Whether the agent is in its swarm and has caught up."""
    return _plain("/readyz", results.Document)


def metrics() -> Call[Any]:
    """Metrics, as text."""
    return Call("GET", "/metrics", lambda found: found)


def members() -> Call[list[results.Member]]:
    """Everyone the agent knows, itself included."""
    return _plain("/v1/members", lambda found: list(map(results.Member, found["members"])))


def regions() -> Call[list[results.Region]]:
    """Every region the agent knows."""
    return _plain("/v1/regions", lambda found: list(map(results.Region, found["regions"])))


def partition() -> Call[results.Partition]:
    """Which regions hear each other."""
    return _plain("/v1/partition", results.Partition)


def conflicts() -> Call[results.Conflicts]:
    """Concurrent writes that lost."""
    return _plain("/v1/conflicts", results.Conflicts)


def recent_convergence() -> Call[list[results.Convergence]]:
    """The agent's traced writes, latest first."""
    return _plain("/v1/convergence", lambda found: list(map(results.Convergence, found["writes"])))


def convergence(
    dot: str, *, wait: bool, threshold: float | None, timeout: float | None
) -> Call[results.Convergence]:
    """How far a write has come; with ``wait``, once it has come that far."""
    where = target(
        f"/v1/convergence/{quote(dot)}",
        wait=wait,
        threshold=threshold,
        timeout=duration(timeout) if wait and timeout is not None else None,
    )
    patience = timeout + GRACE if wait and timeout is not None else timeout
    return Call("GET", where, results.Convergence, timeout=patience)


def convergence_stats() -> Call[results.ConvergenceStats]:
    """Convergence times over the recent traced writes."""
    return _plain("/v1/convergence-stats", results.ConvergenceStats)


def config() -> Call[results.Config]:
    """The swarm's parameters."""
    return _plain("/v1/config", results.Config)


def configure(changes: Mapping[str, Any]) -> Call[results.Config]:
    """Change parameters, whole or not at all."""
    return _post("/v1/config", changes, results.Config, method="PATCH")


# Administration


def _post(
    path: str,
    document: Mapping[str, Any],
    result: Callable[[Any], T],
    *,
    method: str = "POST",
    timeout: float | None = None,
    safe: bool = True,
) -> Call[T]:
    given = {name: value for name, value in document.items() if value is not None}
    return Call(method, path, result, encode(given), timeout=timeout, safe=safe)


def degraded_mode(enabled: bool, scope: str) -> Call[bool]:
    """Read-only on or off; whether it is on now."""
    return _post(
        "/v1/admin/degraded-mode",
        {"enabled": enabled, "scope": scope},
        lambda found: bool(found["enabled"]),
    )


def anti_entropy(peer: str | None, timeout: float) -> Call[results.AntiEntropyReport]:
    """Compare everything with one peer now."""
    document = {"peer": peer, "timeout": duration(timeout)}
    return _post(
        "/v1/admin/anti-entropy",
        document,
        results.AntiEntropyReport,
        timeout=timeout + GRACE,
    )


def keyring(action: str, *, key: str | None = None, key_id: str | None = None) -> Call[list[str]]:
    """Ids of the agent's keys after the action; it seals with the first."""
    return _post(
        "/v1/admin/keyring",
        {"action": action, "key": key, "id": key_id},
        lambda found: list(found["keys"]),
    )


def reset_peers() -> Call[int]:
    """Give up connections to peers; how many."""
    return _post("/v1/admin/reset-peers", {}, lambda found: int(found["closed"]))


def drop_list() -> Call[results.DropList]:
    """Regions whose packets the agent drops."""
    return _plain("/v1/admin/drop-list", results.DropList)


def set_drop_list(
    inbound: Sequence[str], outbound: Sequence[str], duration_ms: int | None
) -> Call[results.DropList]:
    """Replace the drop list."""
    document = {
        "inbound": list(inbound),
        "outbound": list(outbound),
        "duration_ms": duration_ms,
    }
    return _post("/v1/admin/drop-list", document, results.DropList)


def hooks() -> Call[results.Hooks]:
    """Actions by event."""
    return _plain("/v1/hooks", results.Hooks)


def call_hooks(
    event: str, detail: Mapping[str, Any], timeout: float
) -> Call[list[results.HookOutcome]]:
    """Carry out the actions of an event now."""
    return _post(
        "/v1/admin/hooks",
        {"event": event, "detail": detail},
        lambda found: list(map(results.HookOutcome, found["outcomes"])),
        timeout=timeout,
        safe=False,
    )


def release() -> Call[list[str]]:
    """Let regions merge that wait for an operator (``healing_strategy: manual``); which."""
    return _post("/v1/admin/release", {}, lambda found: list(found["regions"]))
