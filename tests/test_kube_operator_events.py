"""What the operator tells: once, with a count, and by name where it may not look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gossipswarm_operator import events
from gossipswarm_operator.client import EVENTS, SWARMS, KubeClient
from kube import Cluster
from kube_operator_agents import operating
from kube_operator_runs import (
    RULES,
    cluster_admin,
    condition,
    operator_account,
    reconciler,
    rights_count,
    swarm,
    until,
)

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures


async def told(admin: KubeClient, namespace: str, reason: str) -> list[dict[str, Any]]:
    found = await admin.list_all(EVENTS, namespace)
    return [event for event in found if event["reason"] == reason]


async def test_a_refusal_that_comes_again_a_hundred_times_is_one_event_with_a_count(
    cluster: Cluster, admin: KubeClient, namespace: str, account: Path, monkeypatch
):
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"services": "0"}},
    }
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    cluster.request("POST", path, quota)

    async def counted() -> bool:
        return "used" in cluster.request("GET", f"{path}/small").get("status", {})

    await until(counted)
    await admin.create(swarm(namespace, regions=[{"name": "us-east", "replicas": 0}]))
    # However long the looks take, all of them fall within the time of one count.
    monkeypatch.setattr(events, "REPEAT_SECONDS", 3600.0)
    async with reconciler(account) as (operator, calls):
        for _ in range(50):
            await operator.reconcile((namespace, "demo"))
        refusals = await told(admin, namespace, "QuotaExceeded")
        # One for each of the two Services.
        assert len({event["message"] for event in refusals}) == len(refusals) == 2
        assert calls.seen.count(("patch", "events")) == 0, "a count rises now and then only"
        monkeypatch.setattr(events, "REPEAT_SECONDS", 0.0)
        for _ in range(50):
            await operator.reconcile((namespace, "demo"))
    refusals = await told(admin, namespace, "QuotaExceeded")
    assert [event["count"] for event in refusals] == [100, 100]
    assert all(event["lastTimestamp"] >= event["firstTimestamp"] for event in refusals)
    assert (
        len(await admin.list_all(EVENTS, namespace, fields="involvedObject.kind=GossipSwarm")) < 12
    )


async def test_where_secrets_are_forbidden_the_binding_is_named_and_then_everything_comes_about(
    cluster: Cluster, admin: KubeClient, namespace: str, account: Path
):
    rules = yaml.safe_load(RULES.read_text("utf-8"))
    forbidden = rules.pop("secrets")
    allow(cluster, namespace, [rule for group in rules.values() for rule in group])
    await admin.create(swarm(namespace, regions=[{"name": "us-east", "replicas": 0}]))
    async with operating(account, namespace):

        async def is_said() -> bool:
            found = await admin.get(SWARMS, namespace, "demo")
            assert found is not None
            if "status" not in found:
                return False
            ready = condition(found, "Ready")
            return (
                ready["reason"] == "Forbidden"
                and f"may not touch Secrets in namespace {namespace}" in ready["message"]
                and "gossipswarm-operator-secrets" in ready["message"]
            )

        await until(is_said)
        assert len(await told(admin, namespace, "Forbidden")) == 1
        every = [rule for group in rules.values() for rule in group]
        allow(cluster, namespace, [*every, *forbidden])

        async def is_ready() -> bool:
            found = await admin.get(SWARMS, namespace, "demo")
            assert found is not None
            return condition(found, "Ready")["status"] == "True"

        await until(is_ready)
    assert len(await told(admin, namespace, "Forbidden")) == 1


def allow(cluster: Cluster, namespace: str, rules: list[dict[str, Any]]) -> None:
    """Give the operator's Role just these rules, and wait until they count."""
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles/operator"
    cluster.request("PATCH", path, {"rules": rules}, "application/merge-patch+json")
    of_secrets = [rule for rule in rules if "secrets" in rule["resources"]]
    rights_count(
        cluster, namespace, with_secrets=any("resourceNames" not in rule for rule in of_secrets)
    )
