"""Two hundred swarms: what they cost the API server until they are there, and what when nothing changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossipswarm_operator.client import KubeClient
from kube_operator_program import program
from kube_operator_runs import OWNED, cluster_admin, operator_account, until
from kube_operator_scale import Spent, are_made, at_rest, create_swarms

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures

COUNT = 200
READS_A_LOOK = 20
"""The swarm, nine lists, two Secrets; and at the first look each object by name, for there may be one of somebody else."""
READS_AT_REST = 5
"""The swarm, two Secrets, and events, since nobody binds its volume claims; and the lists now and then."""


async def test_two_hundred_swarms_come_about_and_then_nothing_is_written(
    admin: KubeClient, namespace: str, account: Path, tmp_path: Path
):
    async with program(
        account, namespace, tmp_path, resync_seconds=10, lease_seconds=60
    ) as running:
        await until(running.leads)
        before = await Spent.by(running)
        await create_swarms(admin, namespace, COUNT)
        await until(lambda: are_made(admin, namespace, COUNT), 900)
        made = (await Spent.by(running)).since(before)
        applied = sum(count for (verb, _), count in made.writes.items() if verb == "apply")
        assert applied == COUNT * len(OWNED), "each object once"
        assert made.writes["create", "events"] <= COUNT * 6
        assert made.writes["patch", "gossipswarms"] <= COUNT * 5
        assert made.reads <= made.reconciles * READS_A_LOOK
        assert made.reconciles <= COUNT * 8

        rest = await at_rest(running, COUNT, 900)
        assert rest.reads <= rest.reconciles * READS_AT_REST
        assert running.resident_bytes < 300 << 20
