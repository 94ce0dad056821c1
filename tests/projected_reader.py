"""Reads projected files over and over in a process of its own, and says whether one was ever torn or missing.

``python projected_reader.py file|dir PATH``; ends when its standard input does, with its counts as JSON.
"""

from __future__ import annotations

import json
import os
import select
import sys
from pathlib import Path
from typing import Any


def read_file(path: Path) -> int:
    """The number in a document that says it twice. Raises ValueError where they differ."""
    document = json.loads(path.read_text())
    if document["number"] != len(document["filling"]):
        raise ValueError("half of one version and half of another")
    return int(document["number"])


def read_directory(path: Path) -> int:
    """The number that two files of one version say. Raises ValueError where they differ."""
    # Each by its path, which always leads somewhere, and both by one look at the version, which must be whole.
    for name in ("a.number", "b.number"):
        int((path / name).read_text())
    while True:
        version = os.open(path / "..data", os.O_RDONLY | os.O_DIRECTORY)
        try:
            a, b = (_read_in(version, name) for name in ("a.number", "b.number"))
        except FileNotFoundError:
            continue  # two newer versions came since, so that this one went
        finally:
            os.close(version)
        if a != b:
            raise ValueError("files of two versions")
        return a


def _read_in(directory: int, name: str) -> int:
    descriptor = os.open(name, os.O_RDONLY, dir_fd=directory)
    with os.fdopen(descriptor) as file:
        return int(file.read())


def main() -> None:
    """Read until told to stop."""
    read = {"file": read_file, "dir": read_directory}[sys.argv[1]]
    path = Path(sys.argv[2])
    counts: dict[str, Any] = {"reads": 0, "torn": 0, "missing": 0, "backwards": 0, "versions": 0}
    last = -1
    print("reading", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        try:
            number = read(path)
        except FileNotFoundError:
            counts["missing"] += 1
            continue
        except ValueError:
            counts["torn"] += 1
            continue
        counts["reads"] += 1
        counts["backwards"] += number < last
        counts["versions"] += number != last
        last = number
    print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main()
