"""``python -m gossipswarm_simulator``: the scaling table, in virtual time."""

from __future__ import annotations

import argparse
import json
import sys

from gossipswarm_agent.core.settings import InvalidSetting, Settings, merge
from gossipswarm_simulator.network import HOME, WAN
from gossipswarm_simulator.scaling import Spreading, measure

_COLUMNS = (
    ("agents", "Agents", "{}"),
    ("rounds", "Rounds", "{}"),
    ("threshold_ms", "To threshold", "{:.1f} ms"),
    ("full_ms", "To every agent", "{:.1f} ms"),
    ("messages", "Messages a write", "{:.0f}"),
    ("bytes", "Bytes a write", "{:.0f}"),
    ("detection_ms", "Cut known to all", "{:.0f} ms"),
    ("heal_ms", "Healed", "{:.0f} ms"),
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gossipctl simulate",
        description="Run the agents' own protocol core in virtual time and print how one write spreads.",
        epilog="The same seed gives the same figures, on any machine.",
    )
    parser.add_argument(
        "--agents", default="10,50,150,500", help="sizes, comma separated (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of the run (default: %(default)s)"
    )
    parser.add_argument(
        "--writes", type=int, default=5, help="writes to take the median of (default: %(default)s)"
    )
    parser.add_argument("--loss", type=float, default=0.0, help="share of datagrams lost, 0 to 0.5")
    parser.add_argument(
        "--wan", action="store_true", help="20 ms between regions instead of 0.3 ms"
    )
    parser.add_argument("--partition", action="store_true", help="also time a cut and its healing")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a gossip parameter"
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    return parser


def _settings(pairs: list[str]) -> Settings:
    changes = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            changes[name] = json.loads(text)
        except ValueError:
            changes[name] = text
    return merge(Settings(), changes)


def _line(row: Spreading) -> str:
    cells = []
    for name, title, form in _COLUMNS:
        value = getattr(row, name)
        if value is not None:
            cells.append(form.format(value).rjust(len(title)))
    return "  ".join(cells)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; exit code 2 on unusable arguments."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        sizes = [int(size) for size in options.agents.split(",")]
        settings = _settings(options.set)
    except (ValueError, InvalidSetting) as error:
        parser.error(str(error))
    if not sizes or min(sizes) < 3 or max(sizes) > 10_000:
        parser.error("--agents takes sizes from 3 to 10000, such as 10,50,150")
    if not 0 <= options.loss <= 0.5:
        parser.error("--loss is a share from 0 to 0.5")
    if options.writes < 1:
        parser.error("--writes must be at least 1")
    rows = []
    if options.output == "table":
        titles = [
            title
            for name, title, _ in _COLUMNS
            if options.partition or name not in ("detection_ms", "heal_ms")
        ]
        print("  ".join(titles), flush=True)
    for size in sizes:
        row = measure(
            size,
            options.seed,
            settings,
            writes=options.writes,
            away=WAN if options.wan else HOME,
            loss=options.loss,
            partition=options.partition,
        )
        rows.append(row)
        if options.output == "table":
            print(_line(row), flush=True)
    if options.output == "json":
        print(json.dumps([row.as_dict() for row in rows], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
