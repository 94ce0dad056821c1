"""Building the images and loading them into a kind cluster."""

from __future__ import annotations

import os
from pathlib import Path

from e2e.cluster import ROOT, program, run
from e2e.settings import Settings


def build(settings: Settings, tree: Path = ROOT) -> None:
    """Build both images of a tree; the one to upgrade to is the agent's under another tag."""
    docker = program("docker")
    for target, image in (
        ("operator", settings.operator_image),
        ("agent", settings.agent_image),
    ):
        command = [docker, "build", "--file", str(tree / "Containerfile")]
        command += ["--target", target, "--tag", image]
        if settings.base_image is not None:
            command += ["--build-arg", f"BASE={settings.base_image}"]
        run([*command, *settings.build_flags, str(tree)], seconds=1800)
    run([docker, "tag", settings.agent_image, settings.next_agent_image])


def identity(image: str) -> str:
    """What a tag stands for now."""
    return run([program("docker"), "image", "inspect", "--format", "{{.Id}}", image]).strip()


def load(settings: Settings) -> None:
    """Copy them to every node of the kind cluster."""
    assert settings.kind is not None
    images = (settings.operator_image, settings.agent_image, settings.next_agent_image)
    os.environ.setdefault("DOCKER_CLI_HINTS", "false")
    run([program("kind"), "load", "docker-image", "--name", settings.kind, *images], seconds=900)
