"""What a cut between regions does: who notices when, what is written meanwhile, and how it heals."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bench.report import Result, Table, ms
from bench.swarms import REGIONS, Measured, evenly, swarm, until
from gossipctl.backend import Agent

SIDES = (("us-east",), ("us-west", "eu-central"))
SHORTENED = 20
"""The long cut's membership timeouts are this many times shorter, which makes it this many times longer."""


def run(*, quick: bool) -> Result:
    """A region cut off for 30 s, one link cut, and a cut that outlasts every membership timeout."""
    agents, hold = (12, 2.0) if quick else (150, 30.0)
    with swarm(evenly(agents), max_agents=agents) as measured:
        split = _split(measured, hold)
        pair = _pair(measured, min(hold, 10.0))
    short = {"probe_interval": 500 // SHORTENED, "suspicion_timeout": 850 // SHORTENED}
    with swarm(evenly(agents), max_agents=agents, settings=short) as measured:
        long = _split(measured, hold)
    return Result(
        name="partition",
        title=f"Cutting {agents} agents apart",
        method=f"""
{agents} agents in three regions on one machine. A cut makes agents drop the frames of the other side, at both ends.
*Detected* counts from the cut to the moment at which an agent itself declared it; *healed and equal* from the end
of the cut until all agents have the same state hash. During the cut both sides write: one key on both sides, and
keys of their own every 100 ms. Afterwards every acknowledged write must be on every agent, or be in its conflict
history beside the one that won.""",
        tables=[_cut_table(split, long, hold), _pair_table(pair)],
        figures={"agents": agents, "split": split, "pair": pair, "long": long},
    )


def _split(measured: Measured, hold: float) -> dict[str, Any]:
    writers = {side[0]: measured.agent(f"{side[0]}-1") for side in SIDES}
    east, west = writers.values()
    ledger = _Ledger()
    ledger.write(east, "bench.contested", "before")
    until(measured.agree, 20.0, "all agents hold the first write")
    measured.request("partition", group1=list(SIDES[0]), group2=list(SIDES[1]))
    until(_noticed(measured, "detection"), 20.0, "every agent has noticed the cut", every=0.1)
    groups = measured.request("partition-status")["detection"]["groups"]
    ledger.write(east, "bench.contested", "east")
    ledger.write(west, "bench.contested", "west")
    ends = time.monotonic() + hold
    while time.monotonic() < ends:
        number = len(ledger.written)
        ledger.write(east, f"bench.east.{number}", number)
        ledger.write(west, f"bench.west.{number}", number)
        time.sleep(0.1)
    dead = sum(
        member.status in ("dead", "left")
        for writer in writers.values()
        for member in writer.members()
    )
    measured.request("heal")
    healed = time.monotonic()
    until(lambda: _equal(measured), 60.0, "all agents hold the same")
    equal_ms = (time.monotonic() - healed) * 1000
    until(measured.agree, 10.0, "all agents have the same history")
    winner, lost = ledger.account(measured.agents())
    return {
        "detected_ms": {
            ",".join(group["regions"]): [group["first_ms"], group["last_ms"]] for group in groups
        },
        "healed_and_equal_ms": round(equal_ms, 1),
        "acknowledged": len(ledger.written),
        "winner": winner,
        "lost": lost,
        "declared_dead": dead,
    }


def _pair(measured: Measured, hold: float) -> dict[str, Any]:
    """Only the direct link between two regions is cut: the third one passes everything on."""
    east, west = measured.agent("us-east-1"), measured.agent("us-west-1")
    measured.request("partition", pair=["us-east", "us-west"])
    most_groups, longest_ms, number = 1, 0.0, 0
    ends = time.monotonic() + hold
    while time.monotonic() < ends:
        number += 1
        begun = time.monotonic()
        east.set("bench.pair", number)
        until(
            _reads(west, "bench.pair", number),
            20.0,
            "the write arrives by way of the third region",
            0.002,
        )
        longest_ms = max(longest_ms, (time.monotonic() - begun) * 1000)
        for agent in (east, west):
            most_groups = max(most_groups, len(agent.partition().groups))
        time.sleep(0.25)
    links = {region.name: region.links for region in east.regions()}
    measured.request("heal")
    until(measured.agree, 20.0, "all agents hold the same")
    return {
        "writes": number,
        "most_groups": most_groups,
        "slowest_across_ms": round(longest_ms, 1),
        "link": links["us-east"].get("us-west"),
    }


class _Ledger:
    """What was acknowledged, to be asked for again everywhere."""

    def __init__(self) -> None:
        self.written: list[tuple[str, Any]] = []

    def write(self, agent: Agent, key: str, value: Any) -> None:
        agent.set(key, value)
        self.written.append((key, value))

    def account(self, agents: list[Agent]) -> tuple[Any, int]:
        """The value that won the contested key, and how many writes some agent cannot account for."""
        newest = dict(self.written)
        missing: set[str] = set()
        winners = set()
        for agent in agents:
            held = agent.get("bench").value
            history = {(each.key, each.losing_value) for each in agent.conflicts().history}
            winners.add(held["contested"])
            for key, value in newest.items():
                _, side, *rest = key.split(".")
                if rest and held[side].get(rest[0]) != value:
                    missing.add(key)
            for value in ("east", "west"):
                if held["contested"] != value and ("bench.contested", value) not in history:
                    missing.add(f"bench.contested={value}")
        assert len(winners) == 1, f"agents disagree: {winners}"
        return winners.pop(), len(missing)


def _noticed(measured: Measured, what: str) -> Callable[[], bool]:
    def noticed() -> bool:
        summary = measured.request("partition-status")[what]
        return bool(summary["agents"] == summary["of"])

    return noticed


def _equal(measured: Measured) -> bool:
    return bool(measured.request("converged", threshold=1.0)["converged"])


def _reads(agent: Agent, key: str, value: Any) -> Callable[[], bool]:
    def reads() -> bool:
        found = agent.find(key)
        return found is not None and found.value == value

    return reads


def _cut_table(split: dict[str, Any], long: dict[str, Any], hold: float) -> Table:
    columns = (split, long)
    rows = [
        (
            f"noticed by the agents of {regions}, first to last",
            *(" to ".join(ms(value) for value in each["detected_ms"][regions]) for each in columns),
        )
        for regions in split["detected_ms"]
    ]
    for what, name in (
        ("acknowledged writes", "acknowledged"),
        ("of them lost", "lost"),
        ("agents declared dead", "declared_dead"),
        ("winner of the contested key (the later one was `west`)", "winner"),
    ):
        rows.append((what, *(str(each[name]) for each in columns)))
    rows.append(("healed and equal", *(ms(each["healed_and_equal_ms"]) for each in columns)))
    headings = (
        f"{REGIONS[0]} cut off for {hold:g} s",
        "default timeouts",
        f"membership timeouts / {SHORTENED}, as if {hold * SHORTENED / 60:.0f} minutes",
    )
    return Table(headings, rows)


def _pair_table(pair: dict[str, Any]) -> Table:
    rows = [
        ("the direct link, as the agents see it", str(pair["link"])),
        ("groups that any agent saw", str(pair["most_groups"])),
        ("writes that crossed by way of the third region", str(pair["writes"])),
        ("slowest of them, with the HTTP requests that watched it", ms(pair["slowest_across_ms"])),
    ]
    return Table(("only the link us-east to us-west cut", ""), rows)
