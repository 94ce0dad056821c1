"""Whatever somebody else does to what a swarm is made of, on a real API server: what is ours is put right and said once,
what is theirs is left alone, and then there is rest.

Fields come from what the operator applies, so a new one is covered by itself. What counts as ours is what the API server
says: a change has to be put right if and only if our field manager has lost a field by it.
"""

from __future__ import annotations

import asyncio
import base64
import re
from pathlib import Path as File
from typing import Any

import pytest

from gossipswarm_operator import names, reconcile
from gossipswarm_operator.actions import Action, Apply, described
from gossipswarm_operator.client import CONFIG_MAPS, EVENTS, SECRETS, KubeClient
from gossipswarm_operator.observe import OWNED as KINDS
from gossipswarm_operator.reconcile import SwarmReconciler
from kube_operator_runs import (
    OWNED,
    cluster_admin,
    operator_account,
    reconciler,
    settled,
    swarm,
    until,
)
from kube_tampering import Thing, changes, content
from object_fields import named
from test_operator_builders import SWARMS

pytestmark = pytest.mark.kube
__all__ = ["cluster_admin", "operator_account"]  # fixtures

SWARM_NAMES = ("demo", "demo-b", "demo-c", "demo-d")
REGIONS = 8
"""In each swarm. They are alike, so that as many fields of one kind can be changed at a time."""
FIXED = {
    "Secret type",
    "Service spec.clusterIP",
    "Service spec.type",  # of a headless one
    "StatefulSet spec.podManagementPolicy",
    "StatefulSet spec.serviceName",
    "StatefulSet spec.updateStrategy.type",  # while it has a partition
    *(
        f"StatefulSet spec.{where}.gossipswarm.io/{label}"
        for where in ("selector.matchLabels", "template.metadata.labels")
        for label in ("region", "role", "swarm")
    ),
    "StatefulSet spec.template.spec.containers.env.valueFrom.fieldRef.apiVersion",
    "StatefulSet spec.template.spec.volumes.name",
    "StatefulSet spec.volumeClaimTemplates.metadata.name",
    "StatefulSet spec.volumeClaimTemplates.spec.accessModes",
    "StatefulSet spec.volumeClaimTemplates.spec.resources.requests.storage",
    "StatefulSet spec.volumeClaimTemplates.spec.storageClassName",
}
"""What the API server lets nobody change."""
SAID = {("patch", "gossipswarms"), ("create", "events"), ("patch", "events")}
"""Calls by which the status and events say that all is well again."""


def everything(namespace: str, name: str) -> dict[str, Any]:
    """A swarm that uses every field there is, without agents."""
    spec = {**SWARMS["everything"]}
    region = {**spec["regions"][0], "replicas": 0}
    region["affinity"] = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}
                ]
            }
        }
    }
    spec["regions"] = [{**region, "name": f"r{number}"} for number in range(REGIONS)]
    body = swarm(namespace, **spec)
    body["metadata"]["name"] = name
    return body


async def referred_to(admin: KubeClient, namespace: str) -> None:
    """Make what such a swarm refers to."""
    for resource, name, data in (
        (CONFIG_MAPS, "agents-hooks", {"hooks.yaml": "hooks: []"}),
        (SECRETS, "agents-tls", {"tls.crt": "", "tls.key": ""}),
    ):
        metadata = {"name": name, "namespace": namespace}
        await admin.create(
            {"apiVersion": "v1", "kind": resource.kind, "metadata": metadata, "data": data}
        )


class Run:
    """Swarms, their objects, and an operator that looks when it is told to."""

    def __init__(self, admin: KubeClient, namespace: str, operator: SwarmReconciler) -> None:
        self._admin = admin
        self._namespace = namespace
        self._operator = operator
        self.things: list[Thing] = []

    async def look(self, times: int = 1) -> None:
        """Reconcile every swarm."""
        for _ in range(times):
            keys = [(self._namespace, name) for name in SWARM_NAMES]
            await asyncio.gather(*map(self._operator.reconcile, keys))

    async def objects(self) -> dict[str, dict[str, Any]]:
        """Everything there is, by kind and name."""
        kinds = (*KINDS, SECRETS)
        lists = await asyncio.gather(*(self._admin.list_all(k, self._namespace) for k in kinds))
        return {f"{o['kind']} {o['metadata']['name']}": o for found in lists for o in found}

    async def take_stock(self, applied: list[dict[str, Any]]) -> None:
        """Note how things ought to be, and what is to be done to them: of those that are alike each gets a part."""
        found = await self.objects()
        alike: dict[tuple[str, ...], list[Thing]] = {}
        for identity, body in {f"{b['kind']} {b['metadata']['name']}": b for b in applied}.items():
            thing = Thing(self._admin, body, found[identity])
            self.things.append(thing)
            labels = body["metadata"]["labels"]
            regional = names.REGION_LABEL in labels
            group = (body["kind"], labels[names.COMPONENT_LABEL], str(regional))
            alike.setdefault(group, []).append(thing)
        for group in alike.values():
            for number, change in enumerate(changes(group[0].body)):
                group[number % len(group)].todo.append(change)

    async def news(self) -> str:
        """What events have said of swarms since the last time."""
        found = await self._admin.list_all(EVENTS, self._namespace)
        path = EVENTS.path(self._namespace)
        await self._admin._call("DELETE", "delete", EVENTS, path)
        return "".join(e["message"] for e in found if e["involvedObject"]["kind"] == "GossipSwarm")


def told(actions: list[Action], identity: str) -> list[str]:
    """The fields that are named when it is said what was done to an object."""
    found = [re.fullmatch(r"\w+ (\w+ \S+)(?: \((.*)\))?", described(did)) for did in actions]
    return [match[2] or "" for match in found if match is not None and match[1] == identity]


async def test_every_field_is_put_right_and_named_once_and_what_others_own_is_theirs(
    admin: KubeClient, namespace: str, account: File, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reconcile, "TOLD_ACTIONS", 3)
    await referred_to(admin, namespace)
    for name in SWARM_NAMES:
        await admin.create(everything(namespace, name))
    actions: list[Action] = []
    fixed: set[str] = set()
    wrong: list[str] = []
    heard = ""
    async with reconciler(account, checkpoint=actions.append) as (operator, calls):
        run = Run(admin, namespace, operator)
        await run.look(4)
        await run.take_stock([did.body for did in actions if isinstance(did, Apply)])
        assert len(run.things) == len(SWARM_NAMES) * (5 + 4 * REGIONS)
        while any(thing.todo for thing in run.things):
            busy = [(thing, thing.todo.popleft()) for thing in run.things if thing.todo]
            took = await asyncio.gather(*(thing.suffer(change) for thing, change in busy))
            before = await run.objects()
            actions.clear()
            await run.look()
            did = list(actions)
            after = await run.objects()
            calls.seen.clear()
            await run.look()
            wrong += [f"{call} though all is right" for call in calls.writes if call not in SAID]
            for (thing, change), done in zip(busy, took, strict=True):
                if not done and change.how == "patch":
                    fixed.add(f"{thing.body['kind']} {named(change.paths[0])}")
                states = (before[thing.identity], after[thing.identity])
                wrong += thing.verdict(change, *states, told(did, thing.identity))
                if content(states[1]) != content(thing.found):
                    await thing.restore()
            heard += await run.news()
            if did and described(did[0]) not in heard:
                wrong.append(f"no event: {described(did[0])}")
        await run.look(2)
        calls.seen.clear()
        await run.look(2)
        assert calls.writes == []
    assert not wrong, "\n".join(wrong)
    assert fixed == FIXED


async def test_what_is_given_to_an_owner_that_does_not_exist_is_made_again_by_its_own(
    admin: KubeClient, namespace: str, account: File
):
    await admin.create(swarm(namespace, regions=[{"name": "us-east", "replicas": 0}]))
    async with reconciler(account) as (operator, _):
        await settled(operator, (namespace, "demo"), 3)
        before = {}
        for resource, name in OWNED:
            found = await admin.get(resource, namespace, name)
            assert found is not None
            before[resource, name] = found["metadata"]["uid"]
            (owner,) = found["metadata"]["ownerReferences"]
            metadata = {"ownerReferences": [{**owner, "uid": "nobody"}]}
            await admin.merge(resource, namespace, name, {"metadata": metadata})

        async def whole() -> bool:
            await operator.reconcile((namespace, "demo"))
            found = [await admin.get(resource, namespace, name) for resource, name in before]
            uids = [body and body["metadata"]["uid"] for body in found]
            return None not in uids and not set(uids) & set(before.values())

        await until(whole)


async def test_a_lost_token_is_replaced_and_one_that_somebody_set_is_kept(
    admin: KubeClient, namespace: str, account: File
):
    async def read(name: str) -> dict[str, str]:
        found = await admin.get(SECRETS, namespace, name)
        assert found is not None
        return dict(found["data"])

    async def set_data(name: str, data: dict[str, str | None]) -> dict[str, str]:
        await admin.merge(SECRETS, namespace, name, {"data": data})
        await settled(operator, (namespace, "demo"), 2)
        calls.seen.clear()
        await settled(operator, (namespace, "demo"), 2)
        assert calls.writes == []
        return await read(name)

    await admin.create(swarm(namespace, regions=[{"name": "us-east", "replicas": 0}]))
    async with reconciler(account) as (operator, calls):
        await settled(operator, (namespace, "demo"), 3)
        mine = base64.b64encode(b"of my own").decode()
        assert (await set_data("demo-tokens", {"write": mine}))["write"] == mine
        assert (await set_data("demo-tokens", {"write": None})).keys() == {"read", "write"}
        assert "" not in (await read("demo-tokens")).values()
        (key,) = await read("demo-keyring")
        after = await set_data("demo-keyring", {"primary": mine})
        assert len(after) == 1
        assert key not in after
    events = [event["message"] for event in await admin.list_all(EVENTS, namespace)]
    assert any("primary is not a key: 32 bytes in base64" in message for message in events)
