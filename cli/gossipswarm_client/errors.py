"""Everything a call can end with, as one tree under ``GossipSwarmError``.

GossipSwarmError
├── Unreachable            no connection, or it broke
│   └── TimedOut           no answer in time
├── ProtocolError          an answer that is not GossipSwarm's
└── ApiError               the agent's problem document
    ├── Invalid            400, 415, 422: what was asked
    ├── Unauthorised 401, Forbidden 403, NotFound 404, PreconditionFailed 412, TooLarge 413
    ├── Throttled 429, NotConverged 504, StorageFull 507
    ├── Unavailable        503
    │   └── Degraded       503: read-only at the moment
    └── AgentFault         500
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class GossipSwarmError(Exception):
    """Base of all errors of this client."""


class Unreachable(GossipSwarmError):
    """The agent could not be connected to, or the connection broke."""


class TimedOut(Unreachable):
    """The agent did not answer in time. A write may have been applied."""


class ProtocolError(GossipSwarmError):
    """What answered does not speak this protocol."""


class ApiError(GossipSwarmError):
    """The agent refused, and said why.

    ``status`` is the HTTP status, ``reason`` a stable slug to branch on, ``detail`` a sentence for people,
    ``retry_after`` seconds or None, ``problem`` the whole RFC 9457 document.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = problem
        self.reason = str(problem.get("reason") or "unknown")
        self.detail = str(problem.get("detail") or problem.get("title") or f"HTTP {status}")
        wait = problem.get("retry_after_ms")
        self.retry_after: float | None = wait / 1000 if isinstance(wait, int | float) else None
        super().__init__(self.detail)

    @property
    def suggestions(self) -> list[str]:
        """What was probably meant."""
        found = self.problem.get("suggestions")
        return [str(each) for each in found] if isinstance(found, list) else []

    def __reduce__(self) -> tuple[type[ApiError], tuple[int, Mapping[str, Any]]]:
        return type(self), (self.status, self.problem)


class Invalid(ApiError):
    """The request itself is wrong."""


class Unauthorised(ApiError):
    """No token, or one that the agent does not know."""


class Forbidden(ApiError):
    """The token's scope does not reach that far."""


class NotFound(ApiError):
    """Nothing is stored there, or there is no such path."""


class PreconditionFailed(ApiError):
    """The key changed in the meantime."""


class TooLarge(ApiError):
    """Beyond a limit on bytes or leaves."""


class Throttled(ApiError):
    """Too much at once; try again after ``retry_after`` seconds."""


class Unavailable(ApiError):
    """Not now; try again after ``retry_after`` seconds."""


class Degraded(Unavailable):
    """The agent or its swarm is read-only at the moment."""


class NotConverged(ApiError):
    """The threshold was not reached in time. The write stands and goes on spreading."""


class StorageFull(ApiError):
    """The agent's disk is full: it reads and gossips, and takes no writes."""


class AgentFault(ApiError):
    """A fault of the agent's."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorised,
    403: Forbidden,
    404: NotFound,
    412: PreconditionFailed,
    413: TooLarge,
    415: Invalid,
    422: Invalid,
    429: Throttled,
    503: Unavailable,
    504: NotConverged,
    507: StorageFull,
}


def from_problem(status: int, problem: Mapping[str, Any]) -> ApiError:
    """The error that a problem document describes."""
    if problem.get("reason") == "degraded":
        return Degraded(status, problem)
    kind = _BY_STATUS.get(status) or (AgentFault if status >= 500 else ApiError)
    return kind(status, problem)
