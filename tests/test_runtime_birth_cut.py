"""Agents that are born into a cut find it in a file, and hold to it from the first packet on."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents import config_of, running
from gossipswarm_agent.runtime import configuration
from gossipswarm_agent.runtime.birth_cut import BirthCut, read_birth_cut
from gossipswarm_agent.runtime.config import ConfigError
from gossipswarm_agent.runtime.configuration import born_into, build
from gossipswarm_agent.runtime.drops import CONFIGURED, DropList

CUT = "links: [us-east|us-west, eu-central|us-east]\nuntil_ms: 4000000000000\n"


def test_an_agent_finds_the_regions_beyond_its_own_side(tmp_path: Path) -> None:
    path = tmp_path / "cut.yaml"
    path.write_text(CUT)
    assert read_birth_cut(path, "us-east").regions == ["eu-central", "us-west"]
    assert read_birth_cut(path, "us-west").regions == ["us-east"]
    assert read_birth_cut(path, "ap-south") == BirthCut([], 4_000_000_000_000)


def test_no_file_is_no_cut(tmp_path: Path) -> None:
    assert read_birth_cut(tmp_path / "none.yaml", "us-east") == BirthCut()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("links: [us-east]", "'us-east' is no pair of regions such as a|b"),
        ("links: ['a|b|c']", "'a|b|c' is no pair"),
        ("link: [a|b]", "unknown field `link`"),
        ("", "Expected `object`"),
        ("links: [", "cut.yaml"),
        ("links: [a|b]\nuntil_ms: soon", "Expected `int | null`"),
    ],
)
def test_a_file_of_no_use_is_refused_with_what_is_wrong(
    text: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "cut.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="cut_file") as refused:
        read_birth_cut(path, "us-east")
    assert said in str(refused.value)


def test_the_file_and_the_option_add_up(tmp_path: Path) -> None:
    path = tmp_path / "cut.yaml"
    path.write_text(CUT)
    told = {"region": "us-west", "swarm": "s", "plaintext": True, "cut_file": str(path)}
    assert born_into(build(told)) == BirthCut(["us-east"], 4_000_000_000_000)
    config = configuration.agent_config(build({**told, "drop_regions": ["eu-central"]}), 1)
    assert (config.drop_regions, config.drop_expires_ms) == (["eu-central", "us-east"], None)


async def test_an_agent_says_that_it_was_born_into_its_cut() -> None:
    async with running(config_of("a", drop_regions=["us-west"])) as agent:
        assert agent.drops.by == CONFIGURED
        assert agent.drops.inbound == {"us-west"}
    async with running(config_of("b")) as agent:
        assert not agent.drops
        assert agent.drops.by is None


def test_lifting_never_cuts_anything_off() -> None:
    east = frozenset({"us-east"})
    drops = DropList(east | {"us-west"}, east, None, CONFIGURED)
    left = drops.within(["us-east", "eu-central"], 9)
    assert left == DropList(east, east, 9, CONFIGURED)
    assert drops.within([], None) == DropList()
