"""The API's operations: what each takes and gives, and the table that finds them.

One table serves every agent of a process: an operation is a function of a ``Call``, which knows the agent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from aiohttp import hdrs, web

from gossipswarm_agent.api.access import Scope
from gossipswarm_agent.api.problems import Problem, did_you_mean

if TYPE_CHECKING:
    from gossipswarm_agent.api.call import Call

Handler: TypeAlias = "Callable[[Call], Awaitable[web.StreamResponse]]"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. A path ending in a parameter takes everything behind its prefix."""

    method: str
    path: str
    handler: Handler
    scope: Scope
    summary: str
    tag: str
    query: type | None = None
    body: Any = None
    body_media: str = JSON
    body_required: bool = True
    headers: tuple[str, ...] = ()
    """Request headers with a meaning here, by the names in ``openapi.HEADERS``."""
    answers: Mapping[str, Any] = field(default_factory=dict)
    """Media type to type (None = text) of the successful answer."""
    problems: tuple[int, ...] = ()
    """Statuses that this operation answers with, besides those that any may."""


class Table:
    """Finds the operation for a method and path."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._exact: dict[str, dict[str, Operation]] = {}
        self._prefixed: dict[str, dict[str, Operation]] = {}

    def add(self, operation: Operation) -> None:
        """Raises ValueError when the method and path are taken."""
        prefix, parameter, _ = operation.path.partition("{")
        table = self._prefixed if parameter else self._exact
        methods = table.setdefault(prefix, {})
        if operation.method in methods:
            raise ValueError(f"{operation.method} {operation.path} is taken")
        methods[operation.method] = operation
        self.operations.append(operation)

    def find(self, method: str, path: str) -> tuple[Operation, str]:
        """The operation and what stands in the place of the path's parameter, still percent-encoded.

        Raises:
            Problem: 404 for an unknown path, 405 for a method it lacks.
        """
        rest = ""
        methods = self._exact.get(path)
        if methods is None:
            for prefix, found in self._prefixed.items():
                if path.startswith(prefix):
                    methods, rest = found, path[len(prefix) :]
                    break
            else:
                raise Problem(
                    404, "no-such-path", f"there is no {path}{did_you_mean(path, self._exact)}"
                )
        operation = methods.get("GET" if method == hdrs.METH_HEAD else method)
        if operation is None:
            allowed = self.allowed(methods)
            raise Problem(
                405,
                "method-not-allowed",
                f"{method} is not possible here; allowed: {', '.join(allowed)}",
                headers={hdrs.ALLOW: ", ".join(allowed)},
                allowed=allowed,
            )
        return operation, rest

    def allowed(self, methods: Mapping[str, Operation]) -> list[str]:
        """The methods of a path as an Allow header lists them."""
        return sorted({*methods, *(("HEAD",) if "GET" in methods else ())})
