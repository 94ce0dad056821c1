"""The hooks file: which actions follow which event, in which order.

    hooks:
      partition-detected:
        - builtin: {name: degraded-mode, enabled: true}
        - http: {url: "https://alerts.example.com/gossip", secret_env: ALERTS_SECRET}
      partition-healed:
        - builtin: anti-entropy
        - exec: {command: [/usr/local/bin/notify, healed], timeout: 10s}

An action that takes no arguments may be written as its name, URL or command alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
import yaml
from msgspec import Meta

from gossipswarm_agent.runtime import durations
from gossipswarm_agent.runtime.config import ConfigError
from gossipswarm_agent.runtime.suggestions import convert, did_you_mean

EVENTS: Final = (
    "partition-detected", "partition-healed", "region-cut", "region-healed", "convergence-reached",
    "conflict", "member-up", "member-down", "clock-skew", "degraded", "settings",
)  # fmt: skip
"""What the swarm tells of by itself."""
CALLED: Final = ("pre-task", "post-edit")
"""What a user or a program says happened."""
ACTIONS_LIMIT: Final = 32
"""Actions of one event."""


class _Action(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    timeout: str | float = "10s"
    """For the whole action, retries and all."""

    @property
    def seconds(self) -> float:
        """The timeout in seconds."""
        return durations.seconds(self.timeout)


class DegradedMode(_Action, frozen=True, tag_field="name", tag="degraded-mode"):
    """Read-only on or off: of this agent, or of the whole swarm."""

    enabled: bool
    scope: Literal["agent", "swarm"] = "agent"


class AntiEntropy(_Action, frozen=True, tag_field="name", tag="anti-entropy"):
    """Compare everything with a peer now."""

    peer: str | None = None
    timeout: str | float = "30s"


class StateUpdate(_Action, frozen=True, tag_field="name", tag="state-update"):
    """Write a value. ``${field}`` in key and strings stands for what the event says."""

    key: str
    value: Any = None


class WaitConverged(_Action, frozen=True, tag_field="name", tag="wait-converged"):
    """Write a mark and wait until this share of the agents has it."""

    threshold: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    timeout: str | float = "30s"


class Log(_Action, frozen=True, tag_field="name", tag="log"):
    """Write a line to the agent's log."""

    message: str
    level: Literal["debug", "info", "warning", "error"] = "info"


class Http(_Action, frozen=True):
    """POST the event as JSON. With a secret, its HMAC-SHA256 goes along."""

    url: Annotated[str, Meta(pattern=r"^https?://[^\s]+$")]
    headers: dict[str, str] = {}
    retries: Annotated[int, Meta(ge=0, le=10)] = 3
    secret_env: str | None = None
    """Environment variable that holds the secret."""
    secret_file: str | None = None


class Exec(_Action, frozen=True):
    """Run a program, without a shell. It finds the event in its environment and on its standard input."""

    command: Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1)]
    environment: dict[str, str] = {}


Builtin: TypeAlias = DegradedMode | AntiEntropy | StateUpdate | WaitConverged | Log
Action: TypeAlias = Builtin | Http | Exec
Hooks: TypeAlias = Mapping[str, tuple[Action, ...]]

_BUILTINS: Final[dict[str, type[Builtin]]] = {
    "degraded-mode": DegradedMode,
    "anti-entropy": AntiEntropy,
    "state-update": StateUpdate,
    "wait-converged": WaitConverged,
    "log": Log,
}
_KINDS: Final = ("builtin", "http", "exec")


def load_hooks(path: Path) -> Hooks:
    """Actions by event. Raises ConfigError naming file, place and what was expected."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the hooks file {path}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    try:
        return parse_hooks(document)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_hooks(document: Any) -> Hooks:
    """Actions by event. Raises ValueError naming place and what was expected."""
    if not isinstance(document, dict) or not isinstance(document.get("hooks"), dict):
        raise ValueError("expected 'hooks:' with events below it")
    for name in document:
        if name != "hooks":
            raise ValueError(f"unknown key {name!r}; only 'hooks' stands at the top")
    hooks = {}
    for event, actions in document["hooks"].items():
        if event not in EVENTS and event not in CALLED:
            raise ValueError(f"unknown event {event!r}{did_you_mean(str(event), EVENTS + CALLED)}")
        if not isinstance(actions, list) or len(actions) > ACTIONS_LIMIT:
            raise ValueError(f"{event}: expected a list of at most {ACTIONS_LIMIT} actions")
        hooks[event] = tuple(
            _parse_action(action, f"{event}[{position}]") for position, action in enumerate(actions)
        )
    return hooks


def _parse_action(action: Any, where: str) -> Action:
    if not isinstance(action, dict) or len(action) != 1:
        raise ValueError(f"{where}: expected one of builtin, http, exec with its arguments")
    kind, given = next(iter(action.items()))
    where = f"{where}.{kind}"
    parsed: Action
    match kind:
        case "builtin":
            parsed = _parse_builtin({"name": given} if isinstance(given, str) else given, where)
        case "http":
            parsed = convert({"url": given} if isinstance(given, str) else given, Http, where)
            if parsed.secret_env is not None and parsed.secret_file is not None:
                raise ValueError(f"{where}: give secret_env or secret_file, not both")
        case "exec":
            parsed = convert({"command": given} if isinstance(given, list) else given, Exec, where)
        case _:
            raise ValueError(f"{where}: unknown kind of action{did_you_mean(str(kind), _KINDS)}")
    try:
        durations.seconds(parsed.timeout)
    except ValueError as error:
        raise ValueError(f"{where}.timeout: {error}") from None
    return parsed


def _parse_builtin(given: Any, where: str) -> Builtin:
    name = given.get("name") if isinstance(given, dict) else None
    kind = _BUILTINS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"{where}: unknown builtin {name!r}{did_you_mean(str(name), _BUILTINS)}")
    return convert(given, kind, where)


def describe(action: Action) -> str:
    """An action in a few words, without secrets."""
    if isinstance(action, Http):
        return f"http {action.url}"
    if isinstance(action, Exec):
        return f"exec {action.command[0]}"
    return f"builtin {type(action).__struct_config__.tag}"
