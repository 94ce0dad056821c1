"""The walkthrough, run for you: ``make demo``.

Reads docs/walkthrough.md and runs its commands with the installed ``gossipctl`` against a local swarm called
``demo``, 150 agents in three regions. It differs from the page in three things, each said where it happens:
it waits until the cut has been noticed before it writes on both sides, it does not sleep where it can look,
and it looks at what came out. The swarm is left running.
"""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

SWARM = "demo"
HOOKED = "hooked"
"""The small swarm of docs/hooks.md."""
ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs" / "walkthrough.md"
HOOKS = ROOT / "docs" / "hooks.md"
BIN = Path(sys.executable).parent
COMMAND_SECONDS = 120.0
BAR = 40
LINES_SHOWN = 52
TERMINAL = sys.stdout.isatty()


class DemoError(Exception):
    """A step did not do what it should."""


@dataclass
class Section:
    """A heading of the guide and the commands below it."""

    title: str
    commands: list[str]


@dataclass
class Measured:
    """What the demo saw, for the table at the end."""

    started: float = field(default_factory=time.monotonic)
    agents: int = 0
    write: dict[str, Any] = field(default_factory=dict)
    detected_ms: float | None = None
    healed_ms: float | None = None
    conflict: dict[str, Any] = field(default_factory=dict)
    benchmark: dict[str, Any] = field(default_factory=dict)


# --- the guide ------------------------------------------------------------------------------------


def sections(guide: Path) -> Iterator[Section]:
    """The guide's sections that have commands; a paragraph of a block is one command."""
    for part in re.split(r"^## ", guide.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        blocks = re.findall(r"^```bash\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)
        commands = [
            paragraph.strip()
            for block in blocks
            for paragraph in re.split(r"\n\n(?=\S)", block)
            if paragraph.strip()
        ]
        if commands:
            yield Section(title, commands)


# --- running --------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """The installed commands first, and our swarm selected."""
    return {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
        "GOSSIPSWARM_SWARM": SWARM,
    }


def style(text: str, code: str) -> str:
    """Colour on a terminal."""
    return f"\x1b[{code}m{text}\x1b[0m" if TERMINAL and not os.environ.get("NO_COLOR") else text


def heading(title: str) -> None:
    """The title of a section."""
    print(style(f"━━ {title}\n", "1;36"), flush=True)


def say(text: str) -> None:
    """A remark of the demo itself."""
    print(style(f"# {text}", "2"), flush=True)


def show(command: str) -> None:
    """A command, as one would type it."""
    print(style("$ ", "32") + style(command, "1"), flush=True)


def start(command: str, stdout: int | None) -> subprocess.Popen[str]:
    """A command of the guide in bash."""
    return subprocess.Popen(
        ["bash", "-c", f"set -eo pipefail; {command}"],
        env=environment(),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        text=True,
    )


def finish(process: subprocess.Popen[str], command: str) -> None:
    """Wait for its end, which must be a good one."""
    code = process.wait(COMMAND_SECONDS)
    if code:
        raise DemoError(f"exit code {code} from: {command}")


def run(command: str) -> str:
    """Run a command and show what it prints, the beginning of it if it is long; what it printed."""
    show(command)
    printed = []
    # On a terminal the command gets one as well, so that it prints as it would for a user.
    ours, its = pty.openpty() if TERMINAL else os.pipe()
    process = start(command, its)
    os.close(its)
    with os.fdopen(ours, encoding="utf-8", errors="replace", newline="") as stdout:
        for line in lines_of(stdout):
            printed.append(line)
            if len(printed) <= LINES_SHOWN:
                print(line, flush=True)
    finish(process, command)
    if len(printed) > LINES_SHOWN:
        print(style(f"  ... and {len(printed) - LINES_SHOWN} more lines", "2"))
    print(flush=True)
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", "\n".join(printed))


def lines_of(stdout: IO[str]) -> Iterator[str]:
    """Its lines without their ends; a terminal whose program has gone reports an error for the end."""
    try:
        for line in stdout:
            yield line.rstrip("\r\n")
    except OSError as error:
        if error.errno != errno.EIO:
            raise


def watch(command: str) -> None:
    """Run a command that draws on the terminal itself."""
    show(command)
    finish(start(command, None), command)
    print(flush=True)


def ask(arguments: str) -> Any:
    """What a command says as JSON, without showing it."""
    command = f"gossipctl {arguments} -o json"
    process = start(command, subprocess.PIPE)
    answer, _ = process.communicate(timeout=COMMAND_SECONDS)
    finish(process, command)
    return json.loads(answer)


def spawn(command: str) -> None:
    """One of the loops that start fifty agents, with a bar instead of fifty lines."""
    show(command)
    process = start(command, subprocess.PIPE)
    began, started = time.monotonic(), 0
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            started += " started in " in line
            if TERMINAL:
                full = BAR * started // 50
                bar = "━" * full + style("╌" * (BAR - full), "2")
                print(f"\r  {bar} {started}/50", end="", flush=True)
    took = time.monotonic() - began
    clear = "\r\x1b[K" if TERMINAL else ""
    print(f"{clear}  {started} of 50 agents started in {took:.1f} s\n", flush=True)
    if process.returncode or started != 50:
        raise DemoError(f"only {started} of 50 agents started")


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Look again and again until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise DemoError(f"not within {seconds:g} s: {what}")


def require(holds: bool, what: str) -> None:
    """A promise of the guide."""
    if not holds:
        raise DemoError(f"not so: {what}")
    print(style("✓ ", "32") + what + "\n", flush=True)


def documents(text: str) -> list[dict[str, Any]]:
    """The JSON objects in an output."""
    found, decoder, at = [], json.JSONDecoder(), text.find("{")
    while at >= 0:
        try:
            value, at = decoder.raw_decode(text, at)
            found.append(value)
        except ValueError:
            at += 1
        at = text.find("{", at)
    return found


# --- the steps ------------------------------------------------------------------------------------


def perform(command: str, measured: Measured) -> None:
    """Run one command of the guide, and look at what it promises."""
    if "swarm init" in command:
        run(command.replace("swarm init", f"swarm init --swarm {SWARM}"))
    elif "agent spawn" in command:
        spawn(command)
    elif "agent list" in command:
        measured.agents = int(run(command))
        require(measured.agents == 150, "150 agents are active")
        say("the last of them are still catching up; what follows is measured once they have")
        run("gossipctl wait --for ready --agents 150")
    elif "convergence --watch" in command:
        watch(command)
        measured.write = ask("gossip convergence")
        require(measured.write["share"] == 1.0, "every agent has said that it holds the write")
    elif "for region in" in command:
        answers = documents(run(command))
        same = {json.dumps([answer["value"], answer["version"]]) for answer in answers}
        require(
            len(answers) == 3 and len(same) == 1, "the three regions answer the same, version 1"
        )
    elif "network partition " in command:
        partition(command, measured)
    elif "heal-partition" in command:
        heal(command, measured)
    elif "conflicts --watch" in command:
        conflict(command, measured)
    elif command.startswith("sleep"):
        say(f"the guide has `{command}` here; the agents agree already")
    elif "gossip benchmark" in command:
        measured.benchmark = documents(run(command))[0]
    else:
        run(command)


def partition(command: str, measured: Measured) -> None:
    """Cut, and wait until the agents have noticed by themselves."""
    run(command)
    say("agents are not told of the cut; they notice the silence. Waiting for the last one.")

    def noticed() -> bool:
        detection = ask("network partition-status")["detection"]
        return bool(detection["agents"] == detection["of"])

    until(noticed, 10.0, "every agent has noticed the cut")
    groups = ask("network partition-status")["detection"]["groups"]
    measured.detected_ms = max(group["last_ms"] for group in groups)
    for group in groups:
        regions = " and ".join(group["regions"])
        print(f"  {regions}: {group['detected']} agents, the last after {group['last_ms']:.0f} ms")
    require(measured.detected_ms < 2000, "both sides know that they are cut off")


def heal(command: str, measured: Measured) -> None:
    """Heal long before the 30 s are over: there is nothing to wait for."""
    say("the cut would end by itself after 30 s; both sides have written, so it is healed now")
    began = time.monotonic()
    run(command)
    until(
        lambda: bool(ask("wait --for healed --timeout 20s")["met"]), 25.0, "all agents agree again"
    )
    measured.healed_ms = (time.monotonic() - began) * 1000


def conflict(command: str, measured: Measured) -> None:
    """The later of the two writes has won, and the other is on record."""
    found = documents(run(command))
    measured.conflict = next(each for each in found if each["key"] == "app.config.cache_ttl")
    require(
        (measured.conflict["winning_value"], measured.conflict["losing_value"]) == (1800, 7200)
        and measured.conflict["winning_timestamp"] > measured.conflict["losing_timestamp"],
        "the later write won; the other is in the history, with what beat it",
    )


def hooks() -> None:
    """What docs/hooks.md shows, on a small swarm of its own."""
    heading("Hooks")
    say("these hooks refuse writes during a cut, so they get a swarm of six agents for themselves")
    for section in sections(HOOKS):
        for command in section.commands:
            run(command)


# --- the end --------------------------------------------------------------------------------------


def table(measured: Measured) -> str:
    """The walkthrough's figures beside those of this run."""
    write, figures = measured.write, measured.benchmark
    rows = [
        ("", "walkthrough", "here"),
        ("agents", "150", str(measured.agents)),
        ("a write on 95 % of the agents", "700 ms", f"{write['duration_ms']:.0f} ms"),
        ("a write on every agent", "-", f"{write['full_ms']:.0f} ms"),
        ("rounds it took", "7", f"{len(write['rounds'])} hops"),
        ("cut noticed, last agent", "500 ms", f"{measured.detected_ms:.0f} ms"),
        ("healed, all agents equal", "5,000 ms", f"{measured.healed_ms:.0f} ms"),
        ("writes lost in the cut", "0", "0, the loser is on record"),
        ("updates a second", "8,333", f"{figures['throughput_ops_sec']:,}"),
        ("10,000 updates on every agent", "1.2 s", f"{figures['duration_sec']:.2f} s"),
        ("p99 of convergence under that load", "1,100 ms", f"{figures['p99_convergence_ms']:.0f} ms"),
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  "
        + "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([style(lines[0], "1"), "  " + "─" * (sum(widths) + 6), *lines[1:]])


def farewell(measured: Measured) -> None:
    """The figures, and where to go from here."""
    cores = len(os.sched_getaffinity(0))
    took = time.monotonic() - measured.started
    print(style(f"\nDone in {took:.0f} s, on {cores} cores.\n", "1;32"))
    print(table(measured))
    program = os.path.relpath(BIN / "gossipctl")
    print(f"""
`healed` counts from pressing Enter, so the command's own start is in it. `updates a second` counts an update
once it is on every agent. The load generator had the same {cores} cores as the agents.

The swarm is still running. Try:
  {program} --swarm {SWARM} gossip state-update --key hello --value '"world"' --wait
  {program} --swarm {SWARM} gossip query-state --key hello
  {program} --swarm {SWARM} dashboard
Remove it, its processes and its files:
  make demo-down""")


def main() -> int:
    """Exit code 1 if anything was not as the guide says."""
    measured = Measured()
    print(style("GossipSwarm: the walkthrough, with 150 agents on this machine\n", "1"))
    try:
        for old in (SWARM, HOOKED):
            subprocess.run(
                [BIN / "gossipctl", "swarm", "delete", old, "--yes", "--if-exists"],
                check=True,
                capture_output=True,
                timeout=COMMAND_SECONDS,
            )
        for section in sections(GUIDE):
            if section.title.startswith("When something"):
                hooks()
            heading(section.title)
            for command in section.commands:
                perform(command, measured)
        farewell(measured)
    except (DemoError, LookupError, ValueError, StopIteration, subprocess.SubprocessError) as error:
        print(style(f"\nThe demo failed: {error}", "1;31"), file=sys.stderr)
        print("Its swarm is still there to look at; make demo-down removes it.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; make demo-down removes what there is of the swarm.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
