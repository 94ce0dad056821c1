"""How a write spreads, hop by hop: the textbook's rounds beside what agents do by default."""

from __future__ import annotations

import time
from typing import Any

from bench.report import Result, Table, ms
from bench.swarms import Measured, convergence, evenly, swarm

PAUSE = 0.2
"""Seconds between two writes, so that the path for busy times is not taken."""
MODES: dict[str, dict[str, Any]] = {
    "default": {"eager": True, "mode": "push-pull"},
    "textbook": {"eager": False, "mode": "push-pull", "interval": 100, "fanout": 3},
}


def run(*, quick: bool) -> Result:
    """A few writes in each mode, at 150 and at 211 agents."""
    sizes = (12,) if quick else (150, 211)
    writes = 3 if quick else 15
    tables, figures = [], {}
    for agents in sizes:
        with swarm(evenly(agents), max_agents=agents) as measured:
            for mode, settings in MODES.items():
                measured.configure(**settings)
                reports = [_one(measured, number) for number in range(writes)]
                table, summary = _summary(agents, mode, reports)
                tables.append(table)
                figures[f"{agents}_{mode}"] = summary
    return Result(
        name="rounds",
        title="A write's spread, round by round",
        method=f"""
{writes} writes at one agent in each mode, each awaited everywhere; the table is the write with the median number of
rounds. *Default*: agents forward on receipt, so a round is a hop and lasts as long as a datagram takes. *Textbook*
(`gossip config --eager false --mode push-pull`): agents tell {MODES["textbook"]["fanout"]} random others on each tick
of {MODES["textbook"]["interval"]} ms, aligned to the wall clock, so a round is a tick.""",
        tables=tables,
        figures=figures,
    )


def _one(measured: Measured, number: int) -> dict[str, Any]:
    agent = measured.agent("us-east-1")
    report = convergence(agent, agent.set("bench.rounds", number, trace=True).dot, 1.0)
    time.sleep(PAUSE)
    return report


def _summary(agents: int, mode: str, reports: list[dict[str, Any]]) -> tuple[Table, dict[str, Any]]:
    middle = sorted(reports, key=lambda each: (len(each["rounds"]), each["full_ms"]))[
        len(reports) // 2
    ]
    rows = [
        (
            str(each["round"]),
            str(each["agents"]),
            f"{each['share']:.2%}",
            ms(each["duration_ms"]),
        )
        for each in middle["rounds"]
    ]
    totals = sorted(each["full_ms"] for each in reports)
    caption = (
        f"## {agents} agents, {mode}\n\n"
        f"On every agent after {ms(totals[len(totals) // 2])} (median), {ms(totals[-1])} at most."
    )
    table = Table(("round", "agents that hold it", "share", "lasted"), rows, caption)
    summary = {
        "rounds": sorted(len(each["rounds"]) for each in reports),
        "full_ms": totals,
        "table": middle["rounds"],
    }
    return table, summary
