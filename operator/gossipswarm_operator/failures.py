"""What went wrong in a reconcile, as it stands in a condition and an event, and when to try again."""

from __future__ import annotations

import msgspec

from gossipswarm_operator.agent_documents import AgentError, AgentRefused
from gossipswarm_operator.errors import ApiError, Kind


class Failure(msgspec.Struct, frozen=True):
    """One thing that did not work."""

    reason: str
    """CamelCase."""
    message: str
    kind: Kind
    retry_after: float | None = None
    """Seconds that whoever refused it wants us to wait."""


def of_api(error: ApiError, doing: str) -> Failure:
    """The API server refused what we were doing, or was not to be reached."""
    return Failure(error.reason, f"{doing}: {error.message}", error.kind, error.retry_after)


def of_agent(error: AgentError, doing: str) -> Failure:
    """An agent refused what we were doing, or was not to be reached."""
    if isinstance(error, AgentRefused):
        refused = error.status in (400, 401, 403, 404, 422)
        reason = "".join(part.capitalize() for part in error.reason.split("-"))
        kind: Kind = "refused" if refused else "transient"
        return Failure(reason or "AgentRefused", f"{doing}: {error}", kind, error.retry_after)
    return Failure("AgentUnreachable", f"{doing}: {error}", "transient")
