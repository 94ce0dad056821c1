"""The policies of cuts, against golden files, and which regions hear each other.

Write them anew with ``python tests/test_operator_partition_policies.py``, and read the difference.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from gossipswarm_operator import model, names
from gossipswarm_operator.builders.cuts import cut_config_map
from gossipswarm_operator.builders.policies import network_policy
from gossipswarm_operator.builders.ports import MOST_LISTED, RANGES, listed
from gossipswarm_operator.partition.model import InvalidPartition, SwarmPartition, parse
from gossipswarm_operator.partition.policies import side_policies
from gossipswarm_operator.partition.severing import combined, described, refusal, sides
from gossipswarm_operator.partition.status import remaining
from operator_world import START, swarm_source

GOLDEN = Path(__file__).parent / "golden" / "operator"
REGIONS = ("eu-central", "us-east", "us-west")


def partition(name: str = "drill", *groups: list[str], **spec: Any) -> SwarmPartition:
    return parse(
        {
            "apiVersion": "gossipswarm.io/v1alpha1",
            "kind": "SwarmPartition",
            "metadata": {"name": name, "namespace": "prod", "uid": f"uid-{name}"},
            "spec": {
                "swarmRef": {"name": "demo"},
                "groups": [list(g) for g in groups or [["us-east"]]],
                **spec,
            },
            "status": {"appliedAt": "2026-01-01T00:00:00.000Z"},
        }
    )


CUTS = {
    "cut": [partition("drill", ["us-east"], ["us-west", "eu-central"], duration="5m")],
    "cut-pair": [partition("pair", ["us-east"], ["us-west"], transit="Enabled")],
    "cut-twice": [
        partition("first", ["us-east"]),
        partition("second", ["us-west"], duration="1h"),
    ],
    "cut-explicit": [partition("drill", ["us-east"])],
}
PORTS = {"cut-explicit": listed(["53/UDP", "53/TCP", "443"])}


def objects(name: str) -> list[dict[str, Any]]:
    found = CUTS[name]
    swarm = model.parse(swarm_source(regions=[{"name": region} for region in REGIONS]))
    cut, ports = combined(found, REGIONS), PORTS.get(name, RANGES)
    policed = cut.for_policies()
    return [
        cut_config_map(swarm, cut),
        *(network_policy(swarm, region, policed, REGIONS, ports) for region in REGIONS),
        *(b for p in found for b in side_policies(swarm, p, policed, REGIONS, ports)),
    ]


def dumped(name: str) -> str:
    return yaml.safe_dump_all(objects(name), sort_keys=False, width=120)


@pytest.mark.parametrize("name", CUTS)
def test_a_cut_is_what_it_is_to_be(name):
    assert dumped(name) == (GOLDEN / f"{name}.yaml").read_text("utf-8")


def test_the_example_is_a_cut_of_the_swarm_of_the_quickstart():
    examples = Path(__file__).parent.parent / "examples"
    source, swarm = (
        yaml.safe_load((examples / name).read_text("utf-8"))
        for name in ("partition.yaml", "quickstart.yaml")
    )
    source["metadata"] |= {"namespace": "prod", "uid": "u"}
    found = parse(source)
    assert found.swarm == swarm["metadata"]["name"]
    assert refusal(found, [region["name"] for region in swarm["spec"]["regions"]]) is None


@pytest.mark.parametrize(
    ("ports", "said"),
    [
        (["dns"], "'dns' is no port such as 443/TCP"),
        (["443/HTTP"], "'443/HTTP' is no port"),
        (["0"], "'0' is no port"),
        (["65536"], "'65536' is no port"),
        (["7600/UDP"], "7600/UDP is the port of gossip"),
        ([str(port) for port in range(1, MOST_LISTED + 2)], "33 ports are listed, of at most 32"),
    ],
)
def test_ports_that_cannot_be_listed_are_refused_with_the_reason(ports, said):
    with pytest.raises(ValueError, match=said):
        listed(ports)


def test_names_of_policies_are_never_those_of_a_region_and_never_too_long():
    assert names.cut_policy("demo", "drill", "us-east") == "demo.drill.us-east"
    long = names.cut_policy("s" * 63, "p" * 253, "r" * 40)
    assert len(long) == 253
    assert long != names.cut_policy("s" * 63, "p" * 252, "r" * 40)
    assert len(names.label_value("p" * 253)) == 63


def test_regions_that_the_swarm_does_not_have_any_more_are_in_no_side():
    assert sides(partition("drill", ["us-east", "ap"]), REGIONS) == [
        ("us-east",),
        ("eu-central", "us-west"),
    ]


def test_a_region_that_is_new_is_on_the_side_of_those_that_are_not_named():
    assert described(partition(), [*REGIONS, "zz"]) == "us-east | eu-central,us-west,zz"


def test_a_cut_without_an_end_has_none_whatever_others_have():
    ends = START + timedelta(minutes=5)
    assert combined(CUTS["cut"], REGIONS).until == ends
    assert combined(CUTS["cut-twice"], REGIONS).until is None


def test_agents_alone_need_no_policies():
    cut = combined([partition(mechanism="Agent")], REGIONS)
    assert cut.beyond("us-east") == ("eu-central", "us-west")
    assert not cut.for_policies()


@pytest.mark.parametrize(
    ("groups", "reason"),
    [([["us-west"]], None), ([["us-eats"]], "UnknownRegion"), ([list(REGIONS)], "NothingToCut")],
)
def test_what_makes_no_sense_is_refused_with_its_reason(groups, reason):
    found = refusal(partition("drill", *groups), REGIONS)
    assert (found and found[0]) == reason


def test_a_cut_lives_from_its_application_to_its_end():
    found = partition(duration="1m")
    assert found.is_live(START)
    assert not found.is_live(START + timedelta(minutes=1))
    with pytest.raises(InvalidPartition, match=r"spec\.duration"):
        partition(duration="soon")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (3, "5s"), (61, "1m30s"), (270, "4m30s"), (601, "15m"), (7_000, "2h")],
)
def test_what_remains_is_told_in_steps(seconds, text):
    assert remaining(timedelta(seconds=seconds)) == text


if __name__ == "__main__":
    for each in CUTS:
        (GOLDEN / f"{each}.yaml").write_text(dumped(each), encoding="utf-8")
