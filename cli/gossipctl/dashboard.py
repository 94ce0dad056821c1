"""The live view of ``gossipctl dashboard``. One picture is two questions to the supervisor."""

from __future__ import annotations

import json
import select
import sys
import termios
import threading
import time
import tty
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gossipctl import durations
from gossipctl.backend import Swarm
from gossipctl.live import console
from gossipctl.output import BAD, GOOD
from gossipswarm_client.errors import GossipSwarmError
from gossipswarm_client.results import Change

WRITES = 50
"""Writes remembered; a picture shows as many as fit."""
DOTS = {"active": ("●", "green"), "starting": ("◐", "yellow"), "stopped": ("○", "dim")}


def run(swarm: Swarm, refresh: float) -> None:
    """Show pictures until q, Escape or Ctrl-C; ``refresh`` in seconds."""
    writes = _Writes(swarm)
    with _keys(), Live(console=console(), screen=True, auto_refresh=False) as live:
        writes.start()
        while True:
            live.update(picture(observe(swarm), writes.latest()), refresh=True)
            if _pressed(refresh) in ("q", "Q", "\x1b"):
                return


def observe(swarm: Swarm) -> dict[str, Any]:
    """What one picture shows of the swarm."""
    return {
        "status": swarm.request("status", verbose=True),
        "partition": swarm.request("partition-status"),
        "stats": swarm.stats(),
    }


def picture(seen: Mapping[str, Any], writes: list[Mapping[str, Any]]) -> Layout:
    """The whole screen."""
    regions = len(seen["status"]["regions"])
    page = Layout()
    page.split_column(
        Layout(_head(seen["status"]), size=3),
        Layout(name="middle", size=max(8, regions + 5)),
        Layout(_panel("writes", _writes_table(writes))),
        Layout(Text(" q ends", style="dim"), size=1),
    )
    page["middle"].split_row(
        Layout(_panel("regions", _regions_table(seen)), ratio=3),
        Layout(_panel("network", _network(seen["partition"])), ratio=2),
    )
    return page


def _panel(title: str, content: RenderableType) -> Panel:
    return Panel(content, title=title, title_align="left", box=box.ROUNDED, border_style="dim")


def _coloured(word: str) -> Text:
    style = "green" if word in GOOD else "red" if word in BAD else "yellow"
    return Text(word, style=style)


def _head(status: Mapping[str, Any]) -> Panel:
    active = sum(each["active"] for each in status["agent_counts"].values())
    settings = status["settings"]
    pace = f"fanout {settings.get('fanout', 3)}, every {settings.get('interval', 100)}ms"
    line = Text.assemble(
        (status["swarm_id"], "bold"),
        "  ",
        _coloured(status["status"]),
        f"  {active} of {len(status['agents'])} agents",
        (f"   {pace}   {time.strftime('%H:%M:%S')}", "dim"),
    )
    return Panel(line, box=box.ROUNDED, border_style="dim")


def _regions_table(seen: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=True, header_style="bold")
    for heading in ("region", "ready", "agree", "keys", "lag"):
        table.add_column(heading, no_wrap=True)
    table.add_column("agents", ratio=1, no_wrap=True, overflow="ellipsis")
    agents: list[dict[str, Any]] = seen["status"]["agents"]
    hashes = Counter(each["state_hash"] for each in seen["stats"])
    commonest = hashes.most_common(1)[0][0] if hashes else None
    for region in seen["status"]["regions"]:
        stats = [each for each in seen["stats"] if each["region"] == region]
        ready = sum(bool(each["ready"]) for each in stats)
        agree = sum(each["state_hash"] == commonest for each in stats)
        lag = max((each.get("loop_lag_ms", 0) for each in stats), default=0)
        table.add_row(
            region,
            f"{ready}/{len(stats)}",
            Text(f"{agree}/{len(stats)}", style="green" if agree == len(stats) else "yellow"),
            str(max((each["leaves"] for each in stats), default=0)),
            durations.show(lag),
            _dots([agent["status"] for agent in agents if agent["region"] == region]),
        )
    return table


def _dots(states: list[str]) -> Text:
    text = Text()
    for state in states:
        mark, style = DOTS.get(state, ("✗", "red"))
        text.append(mark, style=style)
    return text


def _network(partition: Mapping[str, Any]) -> Group:
    lines: list[RenderableType] = [_coloured(partition["status"])]
    lines += [Text("  " + ", ".join(group)) for group in partition["groups"]]
    for cut in partition["cuts"]:
        left = cut["remaining_ms"]
        ends = f"ends in {durations.show(left)}" if left is not None else "until healed"
        lines.append(Text(f"{cut['id']}: {ends}", style="red"))
    if partition["cuts"]:
        noticed = partition["detection"]
        lines.append(Text(f"noticed by {noticed['agents']} of {noticed['of']} agents"))
    return Group(*lines)


def _writes_table(writes: list[Mapping[str, Any]]) -> RenderableType:
    if not writes:
        return Text("none yet", style="dim")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=True, header_style="bold")
    table.add_column("at", no_wrap=True)
    table.add_column("key", no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column("value", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("version", justify="right")
    table.add_column("by", no_wrap=True)
    for write in writes:
        value = "deleted" if write["deleted"] else json.dumps(write["value"], ensure_ascii=False)
        table.add_row(
            Text(write["last_updated"][11:23], style="dim"),
            Text(write["key"], style="bold"),
            Text(value, style="red" if write["deleted"] else "cyan"),
            str(write["version"]),
            Text(write["origin"].partition("/")[0], style="dim"),
        )
    return table


class _Writes:
    """The latest changes, followed at one agent after another in the background."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = Swarm(type(swarm.local)(swarm.name))
        self._latest: deque[Mapping[str, Any]] = deque(maxlen=WRITES)
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def latest(self) -> list[Mapping[str, Any]]:
        """Newest first."""
        return sorted(self._latest, key=lambda write: str(write["last_updated"]), reverse=True)

    def _follow(self) -> None:
        from gossipctl.local.errors import LocalError

        while True:
            try:
                for change in self._swarm.agent().watch():
                    if isinstance(change, Change):
                        self._latest.append(change.raw)
            except (GossipSwarmError, LocalError):
                # No agent for now: the picture shows that by itself.
                time.sleep(1)


@contextmanager
def _keys() -> Iterator[None]:
    """Keys one at a time and without echo, where stdin is a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _pressed(seconds: float) -> str:
    """The key pressed within this time, or nothing."""
    if not sys.stdin.isatty():
        time.sleep(seconds)
        return ""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return sys.stdin.read(1) if ready else ""
