"""Looking: everything that a plan needs, from the API server and from the agents. Reads only."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from gossipswarm_operator import access, complaints, keyring, names
from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import (
    BUDGETS,
    BY_KIND,
    CONFIG_MAPS,
    NETWORK_POLICIES,
    PARTITIONS,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    STATEFUL_SETS,
    VOLUME_CLAIMS,
    KubeClient,
)
from gossipswarm_operator.drift import digest
from gossipswarm_operator.inquiry import Inquiry
from gossipswarm_operator.keyring import InvalidKeyring, Ring
from gossipswarm_operator.model import Swarm
from gossipswarm_operator.observed import Object, Observed, Pod, read_pod
from gossipswarm_operator.partition.model import InvalidPartition, parse, swarm_of
from gossipswarm_operator.partition.severing import Cut, combined
from gossipswarm_operator.probing import Knock, PolicyProbe, knock

OWNED: Final = (
    STATEFUL_SETS,
    SERVICES,
    CONFIG_MAPS,
    SERVICE_ACCOUNTS,
    BUDGETS,
    NETWORK_POLICIES,
)
"""Kinds that a swarm's objects are of; Secrets are read by name only."""
Identity = tuple[str, str]


class _Listed(msgspec.Struct, frozen=True):
    """What the API server lists of a swarm. Secrets are not listed, nor watched."""

    objects: Mapping[Identity, Object]
    policies: str
    """Hash of the versions of all NetworkPolicies of the namespace."""
    pods: list[Pod]
    claims: Mapping[str, Object]
    """Volume claims by name."""


class _Known(msgspec.Struct):
    """What is remembered of one swarm."""

    uid: str
    inquiry: Inquiry
    probe: PolicyProbe
    notices: int = 0
    """How often something was noticed to have changed."""
    listed: _Listed | None = None
    listed_until: float = 0.0


class Observer:
    """Looks at swarms, one look at each at a time. ``clock`` gives seconds and never goes back."""

    def __init__(
        self,
        kube: KubeClient,
        agents: AgentsApi,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        relist_seconds: float = 0.0,
        knock: Knock = knock,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``relist_seconds``: for how long what was listed is good, unless there is ``notice`` of a change."""
        self._kube = kube
        self._relist = relist_seconds
        self._now = now
        self._agents = agents
        self._knock = knock
        self._clock = clock
        self._known: dict[tuple[str, str], _Known] = {}

    async def observe(self, swarm: Swarm) -> Observed:
        """Everything about a swarm. Raises ApiError if the API server did not say."""
        objects, policies, pods, claims = await self._cluster(swarm)
        tokens = access.tokens_in(objects.get(("Secret", names.tokens_secret(swarm.name))))
        ring, ring_error = await self._ring(swarm, objects)
        missing, restart, ca = await self._references(swarm)
        known = self._remembered(swarm)
        said = await known.inquiry.ask(swarm, access.addresses(swarm, pods, tokens, ca), pods, ring)
        answering = [pod for pod in pods if pod.name in said.infos]
        closable = swarm.spec.network_policy.mode != "Disabled"
        return Observed(
            objects=objects,
            pods=tuple(pods),
            claims=claims,
            agents=said.infos,
            silent=said.silent,
            keys=said.keys,
            settings=said.settings,
            ring=ring,
            ring_error=ring_error,
            tokens=tokens,
            delivered=said.delivered,
            gossip_port_open=await known.probe.gossip_port_open(answering, policies)
            if closable
            else None,
            missing=missing,
            restart=restart,
            cut=await self._cut(swarm, pods, objects),
            creation_failures=await complaints.of_stateful_sets(self._kube, swarm, objects, pods),
            claim_failures=await complaints.of_claims(self._kube, swarm, claims),
        )

    def forget(self, key: tuple[str, str]) -> None:
        """A swarm is gone."""
        self._known.pop(key, None)

    def notice(self, key: tuple[str, str]) -> None:
        """Something of a swarm changed, or is about to."""
        known = self._known.get(key)
        if known is not None:
            known.notices += 1
            known.listed = None

    def _remembered(self, swarm: Swarm) -> _Known:
        key = (swarm.namespace, swarm.name)
        known = self._known.get(key)
        if known is None or known.uid != swarm.uid:
            inquiry = Inquiry(self._agents, self._clock)
            known = _Known(swarm.uid, inquiry, PolicyProbe(self._knock, self._clock))
            self._known[key] = known
        return known

    # --- the cluster ------------------------------------------------------------------------------

    async def _cluster(
        self, swarm: Swarm
    ) -> tuple[dict[Identity, Object], str, list[Pod], Mapping[str, Object]]:
        """What the swarm has, which NetworkPolicies there are, its pods, and its volume claims by name."""
        async with asyncio.TaskGroup() as group:
            listing = group.create_task(self._listed(swarm))
            secrets = [
                group.create_task(self._kube.get(SECRETS, swarm.namespace, name))
                for name in (names.keyring_secret(swarm.name), names.tokens_secret(swarm.name))
            ]
        listed = listing.result()
        objects = dict(listed.objects)
        for task in secrets:
            found = task.result()
            if found is not None:
                objects["Secret", found["metadata"]["name"]] = found
        await self._strangers(swarm, objects)
        return objects, listed.policies, listed.pods, listed.claims

    async def _listed(self, swarm: Swarm) -> _Listed:
        """What was listed a while ago, if nothing has happened since; every change is watched."""
        known = self._remembered(swarm)
        if known.listed is not None and self._clock() < known.listed_until:
            return known.listed
        notices = known.notices
        found = await self._list(swarm)
        if self._relist > 0 and known.notices == notices:
            known.listed, known.listed_until = found, self._clock() + self._relist
        return found

    async def _list(self, swarm: Swarm) -> _Listed:
        ours = names.owned_selector(swarm.name)
        agents = names.selector_text(names.agent_selector(swarm.name))
        async with asyncio.TaskGroup() as group:
            listed = [
                group.create_task(self._kube.list_all(kind, swarm.namespace, labels=ours))
                for kind in OWNED
                if kind != NETWORK_POLICIES
            ]
            # Those of others count as well: policies add up.
            policies = group.create_task(self._kube.list_all(NETWORK_POLICIES, swarm.namespace))
            partitions = group.create_task(self._kube.list_all(PARTITIONS, swarm.namespace))
            pods = group.create_task(self._kube.list_all(PODS, swarm.namespace, labels=agents))
            claims = group.create_task(
                self._kube.list_all(VOLUME_CLAIMS, swarm.namespace, labels=agents)
            )
        objects = {
            (found["kind"], found["metadata"]["name"]): found
            for task in listed
            for found in task.result()
        }
        objects |= {
            (NETWORK_POLICIES.kind, found["metadata"]["name"]): found
            for found in policies.result()
            if names.is_owned(found, swarm.name)
        }
        objects |= {
            (PARTITIONS.kind, found["metadata"]["name"]): found
            for found in partitions.result()
            if swarm_of(found) == swarm.name
        }
        return _Listed(
            objects,
            digest(sorted(_version(found) for found in policies.result())),
            [pod for found in pods.result() if (pod := read_pod(found)) is not None],
            {found["metadata"]["name"]: found for found in claims.result()},
        )

    async def _strangers(self, swarm: Swarm, objects: dict[Identity, Object]) -> None:
        """Look by name for what no list had: there may be something of somebody else."""
        async with asyncio.TaskGroup() as group:
            asked = {
                (kind, name): group.create_task(
                    self._kube.get(BY_KIND[kind], swarm.namespace, name)
                )
                for kind, name in expected(swarm)
                if (kind, name) not in objects and kind != "Secret"
            }
        for identity, task in asked.items():
            found = task.result()
            if found is not None:
                objects[identity] = found

    async def _cut(self, swarm: Swarm, pods: Sequence[Pod], objects: dict[Identity, Object]) -> Cut:
        """What SwarmPartitions cut now, and what may stand where its ConfigMap should."""
        now, live = self._now(), []
        for (kind, _), found in objects.items():
            if kind == PARTITIONS.kind:
                with contextlib.suppress(InvalidPartition):  # its own status says so
                    live.append(parse(found))
        regions = {*swarm.regions, *(pod.region for pod in pods)}
        cut = combined([partition for partition in live if partition.is_live(now)], regions)
        identity = ("ConfigMap", names.cut_config_map(swarm.name))
        if cut and identity not in objects:
            stranger = await self._kube.get(CONFIG_MAPS, swarm.namespace, identity[1])
            if stranger is not None:
                objects[identity] = stranger
        return cut

    async def _ring(
        self, swarm: Swarm, objects: Mapping[Identity, Object]
    ) -> tuple[Ring | None, str | None]:
        if not swarm.encrypted:
            return None, None
        own = swarm.spec.encryption.secret_name
        secret: Object | None
        if own is not None:
            secret = await self._kube.get(SECRETS, swarm.namespace, own)
        else:
            secret = objects.get(("Secret", names.keyring_secret(swarm.name)))
        if secret is None:
            return None, None
        try:
            return keyring.read_ring(secret), None
        except InvalidKeyring as error:
            return None, f"Secret {secret['metadata']['name']}: {error}"

    async def _references(self, swarm: Swarm) -> tuple[tuple[str, ...], dict[str, str], str | None]:
        """What is referred to and missing, hashes of what is read at the start only, and the API's authority."""
        spec, missing = swarm.spec, []
        restart: dict[str, str] = {}
        authority = None
        hooks = spec.hooks.config_map_name
        if hooks is not None:
            found = await self._kube.get(CONFIG_MAPS, swarm.namespace, hooks)
            if found is None:
                missing.append(f"ConfigMap {hooks}")
            else:
                lacking = _lacking(found, "hooks.yaml")
                missing += lacking
                if not lacking:
                    restart[names.HOOKS_ANNOTATION] = digest(found.get("data") or {})
        tls = spec.api.tls.secret_name
        if tls is not None:
            found = await self._kube.get(SECRETS, swarm.namespace, tls)
            if found is None:
                missing.append(f"Secret {tls}")
            else:
                missing += _lacking(found, "tls.crt", "tls.key")
                authority = access.authority_in(found)
        return tuple(missing), restart, authority


def expected(swarm: Swarm) -> list[Identity]:
    """Kind and name of everything that a swarm is to have."""
    found = [
        ("ServiceAccount", names.service_account(swarm.name)),
        ("Secret", names.tokens_secret(swarm.name)),
        ("ConfigMap", names.config_map(swarm.name)),
        ("Service", names.client_service(swarm.name)),
    ]
    for region in swarm.regions:
        name = names.stateful_set(swarm.name, region)
        found += [("Service", name), ("StatefulSet", name)]
        if swarm.spec.network_policy.mode == "Enabled":
            found.append(("NetworkPolicy", name))
        if swarm.spec.pdb.mode == "Enabled":
            found.append(("PodDisruptionBudget", name))
    return found


def _lacking(found: Object, *keys: str) -> list[str]:
    """Keys that a ConfigMap or Secret ought to have."""
    data = found.get("data") or {}
    what = f"{found['kind']} {found['metadata']['name']}"
    return [f"key {key} of {what}" for key in keys if key not in data]


def _version(found: Object) -> str:
    """What differs once the spec of an object does, or there is another object of the name."""
    metadata = found["metadata"]
    return f"{metadata['uid']}.{metadata.get('generation', 0)}"
