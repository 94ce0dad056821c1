"""Guides as programs: the code blocks of a Markdown page, run as a reader would run them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

_RUN_ALL = """
set -eE -o pipefail
trap 'echo "failed: $BASH_COMMAND" >&2' ERR
for block in "$@"; do
  source "$block" >"${block%.sh}.out" 2>"${block%.sh}.err" </dev/null
  touch "${block%.sh}.done"
done
"""


class Block(NamedTuple):
    """One fenced block of a page."""

    language: str
    text: str


class Outcome(NamedTuple):
    """What a block printed."""

    text: str
    stdout: str
    stderr: str


def blocks(page: Path) -> list[Block]:
    """Every fenced block, in order."""
    return [Block(language, text) for language, text in _FENCE.findall(page.read_text("utf-8"))]


def run(
    scripts: Sequence[str], directory: Path, environment: Mapping[str, str], seconds: float
) -> list[Outcome]:
    """Run scripts one after another in one shell; fails on the first command that fails."""
    paths = []
    for index, script in enumerate(scripts):
        path = directory / f"block-{index:02}.sh"
        path.write_text(script, encoding="utf-8")
        paths.append(path)
    command = ["bash", "-c", _RUN_ALL, "guide", *map(str, paths)]
    done = subprocess.run(command, cwd=directory, env=environment, timeout=seconds)
    outcomes = []
    for path, script in zip(paths, scripts, strict=True):
        stdout = path.with_suffix(".out").read_text("utf-8")
        stderr = path.with_suffix(".err").read_text("utf-8")
        assert path.with_suffix(".done").exists(), (
            f"exit code {done.returncode} in\n{script}\n{stdout}\n{stderr}"
        )
        outcomes.append(Outcome(script, stdout, stderr))
    return outcomes


def documents(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in an output, whatever stands between them."""
    decoder = json.JSONDecoder()
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except ValueError:
            end = at + 1
        else:
            if isinstance(value, dict):
                yield value
        at = text.find("{", end)
