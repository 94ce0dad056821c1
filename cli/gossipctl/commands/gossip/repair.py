"""gossipctl gossip anti-entropy, degraded-mode."""

from __future__ import annotations

from typing import Any

from gossipctl import durations, output, progress
from gossipctl.backend import Agent
from gossipctl.command import Command, Invocation
from gossipctl.failures import CommandFailed, UsageError
from gossipctl.parser import Parser, duration

COLUMNS = {
    "agent": "agent",
    "peer": "peer",
    "buckets_different": "differences",
    "rows_received": "received",
    "rows_sent": "sent",
    "dropped": "dropped",
    "took": "took",
}


def _entropy_arguments(parser: Parser) -> None:
    parser.switch("--immediate", help="now rather than at the next interval: always so")
    parser.switch("--force", help="in full, even where version vectors are equal: always so")
    parser.switch("--all-agents", help="every agent (default: one of each region)")
    parser.flag("--agent", metavar="NAME", help="only this agent")
    parser.flag("--peer", metavar="NAME", help="with this one (default: a random one)")
    parser.flag(
        "--timeout",
        type=duration,
        default=30_000,
        metavar="DURATION",
        help="how long one may take (default 30s)",
    )


def _anti_entropy(invocation: Invocation) -> int:
    flags = invocation.flags
    if flags.agent and flags.all_agents:
        raise UsageError("--agent and --all-agents exclude each other")
    agents = [invocation.swarm.agent(flags.agent)] if flags.agent else invocation.swarm.agents()
    if not flags.all_agents:
        agents = list({agent.region: agent for agent in agents}.values())

    def compare(agent: Agent) -> dict[str, Any]:
        return dict(agent.anti_entropy(flags.peer, timeout=flags.timeout / 1_000).raw)

    from gossipctl.fan_out import ask

    reports, failures = [], []
    with progress.Progress("comparing", len(agents)) as bar:
        for agent, answer in ask(agents, compare):
            bar.advance()
            if isinstance(answer, CommandFailed):
                failures.append((agent.name, answer.message))
            else:
                took = durations.show(answer["duration_ms"])
                reports.append(
                    {"agent": agent.name, "region": agent.region, **answer, "took": took}
                )
    return _report(invocation, sorted(reports, key=lambda report: str(report["agent"])), failures)


def _report(
    invocation: Invocation, reports: list[dict[str, Any]], failures: list[tuple[str, str]]
) -> int:
    out = invocation.output
    if out.wants_json:
        out.json(
            [{name: value for name, value in each.items() if name != "took"} for each in reports]
        )
    else:
        out.records(reports, COLUMNS, {"region": "region", "buckets_compared": "compared"})
    if out.human:
        repaired = sum(each["rows_received"] for each in reports)
        dropped = sum(each["dropped"] for each in reports)
        output.note(
            f"{len(reports)} agents compared: {repaired} rows repaired, {dropped} dropped"
            if repaired or dropped
            else f"{len(reports)} agents compared: all agree"
        )
    if failures:
        names = ", ".join(f"{name} ({why})" for name, why in failures[:3])
        more = f" and {len(failures) - 3} more" if len(failures) > 3 else ""
        output.complain(f"{len(failures)} agents could not compare: {names}{more}", None)
        return 1
    return 0


def _degraded_arguments(parser: Parser) -> None:
    parser.switch("--enable", help="refuse writes")
    parser.switch("--disable", help="take writes again")
    parser.flag("--agent", metavar="NAME", help="only this agent (default: the swarm)")


def _degraded(invocation: Invocation) -> None:
    flags = invocation.flags
    if flags.enable and flags.disable:
        raise UsageError("--enable and --disable exclude each other")
    swarm = invocation.swarm
    if not (flags.enable or flags.disable):
        degraded = swarm.agent(flags.agent).agent().degraded
    elif flags.agent:
        degraded = swarm.agent(flags.agent).degraded_mode(flags.enable, scope="agent")
    else:
        degraded = swarm.set_degraded(enabled=flags.enable)
    where = flags.agent or swarm.name
    if invocation.output.wants_json:
        invocation.output.json({"degraded": degraded, "of": where})
        return
    state = (
        "read-only: reads are served, writes are refused" if degraded else "takes reads and writes"
    )
    invocation.output.line(f"{where} {state}" if not degraded else f"{where} is {state}")


COMMANDS = {
    "anti-entropy": Command(
        _anti_entropy,
        _entropy_arguments,
        """Have agents compare everything they hold with a peer, by hash tree, and repair what differs. It runs
        by itself at an interval; this is for now. Reports what each agent found.""",
        ("gossip anti-entropy --immediate", "gossip anti-entropy --force --all-agents"),
    ),
    "degraded-mode": Command(
        _degraded,
        _degraded_arguments,
        """Refuse writes with 503 and go on serving reads, in the whole swarm or at one agent. Without a flag it
        shows which it is.""",
        ("gossip degraded-mode --enable", "gossip degraded-mode --disable"),
    ),
}
