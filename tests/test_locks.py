"""What the project says it needs is in the locks that images and environments are made from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def needed(requirements: list[str]) -> set[str]:
    names = {re.split(r"[<>=!~\[; ]", text, maxsplit=1)[0].lower() for text in requirements}
    return names - {"gossipswarm"}


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("requirements.txt", []),
        ("requirements-operator.txt", ["operator"]),
        ("requirements-dev.txt", ["operator", "cli", "dev"]),
    ],
)
def test_a_lock_pins_and_hashes_all_that_is_needed(lock: str, extras: list[str]) -> None:
    text = (ROOT / lock).read_text()
    wanted = needed(PROJECT["dependencies"])
    for extra in extras:
        wanted |= needed(PROJECT["optional-dependencies"][extra])
    pinned = set(re.findall(r"^([a-z0-9._-]+)==\S+.*\\$", text, re.MULTILINE))
    assert wanted - pinned == set()
    assert text.count("--hash=sha256:") >= len(pinned)


def test_dependencies_are_capped() -> None:
    extras = PROJECT["optional-dependencies"].values()
    every = [*PROJECT["dependencies"], *(text for extra in extras for text in extra)]
    assert [text for text in every if "<" not in text and not text.startswith("gossipswarm")] == []
