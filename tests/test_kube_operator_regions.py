"""Regions that come, go and change their size, with real agents: nobody leaves with what only it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gossipswarm_operator import names
from gossipswarm_operator.agents_api import AgentsApi, ask_all
from gossipswarm_operator.client import (
    BUDGETS,
    NETWORK_POLICIES,
    PODS,
    SERVICES,
    STATEFUL_SETS,
    VOLUME_CLAIMS,
    KubeClient,
)
from kube_operator_agents import SETTLED, addresses, change, operating, stands
from kube_operator_runs import (
    cluster_admin,
    condition,
    followed,
    operator_account,
    swarm,
    until,
)
from podlet import Podlet

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures


def regions(**replicas: int) -> list[dict[str, Any]]:
    return [{"name": name.replace("_", "-"), "replicas": n} for name, n in replicas.items()]


async def claims(admin: KubeClient, namespace: str) -> set[str]:
    return {found["metadata"]["name"] for found in await admin.list_all(VOLUME_CLAIMS, namespace)}


def departures(changes: list[tuple[str, Any]]) -> dict[str, bool]:
    """Pods that were told to go, and whether others had all of theirs by then."""
    seen: dict[str, bool] = {}
    for _, pod in changes:
        metadata = pod["metadata"]
        if "deletionTimestamp" in metadata:
            handed_over = names.DRAINED_ANNOTATION in metadata.get("annotations", {})
            seen.setdefault(metadata["name"], handed_over)
    return seen


async def departed(changes: list[tuple[str, Any]], *pods: str) -> None:
    """Wait until these have been told to go; no others were, and others had all of theirs by then."""

    async def are_told() -> bool:
        return set(pods) <= departures(changes).keys()

    await until(are_told)
    assert departures(changes) == dict.fromkeys(pods, True)


async def gone(admin: KubeClient, namespace: str, region: str) -> bool:
    """Nothing of a region is left but, perhaps, volumes."""
    kinds = (STATEFUL_SETS, SERVICES, NETWORK_POLICIES, BUDGETS)
    found = [await admin.get(kind, namespace, f"demo-{region}") for kind in kinds]
    label = f"{names.REGION_LABEL}={region}"
    return not any(found) and not await admin.list_all(PODS, namespace, labels=label)


async def hold(admin: KubeClient, api: AgentsApi, namespace: str, key: str, value: Any) -> bool:
    """Whether every agent has this value."""
    found = await ask_all(await addresses(admin, namespace), lambda agent: api.read(agent, key))
    return all(getattr(read, "value", None) == value for read in found.values())


async def empty(admin: KubeClient, namespace: str) -> bool:
    return await admin.list_all(PODS, namespace) == []


async def test_a_region_is_added_and_goes_when_others_hold_all_that_its_agents_have(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(swarm(namespace, regions=regions(us_east=1)))
    async with operating(account, namespace), AgentsApi() as api:
        await stands(admin, namespace, **SETTLED)
        (first,) = await addresses(admin, namespace)
        await api.put(first, "before", "the region")
        await change(admin, namespace, regions=regions(us_east=1, eu_west=2, ap_south=1))
        found = await stands(admin, namespace, **SETTLED, Partitioned="False")
        assert found["status"]["ready"] == "4/4"
        assert [region["ready"] for region in found["status"]["regions"]] == [1, 2, 1]
        assert await hold(admin, api, namespace, "before", "the region")

        async with followed(admin, PODS, namespace) as changes:
            leaving = next(a for a in await addresses(admin, namespace) if a.region == "eu-west")
            await api.put(leaving, "last", "words", trace=False)
            await change(admin, namespace, regions=regions(us_east=1, ap_south=1))
            await until(lambda: gone(admin, namespace, "eu-west"))
            await departed(changes, "demo-eu-west-0", "demo-eu-west-1")
        await until(lambda: hold(admin, api, namespace, "last", "words"))
        kept = {"data-demo-eu-west-0", "data-demo-eu-west-1"}
        assert kept <= await claims(admin, namespace)

        await stands(admin, namespace, **SETTLED)
        await change(admin, namespace, storage={"retention": "Delete"})
        await stands(admin, namespace, **SETTLED)
        await change(admin, namespace, regions=regions(us_east=1))
        await until(lambda: gone(admin, namespace, "ap-south"))

        async def removed() -> bool:
            return await claims(admin, namespace) == {"data-demo-us-east-0", *kept}

        await until(removed)
        found = await stands(admin, namespace, **SETTLED)
        assert found["status"]["ready"] == "1/1"


async def test_a_region_shrinks_to_one_to_none_and_comes_back_with_all_there_was(
    admin: KubeClient, namespace: str, account: Path, podlet: Podlet
):
    await admin.create(swarm(namespace, regions=regions(us_east=2, eu_west=1)))
    async with operating(account, namespace), AgentsApi() as api:
        await stands(admin, namespace, **SETTLED)
        async with followed(admin, PODS, namespace) as changes:
            last = next(a for a in await addresses(admin, namespace) if a.name == "demo-us-east-1")
            await api.put(last, "from", "the second", trace=False)
            await change(admin, namespace, regions=regions(us_east=1, eu_west=1))
            await stands(admin, namespace, **SETTLED)
            last = next(a for a in await addresses(admin, namespace) if a.region == "us-east")
            await api.put(last, "and", "the first", trace=False)
            await change(admin, namespace, regions=regions(us_east=0, eu_west=1))
            found = await stands(admin, namespace, **SETTLED, Available="True")
            assert found["status"]["ready"] == "1/1"
            await departed(changes, "demo-us-east-1", "demo-us-east-0")
        assert await hold(admin, api, namespace, "from", "the second")
        assert await hold(admin, api, namespace, "and", "the first")

        await change(admin, namespace, regions=regions(us_east=0, eu_west=0))
        found = await stands(admin, namespace, Ready="True", Available="False", Progressing="False")
        assert condition(found, "Available")["reason"] == "NoAgents"
        await until(lambda: empty(admin, namespace))

        await change(admin, namespace, regions=regions(us_east=1, eu_west=1))
        await stands(admin, namespace, **SETTLED, Available="True")
        assert await hold(admin, api, namespace, "from", "the second")
        assert await hold(admin, api, namespace, "and", "the first")
