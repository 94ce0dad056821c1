"""One delivery: observe, plan, write at an agent, and see who has it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from gossipswarm_operator import conditions
from gossipswarm_operator.agent_documents import AgentAddress, Line
from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import CONFIGS, SWARMS, KubeClient, Object
from gossipswarm_operator.conditions import false
from gossipswarm_operator.swarmconfig import (
    claims,
    delivery,
    ledger,
    observing,
    planning,
    status,
    survey,
    trial,
    writing,
)
from gossipswarm_operator.swarmconfig.digests import Digests
from gossipswarm_operator.swarmconfig.keys import Leaves
from gossipswarm_operator.swarmconfig.model import SwarmConfig
from gossipswarm_operator.swarmconfig.planning import Delta
from gossipswarm_operator.swarmconfig.record import Record
from gossipswarm_operator.swarmconfig.rendering import render
from gossipswarm_operator.swarmconfig.status import Drift, Outcome
from gossipswarm_operator.swarmconfig.survey import Survey, SwarmAgent
from gossipswarm_operator.swarmconfig.trial import CanaryAgent

WAITING_SECONDS: Final = 10.0
"""Until a look whether the cause of a refusal is gone; what can be watched is seen at once."""
SPREADING_SECONDS: Final = (1.0, 10.0)
"""Between two looks at who has a version, at first and in the end."""


class Blocked(Exception):
    """Nothing can be delivered now. ``reason`` stands in the condition; ``seconds``: when to look again."""

    def __init__(
        self,
        reason: str,
        message: str,
        seconds: float = WAITING_SECONDS,
        *,
        agents_asked: bool = True,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.seconds = seconds
        self.agents_asked = agents_asked


class Glance(msgspec.Struct, frozen=True):
    """How to see at hardly any cost that everything is as it was: by one key's etag at one agent."""

    address: AgentAddress
    key: str
    etag: str


class Result(msgspec.Struct, frozen=True):
    """What came of a delivery. ``glance`` is there if nothing is left to do."""

    outcome: Outcome
    seconds: float | None
    glance: Glance | None = None


class Run:
    """A delivery of one SwarmConfig."""

    def __init__(
        self, kube: KubeClient, api: AgentsApi, record: Record, config: SwarmConfig
    ) -> None:
        self._kube = kube
        self._api = api
        self._record = record
        self._config = config
        self._before = record.status
        self._trial = trial.read(self._before)

    async def deliver(self) -> Result:
        """Raises Blocked, Unrenderable, delivery.Changed, delivery.Refused, record.TooLarge or ApiError."""
        config = self._config
        swarm = await self._find_swarm()
        listed = await self._kube.list_all(CONFIGS, config.namespace)
        claimed = claims.read(listed, config.swarm)
        self._check_claim(claimed)
        refs = [source.ref for source in config.sources]
        wanted = render(config, await observing.sources(self._kube, config.namespace, refs))
        self._check_regions(swarm)
        agents, token = await find_agents(self._kube, swarm)
        digests = Digests(token.encode())
        base = await survey.take(self._api, agents, config.prefix)
        owned = ledger.read(self._before)
        writer = base.best(agents, lambda leaves: _distance(leaves, wanted, owned))
        if writer is None:
            raise unreachable(base)
        version = digests.version(wanted)
        known = self._before.get("version")
        delta = planning.plan(
            wanted,
            base.holdings[writer.name].leaves,
            owned,
            digests,
            override=config.override,
            prune=config.prune,
            delivered=known == version,
            foreign=claims.foreign_keys(claimed, config.name, config.prefix),
        )
        if len(delta.ahead) > ledger.MAX_KEYS or ledger.size(delta.ahead) > ledger.MAX_BYTES:
            raise Blocked(
                "TooLarge",
                f"{len(delta.ahead)} keys, with those that are to be deleted, are more than can be"
                " remembered; make the change in smaller steps",
            )
        if not delta.is_empty and swarm["spec"].get("reconciliation") == "Paused":
            raise Blocked("SwarmPaused", f"GossipSwarm {config.swarm!r} is paused")
        on_trial = config.rollout.regions and not delta.is_empty and version != known
        if on_trial:
            waiting = await self._try(version, delta, agents, writer)
            if waiting is not None:
                return waiting
        return await self._write_base(version, wanted, delta, agents, writer, base)

    # --- what must hold first ---------------------------------------------------------------------

    async def _find_swarm(self) -> Object:
        config = self._config
        found = await self._kube.get(SWARMS, config.namespace, config.swarm)
        if found is None:
            raise Blocked(
                "SwarmNotFound",
                f"there is no GossipSwarm {config.swarm!r} in namespace {config.namespace!r};"
                " a SwarmConfig and its swarm are in one namespace",
                agents_asked=False,
            )
        if "deletionTimestamp" in found["metadata"]:
            raise Blocked("SwarmTerminating", f"GossipSwarm {config.swarm!r} is being deleted")
        return found

    def _check_claim(self, claimed: Sequence[claims.Claim]) -> None:
        owner = claims.owner_over(claimed, self._config.name)
        if owner is not None:
            raise Blocked(
                "PrefixConflict",
                f"prefix {self._config.prefix!r} overlaps {owner.prefix!r} of SwarmConfig"
                f" {owner.name!r}, which is older; it takes over when that is gone",
            )

    def _check_regions(self, swarm: Object) -> None:
        known = {str(region["name"]) for region in swarm["spec"]["regions"]}
        unknown = sorted(set(self._config.rollout.regions) - known)
        if unknown:
            raise Blocked(
                "UnknownRegion",
                f"spec.rollout.canaryRegions: {', '.join(unknown)}; the swarm has"
                f" {', '.join(sorted(known))}",
            )

    # --- trial ------------------------------------------------------------------------------------

    async def _try(
        self, version: str, delta: Delta, agents: Sequence[SwarmAgent], writer: SwarmAgent
    ) -> Result | None:
        """One step of the trial of a version; None if it is over and everybody may have it."""
        config, policy = self._config, self._config.rollout
        patch = planning.overlay(delta)
        overlays = await self._overlays(policy.regions, agents, writer)
        held = {
            region: overlays[region].judge(lambda leaves: _is_exactly(leaves, patch))
            for region in policy.regions
        }
        canaries = [
            CanaryAgent(
                agent.name, agent.region, agent.ready, held[agent.region].get(agent.name, False)
            )
            for agent in agents
            if agent.region in held
        ]
        rejections = await self._rejections(writer, policy.regions)
        step = trial.step(
            policy, self._trial, version, config.generation, canaries, rejections, self._record.now
        )
        if step.action == "promote":
            return None
        well = sum(agent.holds and agent.ready for agent in canaries)
        result = Result(
            self._on_trial(step, version, delta, f"{well}/{len(agents)}"),
            WAITING_SECONDS if step.seconds is None else step.seconds,
        )
        lines: list[Line] = []
        if step.action == "write" and not all(any(held[region].values()) for region in held):
            left = set(self._trial.regions if self._trial else ()) - set(policy.regions)
            lines = writing.removal_lines(config.prefix, sorted(left))
            lines += writing.overlay_lines(config.prefix, policy.regions, patch)
        elif step.action == "fail" or any(
            holding.leaves
            for region in policy.regions
            for holding in overlays[region].holdings.values()
            if step.action == "stopped"
        ):
            lines = writing.removal_lines(config.prefix, policy.regions)
        if lines:
            await self._record.hold()
            # First that there is a trial, or that it failed: what is written is not forgotten then.
            await self._record.save(result.outcome)
            await delivery.deliver(self._api, first(writer, agents), lines)
        return result

    async def _overlays(
        self, regions: Iterable[str], agents: Sequence[SwarmAgent], writer: SwarmAgent
    ) -> dict[str, Survey]:
        """What the agents of each region, and the one that is written at, hold as its overlay."""
        return {
            region: await survey.take(
                self._api,
                [agent for agent in agents if agent.region == region or agent == writer],
                writing.overlay_key(region, self._config.prefix),
            )
            for region in regions
        }

    async def _rejections(self, agent: SwarmAgent, regions: Sequence[str]) -> dict[str, str]:
        address = agent.address
        assert address is not None
        found = await asyncio.gather(
            *(
                self._api.read(address, writing.rejection_key(region, self._config.prefix))
                for region in regions
            )
        )
        return {
            region: _text(value.value)
            for region, value in zip(regions, found, strict=True)
            if value is not None
        }

    def _on_trial(self, step: trial.Step, version: str, delta: Delta, agents: str) -> Outcome:
        failed = step.action in ("fail", "stopped")
        where = ", ".join(self._config.rollout.regions)
        message = (
            f"version {version} failed its trial in {where}: {step.message};"
            " everybody keeps what they had"
            if failed
            else f"version {version} is on trial in {where}: {step.message}"
        )
        reason = trial.FAILED if failed else trial.IN_PROGRESS
        drift = Drift(delta.drifted)
        return Outcome(
            synced=false("Synced", reason, message),
            converged=false("Converged", "NotSynced", message),
            drifted=status.found_drift(drift) if drift.found else None,
            converged_agents=agents,
            trial=step.trial,
        )

    # --- base -------------------------------------------------------------------------------------

    async def _write_base(
        self,
        version: str,
        wanted: Leaves,
        delta: Delta,
        agents: Sequence[SwarmAgent],
        writer: SwarmAgent,
        base: Survey,
    ) -> Result:
        config, record = self._config, self._record
        drift = Drift(delta.drifted, delta.kept)
        etag = None if config.override else base.holdings[writer.name].etag
        lines = writing.base_lines(config.prefix, delta, etag)
        if self._trial is not None:
            lines += writing.removal_lines(config.prefix, self._trial.regions)
        if config.prune and delta.ahead:
            await record.hold()
        if lines:
            found = status.found_drift(drift) if drift.found else None
            await record.save(Outcome(ledger=delta.ahead, trial=self._trial, drifted=found))
            writer = await delivery.deliver(self._api, first(writer, agents), lines)
            base = await survey.take(self._api, agents, config.prefix)
            self._check_effect(wanted, delta, writer, base)
        elif not config.prune:
            await record.release()
        spread = base.spread(len(agents), lambda leaves: delta.is_done(leaves, wanted))
        said = status.drift_of(
            drift, self._before, version, record.now, repaired=not delta.is_empty
        )
        outcome = status.delivered(
            version,
            len(wanted),
            spread,
            said,
            self._before,
            ahead=delta.ahead,
            after=delta.after,
        )
        if not spread.is_complete:
            return Result(outcome, self._patience())
        address = writer.address
        assert address is not None
        holding = base.holdings.get(writer.name)
        glance = Glance(address, config.prefix, holding.etag if holding else "")
        return Result(outcome, None, glance)

    def _check_effect(self, wanted: Leaves, delta: Delta, writer: SwarmAgent, base: Survey) -> None:
        """An agent that took everything and shows something else would be written to for ever, and without pause."""
        holding = base.holdings.get(writer.name)
        if holding is not None and not delta.is_done(holding.leaves, wanted):
            lacking = planning.missing(holding.leaves, wanted)
            raise Blocked(
                "Overwritten",
                f"{writer.name} took the values, but shows others for"
                f" {trial.named(lacking or delta.gone)}: somebody else writes them all the time",
            )

    def _patience(self) -> float:
        """Who has a version is asked often at first, and less often the longer it takes."""
        found = conditions.find(self._before, "Converged")
        least, most = SPREADING_SECONDS
        if found is None or found["status"] == "True":
            return least
        since = datetime.fromisoformat(found["lastTransitionTime"])
        return min(most, least + (self._record.now - since).total_seconds() / 10)


async def find_agents(kube: KubeClient, swarm: Mapping[str, Any]) -> tuple[list[SwarmAgent], str]:
    """The agents of a swarm, at least one, and the token that writes. Raises Blocked or ApiError."""
    name = swarm["metadata"]["name"]
    try:
        agents, token = await observing.agents(kube, swarm)
    except observing.NoCredentials as error:
        raise Blocked("NoCredentials", str(error), agents_asked=False) from None
    if not agents:
        raise Blocked("NoAgents", f"GossipSwarm {name!r} has no agents", agents_asked=False)
    return agents, token


def unreachable(found: Survey) -> Blocked:
    """What to say when no agent answered."""
    name, why = min(found.silent.items())
    return Blocked(
        "AgentsUnreachable",
        f"none of {len(found.silent)} agents answers; {name}: {why}",
        agents_asked=False,
    )


def first(chosen: SwarmAgent, agents: Sequence[SwarmAgent]) -> list[SwarmAgent]:
    """The chosen one, then the others, Ready ones first."""
    others = [agent for agent in agents if agent.name != chosen.name]
    return [chosen, *sorted(others, key=lambda agent: not agent.ready)]


def _distance(leaves: Leaves, wanted: Leaves, owned: ledger.Ledger) -> int:
    """How far an agent is from what is wanted: the nearest one has seen most of what was written before."""
    stale = sum(key in leaves for key in owned if key not in wanted)
    return len(planning.missing(leaves, wanted)) + stale


def _is_exactly(leaves: Leaves, wanted: Leaves) -> bool:
    return len(leaves) == len(wanted) and not planning.missing(leaves, wanted)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
