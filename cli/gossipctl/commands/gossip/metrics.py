"""gossipctl gossip metrics."""

from __future__ import annotations

from typing import Any

from gossipctl import output, progress, rounds, traces
from gossipctl.backend import Agent
from gossipctl.command import Command, Invocation
from gossipctl.exposition import PREFIX, Family, collect, distributions, resolve
from gossipctl.failures import CommandFailed, UsageError
from gossipctl.parser import Parser
from gossipctl.suggest import did_you_mean

CONVERGENCE = "convergence-rate"
SUMMED = ("counter", "histogram", "summary")


def _arguments(parser: Parser) -> None:
    parser.flag(
        "--metric",
        metavar="NAME",
        help=f"{CONVERGENCE}, or a metric of the agents (default: list them all)",
    )
    parser.flag("--agent", metavar="NAME", help="only this agent (default: all, added up)")
    parser.formats = ("json", "table", "wide", "prometheus")


def _metrics(invocation: Invocation) -> None:
    flags, out = invocation.flags, invocation.output
    if flags.metric and flags.metric.replace("_", "-") == CONVERGENCE:
        trace = traces.required(invocation.swarm, flags.agent, None)
        if out.wants_json:
            out.json(trace.convergence)
        else:
            out.line(rounds.text(trace.convergence))
        return
    pages = _pages(invocation)
    families = collect(pages)
    if flags.metric is None:
        _overview(invocation, families, pages)
        return
    name = resolve(flags.metric, families)
    if name is None:
        raise UsageError(
            f"no metric {flags.metric!r}",
            did_you_mean(
                flags.metric,
                [CONVERGENCE, *(each.removeprefix(PREFIX) for each in families)],
                otherwise="list them with: gossipctl gossip metrics",
            ),
        )
    if out.format == "prometheus":
        wanted = [line for page in pages for line in page.splitlines() if _is_of(line, name)]
        out.line("\n".join(dict.fromkeys(wanted)))
        return
    _show(invocation, families[name])


def _is_of(line: str, name: str) -> bool:
    words = line.split(" ")
    subject = words[2] if line.startswith("# ") else words[0].partition("{")[0]
    return subject == name or (
        subject.startswith(name)
        and subject.removeprefix(name) in ("_bucket", "_sum", "_count", "_total")
    )


def _pages(invocation: Invocation) -> list[str]:
    def page(agent: Agent) -> str:
        return agent.metrics()

    if invocation.flags.agent:
        return [page(invocation.swarm.agent(invocation.flags.agent))]
    from gossipctl.fan_out import ask

    agents = invocation.swarm.agents()
    pages = []
    with progress.Progress("reading metrics", len(agents)) as bar:
        for agent, answer in ask(agents, page):
            bar.advance()
            if isinstance(answer, CommandFailed):
                output.warn(f"{agent.name} is missing: {answer.message}")
            else:
                pages.append(answer)
    return pages


def _overview(invocation: Invocation, families: dict[str, Family], pages: list[str]) -> None:
    out = invocation.output
    if out.format == "prometheus":
        if len(pages) != 1:
            raise UsageError(
                "-o prometheus without --metric needs --agent", "one page is one agent's"
            )
        out.line(pages[0].rstrip())
        return
    items = [
        {
            "metric": _short(out, family.name),
            "type": family.kind,
            "value": _headline(family),
            "meaning": family.explained,
        }
        for family in families.values()
    ]
    out.records(
        sorted(items, key=lambda item: str(item["metric"])),
        {"metric": "metric", "type": "type", "value": "value", "meaning": "meaning"},
    )


def _short(out: output.Output, name: str) -> str:
    """A metric's name, without what all have in common where a person reads it."""
    return name.removeprefix(PREFIX) if out.human else name


def _headline(family: Family) -> float | str:
    """One figure for a whole metric: sums of counters, and of gauges what a typical agent has."""
    if family.kind == "histogram":
        observed = sum(
            sum(values)
            for (sample, _), values in family.samples.items()
            if sample.endswith("_count")
        )
        return f"{observed:g} observed"
    if family.kind in SUMMED:
        return _number(sum(map(sum, family.samples.values())))
    return _number(sum(sum(values) / len(values) for values in family.samples.values()))


def _show(invocation: Invocation, family: Family) -> None:
    out = invocation.output
    series: list[dict[str, Any]] = [
        {
            "metric": sample,
            "labels": dict(labels),
            **_combined(family.kind, values),
        }
        for (sample, labels), values in family.samples.items()
    ]
    if out.wants_json:
        out.json(
            {"name": family.name, "type": family.kind, "help": family.explained, "series": series}
        )
        return
    if out.human:
        output.note(f"{family.name} ({family.kind}): {family.explained}")
    if not series:
        output.note("nothing has been counted yet")
        return
    if family.kind == "histogram" and out.format != "wide":
        _show_histogram(out, family)
        return
    figures = ["value"] if family.kind in SUMMED else ["mean", "min", "max"]
    rows = [
        [
            _short(out, each["metric"]),
            _shown(each["labels"]),
            *(each[name] for name in figures),
        ]
        for each in series
    ]
    out.table(["metric", "labels", *figures], rows)


def _show_histogram(out: output.Output, family: Family) -> None:
    """By labels: how many were observed, their mean and quantiles. The buckets are in -o wide."""
    rows = [
        [
            _shown(dict(each.labels)) or "all",
            _number(each.observed),
            each.mean,
            *(_at_most(each.quantile(share)) for share in (0.5, 0.95, 0.99)),
        ]
        for each in distributions(family)
    ]
    out.table(["labels", "observed", "mean", "p50", "p95", "p99"], rows)


def _at_most(bound: float | None) -> str | None:
    return None if bound is None else f"≤{bound:g}"


def _shown(labels: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in labels.items())


def _combined(kind: str, values: list[float]) -> dict[str, float]:
    if kind in SUMMED:
        return {"value": _number(sum(values))}
    return {
        "mean": _number(sum(values) / len(values)),
        "min": _number(min(values)),
        "max": _number(max(values)),
    }


def _number(value: float) -> float:
    return int(value) if value == value // 1 and abs(value) < 1e15 else round(value, 6)


COMMANDS = {
    "metrics": Command(
        _metrics,
        _arguments,
        f"""Show how the newest write spread, round by round ({CONVERGENCE}), or any metric of the agents by its
        Prometheus name, with or without the prefix gossipswarm_. Counters and histograms of all agents are added
        up; of gauges there are mean, least and greatest. Without --metric: a list of all.""",
        (
            f"gossip metrics --metric {CONVERGENCE}",
            "gossip metrics --metric conflicts_total",
            "gossip metrics --metric convergence_seconds -o json",
        ),
    ),
}
