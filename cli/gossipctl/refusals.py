"""What agents and the supervisor refuse, as failures of the command."""

from __future__ import annotations

from gossipctl import failures
from gossipctl.failures import CommandFailed, UsageError
from gossipctl.local.errors import LocalError
from gossipswarm_client.errors import (
    ApiError,
    Degraded,
    GossipSwarmError,
    Invalid,
    NotConverged,
    TooLarge,
    Unreachable,
)


def translate(error: Exception) -> CommandFailed | None:
    """The failure that ``error`` means; None when it is a defect."""
    if isinstance(error, LocalError):
        failure = CommandFailed(error.message, error.hint or None)
        failure.exit_code = error.exit
        return failure
    found = getattr(error, "failure", None)
    if isinstance(found, CommandFailed):
        return found
    if isinstance(error, ApiError):
        return _of_problem(error)
    if isinstance(error, Unreachable):
        return failures.Unreachable(
            _named(str(error)), "see which agents are alive with: gossipctl agent list"
        )
    if isinstance(error, GossipSwarmError):
        return CommandFailed(str(error))
    return None


def _named(text: str) -> str:
    """The same with the agent's name for its address."""
    from gossipctl.backend import NAMES

    address = next((address for address in NAMES if address in text), None)
    if address is None:
        return f"no answer from an agent: {text}"
    rest = text.replace(address, "", 1).strip(" :")
    return f"agent {NAMES[address]} at {address}: {rest}"


def _of_problem(error: ApiError) -> CommandFailed:
    detail, hint = error.detail, None
    if error.suggestions:
        detail = detail.partition("; did you mean")[0]
        hint = f"did you mean {' or '.join(error.suggestions)}?"
    if isinstance(error, NotConverged):
        return failures.NotConverged(detail, hint or "the write stands and goes on spreading")
    if isinstance(error, Invalid | TooLarge):
        return UsageError(detail, hint)
    if isinstance(error, Degraded):
        hint = hint or "end it with: gossipctl gossip degraded-mode --disable"
    return CommandFailed(detail, hint)
