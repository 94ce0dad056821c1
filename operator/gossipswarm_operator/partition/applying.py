"""Doing: the actions of a plan for the cuts of a swarm, one after the other, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from gossipswarm_operator.agent_documents import AgentAddress, AgentError, Flows
from gossipswarm_operator.agents_api import AgentsApi, ask_all
from gossipswarm_operator.client import BY_KIND, PARTITIONS, KubeClient
from gossipswarm_operator.errors import ApiError
from gossipswarm_operator.failures import Failure, of_api
from gossipswarm_operator.names import controller_of
from gossipswarm_operator.partition import probing, status
from gossipswarm_operator.partition.actions import (
    Action,
    Begin,
    Drop,
    Finish,
    GiveUp,
    HandOver,
    Hold,
    Probe,
    Put,
    Remove,
    Reset,
)
from gossipswarm_operator.partition.model import FINALIZER, SwarmPartition
from gossipswarm_operator.partition.observed import Memory, Observed, Told
from gossipswarm_operator.partition.planning import may_go_anyway

Checkpoint = Callable[[Action], None]
"""Called after each action; may raise, and then nothing further is done."""


class Result(msgspec.Struct, frozen=True):
    """What became of a plan."""

    done: tuple[Action, ...]
    refused: tuple[tuple[str | None, Failure], ...]
    """Each with the uid of the SwarmPartition that it is the matter of; None = of all of the swarm."""

    def failures(self, uid: str) -> tuple[Failure, ...]:
        """What was refused that matters to a SwarmPartition."""
        return tuple(failure for whose, failure in self.refused if whose in (None, uid))


class Applier:
    """Carries out the actions of one plan."""

    def __init__(
        self,
        kube: KubeClient,
        api: AgentsApi,
        namespace: str,
        memory: Memory,
        observed: Observed,
        addresses: Mapping[str, AgentAddress],
        now: Callable[[], datetime],
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._kube = kube
        self._api = api
        self._namespace = namespace
        self._memory = memory
        self._observed = observed
        self._addresses = addresses
        self._now = now
        self._checkpoint = checkpoint
        self._sources: dict[str, dict[str, Any]] = {}
        """SwarmPartitions by uid, as they are after what was done."""

    async def apply(self, actions: tuple[Action, ...]) -> Result:
        """Do what can be done.

        What is refused does not keep the rest from being done, except that no cut that it matters to is said to be undone. Raises ApiError
        if the API server did not do its part, or if somebody changed a SwarmPartition meanwhile: what follows depends on it.
        """
        done: list[Action] = []
        refused: list[tuple[str | None, Failure]] = []
        for action in actions:
            if isinstance(action, Finish) and self._is_held_up(action, refused):
                continue
            try:
                await self._do(action)
            except ApiError as error:
                if error.kind != "refused" or not isinstance(action, Put | Remove):
                    raise
                refused.append((self._whose(action), of_api(error, _doing(action))))
                continue
            done.append(action)
            if self._checkpoint is not None:
                self._checkpoint(action)
        return Result(tuple(done), tuple(refused))

    def source(self, partition: SwarmPartition) -> dict[str, Any]:
        """The object as it is after what was done."""
        return self._sources.get(partition.uid, partition.source)

    def _whose(self, action: Put | Remove) -> str | None:
        """The SwarmPartition that a refused action is the matter of; None = of all of the swarm.

        A policy that is there and may not be changed goes on saying what all cuts left before.
        """
        if (
            not isinstance(action, Put)
            or action.body["metadata"]["name"] in self._observed.policies
        ):
            return None
        owner = controller_of(action.body) or {}
        return owner.get("uid") if owner.get("kind") == "SwarmPartition" else None

    def _is_held_up(self, action: Finish, refused: Sequence[tuple[str | None, Failure]]) -> bool:
        mine = any(whose in (None, action.partition.uid) for whose, _ in refused)
        return mine and not may_go_anyway(action.partition, self._now())

    async def _do(self, action: Action) -> None:
        match action:
            case Hold(partition=partition):
                await self._finalizers(partition, held=True)
            case Begin(partition=partition, at=at):
                current = self._current(partition)
                await self._save(partition, status.begun(current, at, self._now()))
            case HandOver(partition=partition, message=message):
                current = self._current(partition)
                await self._save(partition, status.handed_over(current, message, self._now()))
            case GiveUp(partition=partition, reason=reason, message=message):
                current = self._current(partition)
                new = status.given_up(current, reason, message, self._now())
                await self._save(partition, new)
            case Put(body=body):
                await self._kube.apply(body)
            case Remove(kind=kind, name=name, uid=uid):
                await self._kube.delete(BY_KIND[kind], self._namespace, name, uid=uid)
            case Drop():
                await self._drop(action)
            case Reset():
                await self._reset(action)
            case Probe():
                await self._probe(action)
            case Finish():
                await self._finish(action)

    def _current(self, partition: SwarmPartition) -> SwarmPartition:
        """As planned, with the status that was written since."""
        return msgspec.structs.replace(partition, source=self.source(partition))

    # --- SwarmPartitions --------------------------------------------------------------------------

    async def _save(self, partition: SwarmPartition, new: Mapping[str, Any]) -> None:
        source = self.source(partition)
        metadata = source["metadata"]
        patch = {"metadata": {"uid": metadata["uid"]}, "status": dict(new)}
        self._sources[partition.uid] = await self._kube.merge(
            PARTITIONS, metadata["namespace"], metadata["name"], patch, subresource="status"
        )

    async def _finalizers(self, partition: SwarmPartition, *, held: bool) -> None:
        source = self.source(partition)
        metadata = source["metadata"]
        others = [name for name in metadata.get("finalizers") or () if name != FINALIZER]
        wanted = [*others, FINALIZER] if held else others
        patch = {
            "metadata": {
                "finalizers": wanted or None,
                "resourceVersion": metadata["resourceVersion"],
                "uid": metadata["uid"],
            }
        }
        self._sources[partition.uid] = await self._kube.merge(
            PARTITIONS, metadata["namespace"], metadata["name"], patch
        )

    async def _finish(self, action: Finish) -> None:
        partition = action.partition
        if partition.deleting_since is None or partition.applied_at is not None:
            new = status.finished(
                self._current(partition), action.reason, action.message, action.at, self._now()
            )
            await self._save(partition, new)
        if partition.held:
            await self._finalizers(partition, held=False)

    # --- agents: one that does not answer is asked again by the next plan ---------------------------

    async def _drop(self, action: Drop) -> None:
        left = None
        if action.until is not None:
            left = max(0.001, (action.until - self._now()).total_seconds())

        async def tell(agent: AgentAddress) -> bool:
            await self._api.drop(agent, action.regions[agent.name], left)
            return True

        for name, answer in (await ask_all(self._named(action.regions), tell)).items():
            if answer is True:
                started_at = self._observed.agents[name].started_at
                self._memory.told[name] = Told(started_at, action.regions[name], action.until)

    async def _reset(self, action: Reset) -> None:
        answers = await ask_all(self._named(action.agents), self._api.reset_peers)
        for name, answer in answers.items():
            if not isinstance(answer, AgentError):
                started_at = self._observed.agents[name].started_at
                self._memory.reset[name] = (started_at, action.cut, action.stage)

    async def _probe(self, action: Probe) -> None:
        answers: dict[tuple[str, str], Flows | str] = {
            (ask.source, ask.target): "it has no address" for ask in action.asks
        }
        # A source that is asked for several targets is asked one after the other: probes must not compete.
        for turn in _turns(action):

            async def one(agent: AgentAddress, turn: Mapping[str, Any] = turn) -> Flows:
                return await self._api.probe(agent, turn[agent.name].address)

            for name, answer in (await ask_all(self._named(turn), one)).items():
                said = answer.detail if isinstance(answer, AgentError) else answer
                answers[name, turn[name].target] = said
        partition, now = action.partition, self._now()
        if partition.is_expired(now):
            return  # what passes now passes as it ought to
        trial = self._memory.trial(partition, now)
        key = (partition.uid, partition.by_agents)
        self._memory.trials[key] = probing.judged(trial, action.asks, answers, now)

    def _named(self, names: Mapping[str, Any] | tuple[str, ...]) -> list[AgentAddress]:
        return [self._addresses[name] for name in names if name in self._addresses]


def _turns(action: Probe) -> list[dict[str, Any]]:
    """The asks of a round in turns, each source at most once in a turn."""
    turns: list[dict[str, Any]] = []
    for ask in action.asks:
        for turn in turns:
            if ask.source not in turn:
                turn[ask.source] = ask
                break
        else:
            turns.append({ask.source: ask})
    return turns


def _doing(action: Put | Remove) -> str:
    if isinstance(action, Put):
        return f"cannot apply {action.body['kind']} {action.body['metadata']['name']}"
    return f"cannot delete {action.kind} {action.name}"
