"""Client of GossipSwarm agents.

    from gossipswarm_client import Client

    with Client("http://127.0.0.1:7946") as swarm:
        written = swarm.set("app.config", {"cache_ttl": 3600}, trace=True)
        swarm.wait_for("convergence-reached", threshold=0.95)

``AsyncClient`` is the same with ``await``. Names are loaded when they are used, so importing the package
costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gossipswarm_client.aio import AsyncClient
    from gossipswarm_client.errors import (
        AgentFault,
        ApiError,
        Degraded,
        Forbidden,
        GossipSwarmError,
        Invalid,
        NotConverged,
        NotFound,
        PreconditionFailed,
        ProtocolError,
        StorageFull,
        Throttled,
        TimedOut,
        TooLarge,
        Unauthorised,
        Unavailable,
        Unreachable,
    )
    from gossipswarm_client.results import (
        Ack,
        Change,
        Convergence,
        Reset,
        Value,
        Written,
    )
    from gossipswarm_client.sync import Client

_HOMES = {
    "AsyncClient": "aio",
    "Client": "sync",
    **dict.fromkeys(("Ack", "Change", "Convergence", "Reset", "Value", "Written"), "results"),
    **dict.fromkeys(
        (
            "AgentFault",
            "ApiError",
            "Degraded",
            "Forbidden",
            "GossipSwarmError",
            "Invalid",
            "NotConverged",
            "NotFound",
            "PreconditionFailed",
            "ProtocolError",
            "StorageFull",
            "Throttled",
            "TimedOut",
            "TooLarge",
            "Unauthorised",
            "Unavailable",
            "Unreachable",
        ),
        "errors",
    ),
}

__all__ = [  # noqa: RUF022 - by importance
    "Client",
    "AsyncClient",
    "GossipSwarmError",
    "Unreachable",
    "TimedOut",
    "ProtocolError",
    "ApiError",
    "Unauthorised",
    "Forbidden",
    "NotFound",
    "PreconditionFailed",
    "TooLarge",
    "Invalid",
    "Throttled",
    "Unavailable",
    "Degraded",
    "NotConverged",
    "StorageFull",
    "AgentFault",
    "Value",
    "Written",
    "Convergence",
    "Ack",
    "Change",
    "Reset",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - not needed by those who import a submodule

    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
