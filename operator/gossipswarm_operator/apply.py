"""Doing: the actions of a plan, one after the other, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from gossipswarm_operator import drift, failures, names
from gossipswarm_operator.actions import (
    Action,
    Apply,
    ChangeSettings,
    Delete,
    Drain,
    InstallKeys,
    LiftCut,
    RemoveKeys,
    ReplaceKeyring,
    ResizeClaim,
    UseKey,
    described,
)
from gossipswarm_operator.agent_documents import AgentAddress, AgentError
from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import BY_KIND, PODS, VOLUME_CLAIMS, KubeClient
from gossipswarm_operator.errors import ApiError
from gossipswarm_operator.failures import Failure

DRAIN_WAIT_SECONDS: Final = 10.0
DRAIN_HOLD_SECONDS: Final = 60.0

Checkpoint = Callable[[Action], None]
"""Called after each action; may raise, and then nothing further is done."""


class Result(msgspec.Struct, frozen=True):
    """What became of a plan."""

    done: tuple[Action, ...]
    failures: tuple[Failure, ...]


class Applier:
    """Carries out actions."""

    def __init__(
        self, kube: KubeClient, agents: AgentsApi, checkpoint: Checkpoint | None = None
    ) -> None:
        self._kube = kube
        self._agents = agents
        self._checkpoint = checkpoint

    async def apply(
        self, namespace: str, actions: Sequence[Action], agents: Mapping[str, AgentAddress]
    ) -> Result:
        """Do what can be done. An action that is refused does not keep the others from being done; an API server that is
        not there does.
        """
        done: list[Action] = []
        failed: list[Failure] = []
        for action in actions:
            try:
                await self._do(namespace, action, agents)
            except ApiError as error:
                failed.append(failures.of_api(error, _doing(action)))
                if error.kind == "transient":
                    break
                continue
            except AgentError as error:
                failed.append(failures.of_agent(error, _doing(action)))
                continue
            except _Overridden as error:
                failed.append(Failure("Overridden", str(error), "refused"))
                continue
            done.append(action)
            if self._checkpoint is not None:
                self._checkpoint(action)
        return Result(tuple(done), tuple(failed))

    async def _do(self, namespace: str, action: Action, agents: Mapping[str, AgentAddress]) -> None:
        match action:
            case Apply():
                await self._apply(action)
            case Delete(kind=kind, name=name, uid=uid, propagation=how):
                await self._kube.delete(BY_KIND[kind], namespace, name, uid=uid, propagation=how)
            case ResizeClaim(name=name, size=size):
                patch = {"spec": {"resources": {"requests": {"storage": size}}}}
                await self._kube.merge(VOLUME_CLAIMS, namespace, name, patch)
            case ReplaceKeyring(agents=running, key=key, secret=secret):
                for name in running:
                    await self._agents.install_key(agents[name], key.material)
                await self._apply(secret)
            case Drain():
                await self._drain(namespace, action, agents[action.agent])
            case _:
                await self._tell(action, agents[action.agent])

    async def _tell(
        self,
        action: ChangeSettings | InstallKeys | UseKey | RemoveKeys | LiftCut,
        agent: AgentAddress,
    ) -> None:
        match action:
            case ChangeSettings(changes=changes):
                await self._agents.change_config(agent, changes)
            case InstallKeys(keys=keys):
                for key in keys:
                    await self._agents.install_key(agent, key.material)
            case LiftCut():
                await self._agents.drop(agent, (), None)
            case UseKey(id=used):
                await self._agents.use_key(agent, used)
            case RemoveKeys(ids=ids):
                for removed in ids:
                    await self._agents.remove_key(agent, removed)

    async def _apply(self, action: Apply) -> None:
        try:
            after = await self._kube.apply(action.body)
        except ApiError as error:
            if action.why == "Created" or error.status not in (422, 500):
                raise
            # Perhaps for something beside ours, such as another port of the same name: lists as we want them, and again.
            metadata = action.body["metadata"]
            resource = BY_KIND[action.body["kind"]]
            await self._kube.merge(resource, metadata["namespace"], metadata["name"], action.body)
            after = await self._kube.apply(action.body)
        field = drift.difference(action.body, after)
        if field is not None and action.body["kind"] != "Secret":
            what = f"{action.body['kind']} {action.body['metadata']['name']}"
            raise _Overridden(
                f"{what}: something in the cluster changes {field} of what is applied"
            )

    async def _drain(self, namespace: str, action: Drain, agent: AgentAddress) -> None:
        await self._annotate(namespace, agent.name, {names.DRAIN_ANNOTATION: action.since})
        drained = await self._agents.drain(
            agent, action.leaving, hold=DRAIN_HOLD_SECONDS, wait=DRAIN_WAIT_SECONDS
        )
        if drained.until is not None:
            until = {names.DRAINED_ANNOTATION: drained.until}
            await self._annotate(namespace, agent.name, until)

    async def _annotate(self, namespace: str, pod: str, annotations: Mapping[str, str]) -> None:
        await self._kube.merge(PODS, namespace, pod, {"metadata": {"annotations": annotations}})


class _Overridden(Exception):
    """The API server accepted an object and made something else of it: a webhook, probably."""


def _doing(action: Action) -> str:
    match action:
        case Apply(body=body):
            return f"cannot apply {body['kind']} {body['metadata']['name']}"
        case Delete(kind=kind, name=name):
            return f"cannot delete {kind} {name}"
        case ResizeClaim(name=name):
            return f"cannot resize volume claim {name}"
        case Drain(agent=agent):
            return f"cannot drain {agent}"
        case _:
            return f"cannot do: {described(action)}"
