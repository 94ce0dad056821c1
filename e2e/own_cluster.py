"""The kind cluster of the suite's own, for who names no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from e2e.cluster import ROOT, program, run
from e2e.settings import Settings, from_environment

NAME: Final = "gossipswarm-e2e"
MAKE_SECONDS: Final = 600.0
"""The first time the node's image is pulled."""
CONFIG: Final = str(ROOT / "e2e" / "kind.yaml")


def provide(environment: Mapping[str, str]) -> tuple[Settings, bool]:
    """Settings of the cluster that is named, or of our own; and whether that was made here and now.

    ``E2E_NODE_IMAGE`` and ``E2E_KIND_CONFIG`` say what it is made of, where that is not kind's own choice and ``kind.yaml``.

    Raises:
        Refused: the environment contradicts itself, or there is no kind.
        Failed: kind cannot make a cluster.
    """
    if environment.get("E2E_CONTEXT"):
        return from_environment(environment), False
    ours = {**environment, "E2E_CONTEXT": f"kind-{NAME}", "E2E_KIND": NAME}
    settings = from_environment(ours)
    kind, kubectl = program("kind"), program("kubectl")
    current = run([kubectl, "config", "view", "--output", "jsonpath={.current-context}"])
    made = NAME not in run([kind, "get", "clusters"]).split()
    if made:
        command = [kind, "create", "cluster", "--name", NAME, "--wait", "3m"]
        command += ["--config", environment.get("E2E_KIND_CONFIG") or CONFIG]
        if environment.get("E2E_NODE_IMAGE"):
            command += ["--image", environment["E2E_NODE_IMAGE"]]
        run(command, seconds=MAKE_SECONDS)
    else:
        run([kind, "export", "kubeconfig", "--name", NAME])
    if current:
        # kind has made its own context the current one: that is for its user to do.
        run([kubectl, "config", "use-context", current])
    return settings, made


def remove() -> None:
    """Delete our cluster."""
    run([program("kind"), "delete", "cluster", "--name", NAME])
