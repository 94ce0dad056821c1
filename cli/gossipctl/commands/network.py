"""gossipctl network: cuts between regions, made on purpose."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

from gossipctl import durations, output
from gossipctl.command import Command, Invocation, no_arguments
from gossipctl.failures import UsageError
from gossipctl.parser import Parser, duration, names
from gossipswarm_client.results import Region


def _partition_arguments(parser: Parser) -> None:
    parser.flag("--group1", type=names, metavar="A,B,...", help="regions of one side")
    parser.flag("--group2", type=names, metavar="A,B,...", help="regions of the other side")
    parser.flag("--groups", metavar="'A,B|C|...'", help="regions of any number of sides")
    parser.flag("--one-way", metavar="A:B", help="what A sends no longer reaches B")
    parser.flag(
        "--pair", metavar="A:B", help="only the link between two regions; others still pass on"
    )
    parser.flag(
        "--duration",
        type=duration,
        metavar="DURATION",
        help="when it ends by itself, such as 30s (default: never)",
    )


def _partition(invocation: Invocation) -> None:
    request = _sides(invocation)
    if invocation.flags.duration is not None:
        request["duration_ms"] = invocation.flags.duration
    result = invocation.swarm.request("partition", **request)
    if invocation.output.wants_json:
        invocation.output.json(result)
        return
    lasting = "until network heal-partition"
    if invocation.flags.duration is not None:
        lasting = f"for {durations.show(invocation.flags.duration)}"
    invocation.output.line(f"network partitioned {lasting}: {_drawn(request)}")


def _sides(invocation: Invocation) -> dict[str, Any]:
    flags = invocation.flags
    given = [
        name
        for name, value in (
            ("--group1/--group2", flags.group1 or flags.group2),
            ("--groups", flags.groups),
            ("--one-way", flags.one_way),
            ("--pair", flags.pair),
        )
        if value
    ]
    if len(given) != 1:
        what = f"{' and '.join(given)} exclude each other" if given else "who is cut off from whom?"
        raise UsageError(what, "for example: --group1 us-east --group2 us-west,eu-central")
    if flags.groups:
        return {"groups": [_side("--groups", part) for part in flags.groups.split("|")]}
    if flags.one_way:
        first, second = _two("--one-way", flags.one_way)
        return {
            "group1": _side("--one-way", first),
            "group2": _side("--one-way", second),
            "one_way": True,
        }
    if flags.pair:
        return {"pair": list(_two("--pair", flags.pair))}
    sides = {"group1": flags.group1, "group2": flags.group2}
    return {name: side for name, side in sides.items() if side}


def _side(flag: str, text: str) -> list[str]:
    try:
        return names(text)
    except ArgumentTypeError as error:
        example = "for example: --group1 us-east --group2 us-west,eu-central"
        raise UsageError(f"{flag}: {error}", example) from None


def _two(flag: str, text: str) -> tuple[str, str]:
    first, colon, second = text.partition(":")
    if not colon or not first or not second:
        raise UsageError(
            f"{flag}: {text!r} is not two regions", f"for example: {flag} us-east:us-west"
        )
    return first, second


def _drawn(request: dict[str, Any]) -> str:
    if "pair" in request:
        return " x ".join(request["pair"])
    sides = request.get("groups") or [
        request[name] for name in ("group1", "group2") if name in request
    ]
    if len(sides) == 1:
        sides = [*sides, ["everyone else"]]
    return (" -> " if request.get("one_way") else " | ").join(",".join(side) for side in sides)


def _status_arguments(parser: Parser) -> None:
    parser.switch("--verbose", "-v", help="also what each agent drops, and when it noticed")


def _status(invocation: Invocation) -> None:
    swarm, out = invocation.swarm, invocation.output
    status = swarm.request("partition-status")
    agents = status.pop("agents")
    status["history"] = _history(invocation) if agents else []
    if invocation.flags.verbose:
        status["agents"] = agents
    if not out.human:
        out.json(status)
        return
    show_partition(out, status)
    if invocation.flags.verbose:
        out.line()
        out.table(
            ("agent", "region", "drops from", "drops to", "dropped", "detected", "healed"),
            [
                [
                    *(agent[name] for name in ("name", "region", "inbound", "outbound", "dropped")),
                    _ms(agent["detected_ms"]),
                    _ms(agent["healed_ms"]),
                ]
                for agent in agents
            ],
        )


def _history(invocation: Invocation) -> list[dict[str, Any]]:
    """Past partitions as one agent remembers them."""
    return list(invocation.swarm.agent().partition().history)


def show_partition(out: output.Output, status: dict[str, Any]) -> None:
    """Cuts, groups and past partitions, to read."""
    groups = " | ".join(",".join(group) for group in status["groups"])
    out.document({"status": status["status"], "groups": groups} | _noticed(status))
    if status["cuts"]:
        out.line()
        out.table(
            ("cut", "kind", "sides", "since", "ends in"),
            [
                [
                    cut["id"],
                    cut["kind"],
                    " | ".join(",".join(side) for side in cut["groups"]),
                    cut["started_at"],
                    _ms(cut["remaining_ms"]) or "when healed",
                ]
                for cut in status["cuts"]
            ],
        )
    if status["history"]:
        out.line()
        out.table(
            ("past partition", "until", "regions", "detected", "healed", "conflicts"),
            [
                [
                    each["partition_start"],
                    each["partition_end"] or "now",
                    each["affected_regions"],
                    _ms(each["detection_ms"]),
                    _ms(each["healing_time_ms"]),
                    each["conflicts_resolved"],
                ]
                for each in status["history"]
            ],
        )


def _noticed(status: dict[str, Any]) -> dict[str, str]:
    """Who enforces the cut, and who has noticed it by itself and how fast."""
    if not status["cuts"]:
        return {}
    enforced, detection = status["enforced"], status["detection"]
    times = [group["last_ms"] for group in detection["groups"] if group["last_ms"] is not None]
    within = f", the last after {durations.show(max(times))}" if times else ""
    return {
        "enforced": f"by {enforced['agents']} of {enforced['of']} agents",
        "detected": f"by {detection['agents']} of {detection['of']} agents{within}",
    }


def _ms(value: float | None) -> str | None:
    return None if value is None else durations.show(value)


def _heal(invocation: Invocation) -> None:
    result = invocation.swarm.request("heal")
    if invocation.output.wants_json:
        invocation.output.json(result)
        return
    if result.get("healed"):
        invocation.output.line("network healed: every region reaches every other again")
    else:
        invocation.output.line(
            "nothing to heal: no partition is in force (one with a duration ends by itself)"
        )


def _verify(invocation: Invocation) -> int:
    asked: dict[str, dict[str, Region]] = {}
    for agent in invocation.swarm.agents():
        if agent.region not in asked:
            asked[agent.region] = {region.name: region for region in agent.regions()}
    rows = [
        {"from": name, "to": other, "link": state}
        for name, regions in sorted(asked.items())
        for other, state in sorted(regions[name].links.items())
    ]
    down = [row for row in rows if row["link"] != "up"]
    if invocation.output.wants_json:
        invocation.output.json({"connected": not down, "links": rows})
    else:
        invocation.output.records(rows, {"from": "from", "to": "to", "link": "link"})
    if down:
        output.complain(
            f"{len(down)} of {len(rows)} links are down",
            "see gossipctl network partition-status; end a partition with: gossipctl network heal-partition",
        )
        return 1
    output.note(f"all {len(rows)} links between {len(asked)} regions are up")
    return 0


COMMANDS = {
    "partition": Command(
        _partition,
        _partition_arguments,
        """Cut regions off from each other: their agents drop each other's packets. Returns when the cut is in
        force everywhere; agents notice it by themselves within half a second.

        Regions that are not named form one more side. --one-way and --pair cut single links, so that other
        regions still pass everything on.

        In a cluster it creates a SwarmPartition and waits until that is enforced; there is no --one-way there.""",
        (
            "network partition --group1 us-east --group2 us-west,eu-central --duration 30000",
            "network partition --groups 'us-east|us-west|eu-central' --duration 1m",
            "network partition --pair us-east:us-west",
        ),
    ),
    "partition-status": Command(
        _status,
        _status_arguments,
        "Show which regions reach each other, the cuts in force and past partitions.",
        ("network partition-status", "network partition-status -o json"),
    ),
    "heal-partition": Command(
        _heal,
        no_arguments,
        """End every cut. If none is in force, because its duration is over, it says so and that is all. In a
        cluster it works without the operator, too.""",
        ("network heal-partition",),
    ),
    "verify-connectivity": Command(
        _verify,
        no_arguments,
        """Ask one agent of every region which other regions it hears, in both directions. Exits with 1 if any
        link is down.""",
        ("network verify-connectivity",),
    ),
}
