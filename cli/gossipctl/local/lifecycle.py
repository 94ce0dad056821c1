"""Bringing local swarms to life: what only the commands ``swarm init``, ``up`` and ``apply`` import."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from gossipctl.local.client import LocalSwarm, make_current, names, select, unwrap
from gossipctl.local.errors import LocalError
from gossipctl.local.layout import Layout, is_locked
from gossipctl.local.manifest import parse

START_SECONDS: Final = 60.0
_IN_TRANSITION: Final = {"swarm-down", "supervisor-gone", "swarm-running"}


def init(**spec: Any) -> dict[str, Any]:
    """Make a swarm, start it and select it; its status.

    Arguments: name (default the next free swarm-gossip-NNN), regions (list), max_agents, topology,
    protocol, encryption (bool, default true), settings (dict), workers (default one a core), hooks (path).
    """
    result = start_supervisor({**spec, "create": True})
    make_current(result["swarm_id"])
    return result


def up(name: str | None = None) -> dict[str, Any]:
    """Start a swarm that is down, with all its agents and data; its status, also if it was running."""
    name = select(name)
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if not is_locked(Layout(name).lock):
                return start_supervisor({"name": name})
            with LocalSwarm(name) as swarm:
                status: dict[str, Any] = swarm.request("status")
                return status
        except LocalError as error:
            # Another one is on its way up, or down: either will be over soon.
            if error.reason not in _IN_TRANSITION or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def apply(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Make the local swarm match a GossipSwarm manifest, creating it if absent.

    The result: swarm, created (bool), changes (list of what was done), ignored (fields without meaning
    locally), status. Applying the same manifest again changes nothing.
    """
    desired = parse(manifest)
    created = desired.name not in names()
    if created:
        init(**desired.creation())
    elif not is_locked(Layout(desired.name).lock):
        up(desired.name)
    with LocalSwarm(desired.name) as swarm:
        result: dict[str, Any] = swarm.request("apply", manifest=manifest)
    return {**result, "created": created}


def start_supervisor(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Start a supervisor for the swarm ``spec["name"]`` and wait until it answers; the swarm's status.

    With ``create`` true the rest of ``spec`` (see ``init``) describes a new swarm.
    """
    # -P: a json.py in the caller's directory must not become the supervisor's.
    command = [sys.executable, "-P", "-m", "gossipctl.local.supervisor"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
    )
    try:
        # The pipes stay open in the supervisor until it has answered or died, so this ends then.
        answer, complaint = process.communicate(json.dumps(spec).encode(), START_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise LocalError(
            "start-timeout", f"the supervisor was not ready within {START_SECONDS:g} s"
        ) from None
    if not answer:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise LocalError(
            "supervisor-failed", f"the supervisor did not start: {last or 'it gave no reason'}"
        )
    result: dict[str, Any] = unwrap(json.loads(answer))
    return result
