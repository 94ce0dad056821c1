"""What the tests are told by their environment. Nothing is guessed: a cluster is named, or it is left alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class Refused(Exception):
    """The test must not, or cannot, run here. The message says what to do about it."""


@dataclass(frozen=True)
class Settings:
    """Where to run, and with which images."""

    context: str
    """Context of the kubeconfig."""
    kind: str | None
    """Name of the kind cluster behind it: images are built here and loaded into it."""
    base_image: str | None
    """What images are built FROM, where it is not what the Containerfile says."""
    build_flags: tuple[str, ...]
    """More arguments of ``docker build``."""
    operator_image: str
    agent_image: str
    next_agent_image: str
    """What agents are upgraded to."""
    storage_class: str | None
    """Of the agents' volumes; None is the cluster's default."""
    previous: str | None
    """Commit or tag to upgrade from; None is the newest release."""
    seed: int | None
    """Of what happens at random; None is another one each time."""
    results: Path | None
    """Folder for what the smoke test measured; None keeps it to the terminal."""


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Settings of the variables E2E_*. Raises Refused."""
    context = environment.get("E2E_CONTEXT", "")
    if not context:
        raise Refused(
            "say which cluster: E2E_CONTEXT=<context of the kubeconfig>. The test installs and removes"
            " GossipSwarm there, custom resource definitions and all"
        )
    kind = environment.get("E2E_KIND") or None
    if kind is not None and context != f"kind-{kind}":
        raise Refused(
            f"E2E_KIND={kind} loads images into that cluster, whose context is kind-{kind}, not {context}"
        )
    images = {
        name: environment.get(f"E2E_{name}", "")
        for name in ("OPERATOR_IMAGE", "AGENT_IMAGE", "NEXT_AGENT_IMAGE")
    }
    if kind is not None:
        images["OPERATOR_IMAGE"] = images["OPERATOR_IMAGE"] or "gossipswarm-operator:smoke-1"
        images["AGENT_IMAGE"] = images["AGENT_IMAGE"] or "gossipswarm-agent:smoke-1"
        images["NEXT_AGENT_IMAGE"] = images["NEXT_AGENT_IMAGE"] or "gossipswarm-agent:smoke-2"
    missing = [f"E2E_{name}" for name, image in images.items() if not image]
    if missing:
        raise Refused(
            f"without E2E_KIND the cluster must be able to pull the images: set {', '.join(missing)}"
        )
    for name, image in images.items():
        if ":" not in image.rpartition("/")[2]:
            raise Refused(f"E2E_{name}={image} has no tag")
    return Settings(
        context=context,
        kind=kind,
        base_image=environment.get("E2E_BASE_IMAGE") or None,
        build_flags=tuple(environment.get("E2E_BUILD_FLAGS", "").split()),
        operator_image=images["OPERATOR_IMAGE"],
        agent_image=images["AGENT_IMAGE"],
        next_agent_image=images["NEXT_AGENT_IMAGE"],
        storage_class=environment.get("E2E_STORAGE_CLASS") or None,
        previous=environment.get("E2E_PREVIOUS") or None,
        seed=_number(environment, "E2E_SEED"),
        results=Path(environment["E2E_RESULTS"]) if environment.get("E2E_RESULTS") else None,
    )


def _number(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name, "")
    if not value:
        return None
    if not value.isdecimal():
        raise Refused(f"{name}={value} is no whole number")
    return int(value)
