"""The kind cluster of the suite's own, for who names no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from e2e.cluster import ROOT, program, run
from e2e.settings import Settings, from_environment

NAME: Final = "gossipswarm-e2e"
MAKE_SECONDS: Final = 600.0
"""The first time the node's image is pulled."""


def provide(environment: Mapping[str, str]) -> tuple[Settings, bool]:
    """Settings of the cluster that is named, or of our own; and whether that was made here and now.

    Raises:
        Refused: the environment contradicts itself, or there is no kind.
        Failed: kind cannot make a cluster.
    """
    if environment.get("E2E_CONTEXT"):
        return from_environment(environment), False
    ours = {**environment, "E2E_CONTEXT": f"kind-{NAME}", "E2E_KIND": NAME}
    settings = from_environment(ours)
    kind = program("kind")
    if NAME in run([kind, "get", "clusters"]).split():
        run([kind, "export", "kubeconfig", "--name", NAME])
        return settings, False
    config = str(ROOT / "e2e" / "kind.yaml")
    run(
        [kind, "create", "cluster", "--name", NAME, "--config", config, "--wait", "3m"],
        seconds=MAKE_SECONDS,
    )
    return settings, True


def remove() -> None:
    """Delete our cluster."""
    run([program("kind"), "delete", "cluster", "--name", NAME])
