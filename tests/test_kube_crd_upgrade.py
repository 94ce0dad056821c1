"""CRDs that are replaced while objects of theirs live and the operator works."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gossipswarm_operator.client import CONFIGS, EVENTS, SWARMS, KubeClient
from kube import CRDS, Cluster, KubeError, wait_until
from kube_operator_runs import (
    OWNED,
    cluster_admin,
    operator_account,
    reconciler,
    settled,
    swarm,
    until,
)

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures

NEWER_SPEC = ("pdb", "networkPolicy", "reconciliation")
"""Fields of GossipSwarm's spec that the older CRD does not have; all of them have defaults."""
NEWER_STATUS = ("settingsVersion",)
NEWER_COLUMNS = ("Partition", "Version")
API = "gossipswarm.io/v1alpha1"


def older(document: dict[str, Any]) -> dict[str, Any]:
    """The CRD as it was before the fields that later versions added."""
    found = copy.deepcopy(document)
    version = found["spec"]["versions"][0]
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    if found["spec"]["names"]["kind"] == "GossipSwarm":
        for name in NEWER_SPEC:
            del properties["spec"]["properties"][name]
        for name in NEWER_STATUS:
            del properties["status"]["properties"][name]
        version["additionalPrinterColumns"] = [
            column
            for column in version["additionalPrinterColumns"]
            if column["name"] not in NEWER_COLUMNS
        ]
    if found["spec"]["names"]["kind"] == "SwarmConfig":
        del properties["spec"]["properties"]["conflictPolicy"]
    return found


@pytest.fixture
def crds(cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """A directory with the older CRDs; the present ones are back in the end."""
    directory = tmp_path / "older"
    directory.mkdir()
    for file in CRDS.glob("*.yaml"):
        document = older(yaml.safe_load(file.read_text("utf-8")))
        (directory / file.name).write_text(yaml.safe_dump(document), "utf-8")
    try:
        yield directory
    finally:
        install(cluster, CRDS)
        # The next test is to find these.
        probe = swarm("default")
        tried = f"{SWARMS.path('default')}?dryRun=All"
        wait_until(
            lambda: "pdb" in cluster.request("POST", tried, probe)["spec"],
            120,
            "the present CRDs are served",
        )


def install(cluster: Cluster, directory: Path) -> None:
    """As the guide says: by server-side apply."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={directory}")


def columns(cluster: Cluster, namespace: str) -> list[str]:
    shown = cluster.kubectl("get", "gossipswarms", "--namespace", namespace).stdout
    return shown.splitlines()[0].split()


async def test_objects_of_older_crds_are_those_of_the_present_ones_after_an_upgrade(
    cluster: Cluster, admin: KubeClient, namespace: str, account: Path, crds: Path
):
    install(cluster, crds)
    await until_served(admin, namespace, absent=True)
    await admin.create(swarm(namespace, replicasPerRegion=0))
    await admin.create(config(namespace))
    assert "VERSION" not in columns(cluster, namespace)
    async with reconciler(account) as (operator, calls):
        await settled(operator, (namespace, "demo"), 3)
        before = await specs(admin, namespace)

        install(cluster, CRDS)
        await until_served(admin, namespace, absent=False)
        found = await admin.get(SWARMS, namespace, "demo")
        assert found is not None
        assert found["spec"]["pdb"] == {"mode": "Enabled", "maxUnavailable": 1}
        assert found["spec"]["networkPolicy"] == {"mode": "Enabled"}
        assert found["spec"]["reconciliation"] == "Active"
        delivered = await admin.get(CONFIGS, namespace, "settings")
        assert delivered is not None
        assert delivered["spec"]["conflictPolicy"] == "Override"
        assert {"PARTITION", "VERSION"} <= set(columns(cluster, namespace))

        # It is the same swarm to the operator, which only says what the older CRD could not hold.
        await settled(operator, (namespace, "demo"), 2)
        assert await specs(admin, namespace) == before
        calls.seen.clear()
        await settled(operator, (namespace, "demo"), 2)
        assert calls.writes == []
    found = await admin.get(SWARMS, namespace, "demo")
    assert found is not None
    assert found["status"]["settingsVersion"] == 0
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    # What was valid is valid: it can be written again, and what is wrong is refused as in any other object.
    await admin.merge(SWARMS, namespace, "demo", {"spec": {"pdb": {"maxUnavailable": 2}}})
    with pytest.raises(Exception, match="maxUnavailable"):
        await admin.merge(SWARMS, namespace, "demo", {"spec": {"pdb": {"maxUnavailable": -1}}})


async def test_a_downgrade_says_what_it_drops_and_the_operator_goes_on(
    cluster: Cluster, admin: KubeClient, namespace: str, account: Path, crds: Path
):
    wanted = swarm(namespace, replicasPerRegion=0, pdb={"mode": "Enabled", "maxUnavailable": 2})
    await admin.create(wanted)
    async with reconciler(account) as (operator, calls):
        await settled(operator, (namespace, "demo"), 3)
        install(cluster, crds)
        await until_served(admin, namespace, absent=True)
        # To who applies the manifest again: by name, before anything is stored.
        with pytest.raises(KubeError, match=r'unknown field "spec.pdb"'):
            cluster.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(wanted))
        # And by the operator, of what it could not store.
        await settled(operator, (namespace, "demo"), 3)
        events = await admin.list_all(EVENTS, namespace)
        said = [event for event in events if event["reason"] == "CRDOutdated"]
        assert len(said) == 1
        assert "status.settingsVersion" in said[0]["message"]
        for resource, name in OWNED:
            assert await admin.get(resource, namespace, name) is not None
        calls.seen.clear()
        await settled(operator, (namespace, "demo"), 2)
        assert [call for call in calls.writes if call[0] != "patch"] == []


def config(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "SwarmConfig",
        "metadata": {"name": "settings", "namespace": namespace},
        "spec": {"swarmRef": {"name": "demo"}, "prefix": "app", "data": {"ttl": 60}},
    }


async def specs(admin: KubeClient, namespace: str) -> list[Any]:
    """What the swarm consists of, as far as somebody wants it so."""
    found = [await admin.get(resource, namespace, name) for resource, name in OWNED]
    assert all(body is not None for body in found)
    return [[body["metadata"]["uid"], body.get("spec"), body.get("data")] for body in found if body]


async def until_served(admin: KubeClient, namespace: str, *, absent: bool) -> None:
    """Wait until the API server judges by the CRD that was applied: it takes a moment."""
    probe = swarm(namespace, replicasPerRegion=0, pdb={"maxUnavailable": 2})
    probe["metadata"]["name"] = "probe"

    async def is_so() -> bool:
        await admin.delete(SWARMS, namespace, "probe")
        found = await admin.create(probe)
        return ("pdb" not in found["spec"]) == absent

    await until(is_so)
    await admin.delete(SWARMS, namespace, "probe")
