"""The live view of ``gossipctl dashboard``. One picture is three questions to the backend."""

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
from gossipctl.failures import CommandFailed
from gossipctl.live import console
from gossipctl.local.errors import LocalError
from gossipctl.output import BAD, GOOD
from gossipctl.traces import Trace
from gossipswarm_client.errors import GossipSwarmError
from gossipswarm_client.results import Change

WRITES = 50
"""Writes remembered; a picture shows as many as fit."""
DOTS = {"active": ("●", "green"), "starting": ("◐", "yellow"), "stopped": ("○", "dim")}


def run(swarm: Swarm, refresh: float) -> None:
    """Show pictures until q, Escape or Ctrl-C; ``refresh`` in seconds."""
    terminal = console()
    # Three connections: a slow answer must neither hold up the keys nor the other views.
    observer, writes = _Observer(swarm.again(), refresh), _Writes(swarm.again())
    with _keys(), Live(console=terminal, screen=True, auto_refresh=False) as live:
        observer.start()
        writes.start()
        while True:
            if observer.failure is not None:
                raise observer.failure
            if observer.seen is not None:
                page = picture(observer.seen, observer.newest, writes.latest(), terminal.width)
                live.update(page, refresh=True)
            if _pressed(refresh) in ("q", "Q", "\x1b"):
                return


def picture(
    seen: Mapping[str, Any], newest: Trace | None, writes: list[Mapping[str, Any]], width: int
) -> Layout:
    """The whole screen."""
    regions = seen["status"]["regions"]
    dots = _agents_table(seen["status"])
    page = Layout()
    page.split_column(
        Layout(_head(seen["status"]), size=3),
        Layout(name="middle", size=max(6, len(regions) + 3)),
        Layout(_panel("agents", dots), size=2 + _lines(seen["status"], width)),
        Layout(_panel("newest write", _newest_write(newest)), size=3),
        Layout(_panel("writes", _writes_table(writes))),
        Layout(Text(" q ends", style="dim"), size=1),
    )
    page["middle"].split_row(
        Layout(_panel("regions", _regions_table(seen))),
        Layout(_panel("network", _network(seen["partition"]))),
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
        )
    return table


def _agents_table(status: Mapping[str, Any]) -> Table:
    """One dot an agent, a line or more a region."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for region in status["regions"]:
        table.add_row(region, _dots(_states(status, region)))
    return table


def _lines(status: Mapping[str, Any], width: int) -> int:
    """Lines that the dots take."""
    room = max(1, width - 6 - max(map(len, status["regions"])))
    return sum(max(1, -(-len(_states(status, region)) // room)) for region in status["regions"])


def _states(status: Mapping[str, Any], region: str) -> list[str]:
    return [agent["status"] for agent in status["agents"] if agent["region"] == region]


def _newest_write(newest: Trace | None) -> Text:
    if newest is None:
        return Text("none yet", style="dim")
    write = newest.convergence
    took = write["full_ms"] or write["duration_ms"]
    return Text.assemble(
        (write["key"], "bold"),
        f"  by {newest.agent.name}  ",
        (
            f"{write['received']} of {write['agents']} agents",
            "green" if write["converged"] else "yellow",
        ),
        f"  {len(write['rounds'])} rounds"
        + (f", {durations.show(took)}" if took is not None else ""),
    )


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


class _Observer(threading.Thread):
    """Asks for the next picture in the background."""

    def __init__(self, swarm: Swarm, refresh: float) -> None:
        super().__init__(daemon=True)
        self._swarm = swarm
        self._refresh = refresh
        self.seen: dict[str, Any] | None = None
        self.newest: Trace | None = None
        self.failure: Exception | None = None
        """Why there will be no further picture."""

    def run(self) -> None:
        """Ask on and on."""
        try:
            while True:
                seen = {
                    "status": self._swarm.request("status", verbose=True),
                    "partition": self._swarm.request("partition-status"),
                    "stats": self._swarm.stats(),
                }
                self._follow_newest(seen["stats"])
                self.seen = seen
                time.sleep(self._refresh)
        except Exception as error:  # noqa: BLE001 - the main thread raises it
            self.failure = error

    def _follow_newest(self, stats: list[dict[str, Any]]) -> None:
        """How far the newest traced write has come; asked for only while that changes."""
        found = [
            (each["newest_trace"][2], each["name"], each["newest_trace"][0])
            for each in stats
            if each["newest_trace"]
        ]
        try:
            if found and (self.newest is None or self.newest.dot != max(found)[2]):
                _, name, dot = max(found)
                self.newest = Trace(self._swarm.agent(name), dot)
            elif self.newest is not None and not self.newest.complete:
                self.newest.refresh()
        except (GossipSwarmError, LocalError, CommandFailed):
            pass  # its agent is gone: what it said last stands


class _Writes(threading.Thread):
    """The latest changes, followed at one agent after another."""

    def __init__(self, swarm: Swarm) -> None:
        super().__init__(daemon=True)
        self._swarm = swarm
        self._latest: deque[Mapping[str, Any]] = deque(maxlen=WRITES)

    def latest(self) -> list[Mapping[str, Any]]:
        """Newest first."""
        return sorted(self._latest, key=lambda write: str(write["last_updated"]), reverse=True)

    def run(self) -> None:
        """Listen for ever."""
        while True:
            try:
                for change in self._swarm.agent().watch():
                    if isinstance(change, Change):
                        self._latest.append(change.raw)
            except (GossipSwarmError, LocalError, CommandFailed):
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
