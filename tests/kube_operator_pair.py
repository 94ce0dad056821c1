"""Two swarms that undergo the same: one whose operators are killed, and one whose operator is not."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from gossipswarm_operator import names
from gossipswarm_operator.agents_api import AgentsApi, ask_all
from gossipswarm_operator.client import (
    BUDGETS,
    CONFIG_MAPS,
    CONFIGS,
    NETWORK_POLICIES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    STATEFUL_SETS,
    SWARMS,
    VOLUME_CLAIMS,
    KubeClient,
)
from kube_operator_agents import SETTLED, addresses, change, stands
from kube_operator_lives import Lives, Write, killed_after_every_write
from kube_operator_runs import swarm, until
from podlet import Podlet

KINDS: Final = (
    BUDGETS, CONFIGS, CONFIG_MAPS, NETWORK_POLICIES, SECRETS, SERVICE_ACCOUNTS, SERVICES, STATEFUL_SETS, VOLUME_CLAIMS,
)  # fmt: skip
PROPER: Final = {
    names.APPLIED_ANNOTATION, names.TEMPLATE_ANNOTATION, names.PRIMARY_ANNOTATION, names.DRAIN_ANNOTATION,
    names.DRAINED_ANNOTATION,
}  # fmt: skip
"""Annotations that hold something random, a time, or a hash over either."""
OF_VOLUMES: Final = ("pv.kubernetes.io/", "volume.kubernetes.io/", "volume.beta.kubernetes.io/")
"""Annotations of claims that depend on whether the controller or the podlet was there first."""
Act = Callable[[str], Awaitable[Any]]
"""Something that a user does to the swarm of a namespace."""


class Pair:
    """Two swarms that undergo the same: the operators of one are killed, that of the other is not."""

    def __init__(self, admin: KubeClient, killed: Podlet, calm: Podlet, lives: Lives) -> None:
        self.admin = admin
        self._killed = killed
        self._calm = calm
        self._lives = lives

    @property
    def namespace(self) -> str:
        """Of the swarm whose operators are killed."""
        return self._killed.namespace

    async def begin(self, **spec: Any) -> None:
        """Both swarms as they are before anybody is killed."""
        for podlet in (self._killed, self._calm):
            await self.admin.create(swarm(podlet.namespace, **spec))
        await self._lives.begin()
        for podlet in (self._killed, self._calm):
            await stands(self.admin, podlet.namespace, **SETTLED)
        await self._lives.end()

    async def undergo(
        self, act: Act, over: Callable[[], Awaitable[bool]] | None = None
    ) -> list[list[Write]]:
        """Do something to both, kill the operators of one at every write until that is ``over`` (None: the swarm is as it is
        to be), and compare; what each of them wrote.
        """
        for podlet in (self._killed, self._calm):
            await act(podlet.namespace)
        lived = await killed_after_every_write(self._lives, over or self._is_settled)
        await stands(self.admin, self._calm.namespace, **SETTLED)
        different: dict[str, Any] = {}

        async def are_same() -> bool:
            killed = await picture(self.admin, self._killed)
            calm = await picture(self.admin, self._calm)
            different.clear()
            different.update(
                {
                    what: (killed.get(what), calm.get(what))
                    for what in killed.keys() | calm.keys()
                    if killed.get(what) != calm.get(what)
                }
            )
            return not different

        try:
            await until(are_same)
        except AssertionError:
            raise AssertionError(f"killed and calm differ: {different}") from None
        return lived

    async def change(self, **spec: Any) -> list[list[Write]]:
        """``undergo`` a change of the spec."""
        return await self.undergo(lambda namespace: change(self.admin, namespace, **spec))

    async def change_until_killed(self, **spec: Any) -> None:
        """Change the spec, and have an operator die with its first write."""
        await change(self.admin, self.namespace, **spec)

        async def never() -> bool:
            return False

        await self._lives.begin(1)
        assert not await self._lives.until_idle(never)

    async def after_deletion(self) -> list[Write]:
        """Delete the swarm while no operator is there; what the next one writes until all of it is gone."""
        await self.admin.delete(SWARMS, self.namespace, "demo")
        life = await self._lives.begin()

        async def is_gone() -> bool:
            left = [
                body
                for kind in (SWARMS, PODS, *KINDS)
                for body in await self.admin.list_all(kind, self.namespace)
                if _is_of_swarm(body) and kind != VOLUME_CLAIMS
            ]
            return not left

        await until(is_gone)
        await self._lives.end()
        return life.writes

    async def _is_settled(self) -> bool:
        found = await self.admin.get(SWARMS, self.namespace, "demo")
        assert found is not None
        status = found.get("status") or {}
        if status.get("observedGeneration") != found["metadata"]["generation"]:
            return False
        said = {c["type"]: c["status"] for c in status["conditions"]}
        return all(said[kind] == value for kind, value in SETTLED.items())


async def picture(admin: KubeClient, podlet: Podlet) -> dict[str, Any]:
    """Everything about a swarm but what is random, a time, or proper to its namespace."""
    namespace = podlet.namespace
    source = await admin.get(SWARMS, namespace, "demo")
    assert source is not None
    found: dict[str, Any] = {
        f"{kind.kind} {body['metadata']['name']}": _object(body)
        for kind in KINDS
        for body in await admin.list_all(kind, namespace)
        if _is_of_swarm(body)
    }
    for pod in await admin.list_all(PODS, namespace):
        name = pod["metadata"]["name"]
        # A pod that was made just now has none.
        containers = pod["status"].get("containerStatuses", ())
        found[f"Pod {name}"] = {
            "annotations": _annotations(pod),
            "image": pod["spec"]["containers"][0]["image"],
            "ready": [container["ready"] for container in containers],
            "restarts": [container["restartCount"] for container in containers],
        }
    found["pods by name"] = dict(podlet.taken_in)
    # Why it is converged depends on whether somebody writes just now, which is done to one of the two only.
    found["status"] = [
        (c["type"], c["status"], "" if c["type"] == "Converged" else c["reason"])
        for c in source.get("status", {}).get("conditions", ())
    ]
    agents = await addresses(admin, namespace)
    async with AgentsApi() as api:
        keys = await ask_all(agents, api.keyring)
        configs = await ask_all(agents, api.config)
        states = await ask_all(agents, lambda agent: api.read(agent, "app"))
    rings = {
        json.dumps(keys[name]) if isinstance(keys[name], list) else repr(keys[name])
        for name in keys
    }
    found["keyrings"] = sorted(re.sub("[0-9a-f]{8}", "KEY", ring) for ring in rings)
    found["settings"] = {
        name: (getattr(config, "version", config), getattr(config, "settings", None))
        for name, config in configs.items()
    }
    found["state"] = {name: getattr(state, "value", state) for name, state in states.items()}
    text = json.dumps(found, sort_keys=True, default=str)
    text = text.replace(namespace, "NAMESPACE").replace(source["metadata"]["uid"], "UID")
    pictured: dict[str, Any] = json.loads(text)
    return pictured


def _is_of_swarm(body: dict[str, Any]) -> bool:
    return str(body["metadata"]["name"]).startswith(("demo", "data-demo"))


def _annotations(body: dict[str, Any]) -> dict[str, str]:
    found = body["metadata"].get("annotations") or {}
    return {
        name: value
        for name, value in found.items()
        if name not in PROPER and not name.startswith(OF_VOLUMES)
    }


def _object(body: dict[str, Any]) -> dict[str, Any]:
    metadata, data = body["metadata"], body.get("data") or {}
    spec = {
        name: value
        for name, value in body.get("spec", {}).items()
        if name not in ("clusterIP", "clusterIPs", "volumeName")
    }
    if body["kind"] == "Secret":
        data = sorted(re.sub("-[0-9a-f]{8}$", "", name) for name in data)
    owners = [owner["kind"] for owner in metadata.get("ownerReferences", ())]
    return {
        "annotations": _annotations(body),
        "data": data,
        "labels": metadata.get("labels"),
        "owners": owners,
        "spec": spec,
    }
