"""Running gossipctl in tests as a user does: as a process, in a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

GOSSIPCTL = Path(sys.executable).with_name("gossipctl")
SECONDS = 300


class Done(NamedTuple):
    """What a call printed, and its exit code."""

    stdout: str
    stderr: str
    code: int

    @property
    def json(self) -> Any:
        """What it printed, read as one JSON document."""
        return json.loads(self.stdout)

    @property
    def lines(self) -> list[str]:
        """What it printed, by lines."""
        return self.stdout.splitlines()


class CommandLine:
    """gossipctl with an environment."""

    def __init__(self, home: Path, **extra: str) -> None:
        self.environment = {
            "PATH": f"{GOSSIPCTL.parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "LANG": "C.UTF-8",
            **extra,
        }

    def __call__(
        self,
        *arguments: str,
        code: int | None = 0,
        stdin: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Done:
        """Run it; its exit code has to be ``code``, unless that is None."""
        process = subprocess.run(
            [GOSSIPCTL, *arguments],
            env={**self.environment, **(environment or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        done = Done(process.stdout, process.stderr, process.returncode)
        assert "Traceback" not in done.stderr, done.stderr
        if code is not None:
            assert done.code == code, f"{arguments}: {done}"
        return done
