"""Specs of our three kinds for tests, and what becomes of them at an API server."""

from __future__ import annotations

from typing import Any, NamedTuple

Spec = dict[str, Any]


class Case(NamedTuple):
    """One object. ``says`` is part of the refusal; empty where the object is taken."""

    title: str
    kind: str
    spec: Spec
    says: str = ""
    name: str = "demo"


class Change(NamedTuple):
    """A change of an object that exists, as a merge patch of its spec."""

    title: str
    kind: str
    before: Spec
    change: Spec
    says: str = ""


EAST = {"name": "us-east"}
WEST = {"name": "us-west"}


def swarm(**spec: Any) -> Spec:
    """A swarm of one region, with what else is given."""
    return {"regions": [EAST], **spec}


def gossip(**parameters: Any) -> Spec:
    """A swarm with these parameters."""
    return swarm(gossip=parameters)


def config(**spec: Any) -> Spec:
    """A SwarmConfig with one value, with what else is given; None takes a field away."""
    found = {"swarmRef": {"name": "demo"}, "prefix": "app.config", "data": {"ttl": 60}, **spec}
    return {name: value for name, value in found.items() if value is not None}


def cut(**spec: Any) -> Spec:
    """A SwarmPartition of one region against the rest, with what else is given."""
    return {"swarmRef": {"name": "demo"}, "groups": [["us-east"]], **spec}


def regions(*names: str) -> list[Spec]:
    return [{"name": name} for name in names]
