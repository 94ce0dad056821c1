"""The flags of ``gossip config`` and the agents' parameters are one list."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gossipctl.parameters import PARAMETERS, add_flags
from gossipctl.parser import Parser
from gossipswarm_agent.core.settings import DEFAULTS, NAMES, InvalidSetting, merge

SCHEMA = msgspec.json.schema_components([type(DEFAULTS)])[1]["Settings"]["properties"]


def parse(*arguments: str) -> dict[str, Any]:
    parser = Parser("gossipctl gossip config", about="")
    add_flags(parser)
    flags = vars(parser.parse(arguments))
    return {name: value for name, value in flags.items() if value is not None}


def test_every_parameter_of_the_agents_has_a_flag_and_no_other() -> None:
    assert [name.replace("-", "_") for name in PARAMETERS] == list(NAMES)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_defaults_shown_are_those_in_force(name: str) -> None:
    assert PARAMETERS[name].default == getattr(DEFAULTS, name.replace("-", "_"))


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_words_offered_are_those_allowed(name: str) -> None:
    allowed = SCHEMA[name.replace("-", "_")].get("enum")
    offered = getattr(PARAMETERS[name].convert, "allowed", None)
    if allowed is not None:
        assert sorted(offered) == sorted(allowed)


def test_what_the_flags_say_is_what_the_agents_take() -> None:
    changes = parse(
        *("--fanout", "5", "--interval", "50ms", "--mode", "push", "--eager", "false"),
        *("--convergence-threshold", "90%", "--anti-entropy-interval", "5s"),
        *("--conflict-resolution-prefixes", "counters=max,tags=union"),
    )
    settings = merge(DEFAULTS, changes)
    assert settings.fanout == 5
    assert settings.interval == 50
    assert settings.mode == "push"
    assert settings.eager is False
    assert settings.convergence_threshold == 0.9
    assert settings.anti_entropy_interval == 5_000
    assert settings.conflict_resolution_prefixes == {"counters": "max", "tags": "union"}


def test_a_range_is_the_agents_business() -> None:
    with pytest.raises(InvalidSetting, match="fanout"):
        merge(DEFAULTS, parse("--fanout", "99"))
