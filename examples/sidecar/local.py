"""The example without Kubernetes: twenty shops, an edge beside each, and a flag that is flipped.

    python examples/sidecar/local.py [--shops 20] [--flips 10]

Makes a local swarm of nine agents in three regions, and removes it at the end. Needs ``gossipctl`` and
``gossipswarm-agent`` on PATH (``make setup`` installs both into ``.venv/bin``).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from timing import HEADING, Late, Seen, await_release, row

HERE = Path(__file__).parent
SWARM = "shop"
REGIONS = ("us-east", "us-west", "eu-central")
KEY = "shop.flags"
START_SECONDS = 60.0


def main() -> int:
    """Run it; 0 if every flip reached every shop."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shops", type=int, default=20)
    parser.add_argument("--flips", type=int, default=10)
    options = parser.parse_args()
    try:
        with ExitStack() as undo:
            flip(undo, options.shops, options.flips)
    except (Late, OSError, subprocess.SubprocessError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


def flip(undo: ExitStack, shops: int, flips: int) -> None:
    """Make everything, flip the flag, and print what came of it."""
    gossipctl("swarm", "init", "--swarm", SWARM, "--regions", ",".join(REGIONS))
    undo.callback(gossipctl, "swarm", "delete", SWARM, "--yes", "--if-exists")
    for region in REGIONS:
        gossipctl("agent", "spawn", "--region", region, "--name", f"{region}-agent", "--count", "3")
    gossipctl("wait", "--for", "ready")
    print(f"{3 * len(REGIONS)} agents in {len(REGIONS)} regions; starting {shops} shops")
    directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="shop-")))
    agents = {
        region: [Agent(f"{region}-agent-{index}") for index in (1, 2, 3)] for region in REGIONS
    }
    started = [
        Shop(undo, directory / f"shop-{number}", region, agents[region])
        for number, region in zip(range(shops), itertools.cycle(REGIONS), strict=False)
    ]
    for shop in started:
        shop.await_ready()
    times = []
    for number in range(flips):
        release, begun = f"release-{number}", time.time()
        writer = agents[REGIONS[number % len(REGIONS)]][0]
        writer.put(KEY, {"release": release, "new_checkout": bool(number % 2)})
        times.append(
            await_release(
                lambda: [shop.seen() for shop in started], "flags.json", release, begun, 10, 0.05
            )
        )
    print(
        f"\n{flips} flips, {shops} shops; from before the write was sent until a shop had read its file\n"
    )
    print(HEADING)
    print(row("file beside an edge", times))


class Agent:
    """Where an agent serves, with which token, and the swarm it is of."""

    def __init__(self, name: str) -> None:
        found = json.loads(gossipctl("agent", "env", name, "-o", "json"))
        self._url, self.token = found["GOSSIPSWARM_API"], found["GOSSIPSWARM_TOKEN"]
        self.address = self._url.removeprefix("http://")
        self.swarm = str(self._ask("GET", "/v1/agent")["swarm"])

    def put(self, key: str, value: Any) -> None:
        """Write a value; returns once the agent has it on disk."""
        self._ask("PUT", f"/v1/state/{key}", value)

    def _ask(self, method: str, path: str, value: Any = None) -> Any:
        asked = urllib.request.Request(
            f"{self._url}{path}",
            method=method,
            data=None if value is None else json.dumps(value).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return json.load(answer)


class Shop:
    """One shop and the edge beside it: what a pod is in Kubernetes."""

    def __init__(
        self, undo: ExitStack, directory: Path, region: str, agents: Sequence[Agent]
    ) -> None:
        directory.mkdir()
        self._directory = directory
        (directory / "token").write_text(agents[0].token)
        self._shop = self._start(
            undo, "shop", [sys.executable, str(HERE / "app.py")],
            {"PORT": "0", "FLAGS": "flags.json"},
        )  # fmt: skip
        self._url = f"http://127.0.0.1:{self._await_port()}"
        projection = {
            "prefix": KEY,
            "path": str(directory / "flags.json"),
            "reload": {"http": f"{self._url}/reload"},
        }
        self._edge = self._start(
            undo, "edge", ["gossipswarm-agent"],
            {
                "GOSSIPSWARM_ROLE": "edge",
                "GOSSIPSWARM_NAME": directory.name,
                "GOSSIPSWARM_REGION": region,
                "GOSSIPSWARM_SWARM": agents[0].swarm,
                "GOSSIPSWARM_UPSTREAM": ",".join(each.address for each in agents),
                "GOSSIPSWARM_UPSTREAM_TOKEN_FILE": str(directory / "token"),
                "GOSSIPSWARM_PREFIXES": "shop",
                "GOSSIPSWARM_API_PORT": "0",
                "GOSSIPSWARM_PROJECT": json.dumps([projection]),
            },
        )  # fmt: skip

    def _start(
        self, undo: ExitStack, name: str, command: list[str], environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        with (self._directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self._directory,
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
            )
        undo.callback(process.wait)
        undo.callback(process.terminate)
        return process

    def _await_port(self) -> str:
        log = self._directory / "shop.log"
        ends = time.monotonic() + START_SECONDS
        while (found := re.search(r"listening on (\d+)\n", log.read_text())) is None:
            if time.monotonic() > ends:
                raise Late(f"the shop does not start: {log.read_text()}")
            time.sleep(0.02)
        return found[1]

    def await_ready(self) -> None:
        """Wait until the edge has written the file. Raises Late."""
        ends = time.monotonic() + START_SECONDS
        while not (self._directory / "flags.json").exists():
            if time.monotonic() > ends or self._edge.poll() is not None:
                raise Late(f"no file: {(self._directory / 'edge.log').read_text()}")
            time.sleep(0.05)

    def seen(self) -> Seen:
        """What this shop has seen."""
        with urllib.request.urlopen(f"{self._url}/seen", timeout=5) as answer:
            seen: dict[str, Any] = json.load(answer)
        return seen


def gossipctl(*arguments: str) -> str:
    """What a command prints. Raises SubprocessError."""
    done = subprocess.run(
        ["gossipctl", "--backend", "local", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
