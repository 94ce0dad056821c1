"""The release before this one, of its own tree: the chart as it was, and images built of the code as it was."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from e2e import images
from e2e.cluster import ROOT, Failed, program, run
from e2e.settings import Refused, Settings

STAND_IN: Final = "b10f6773b7e818e0cc62d477cfc7a34ee5e2fd26"
"""What is upgraded from until there is a release: the last commit before cuts, edges and sidecars came to clusters."""


def ref(settings: Settings) -> str:
    """The commit to upgrade from. Raises Refused where the history does not have it."""
    wanted = settings.previous or _newest_release() or STAND_IN
    try:
        return _git("rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}").strip()
    except Failed:
        raise Refused(f"{wanted} is not in the history of this checkout: fetch it") from None


def _newest_release() -> str | None:
    """The newest tag ``v*`` before this commit, so that a release is not upgraded from itself."""
    try:
        return _git("describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^").strip()
    except Failed:
        return None


def unpack(commit: str, folder: Path) -> None:
    """Write the tree of a commit into a folder."""
    archive = folder / "tree.tar"
    _git("archive", "--output", str(archive), commit)
    run(["tar", "-xf", str(archive), "-C", str(folder)])
    archive.unlink()


def provide(settings: Settings, folder: Path) -> Settings:
    """Build the images of the tree in a folder and load them; settings that name them."""
    agent = "gossipswarm-agent:previous"
    was = dataclasses.replace(
        settings,
        operator_image="gossipswarm-operator:previous",
        agent_image=agent,
        next_agent_image=agent,
    )
    images.build(was, folder)
    images.load(was)
    return was


def _git(*arguments: str) -> str:
    return run([program("git"), "-C", str(ROOT), *arguments])
