"""SwarmConfigs against a real API server and real agents."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import kopf
import pytest

from gossipswarm_agent.runtime.drops import DropList
from gossipswarm_operator.handlers.swarmconfig import register
from gossipswarm_operator.queue import Queue
from kube import Cluster
from swarmconfig_world import World, world

pytestmark = pytest.mark.kube


@pytest.fixture
async def demo(cluster: Cluster, namespace: str) -> AsyncIterator[World]:
    async with world(cluster, namespace, "east", "east", "west") as made:
        yield made


def values(demo: World, key: str = "app") -> list[Any]:
    return [one.holds(key) for one in demo.agents]


async def test_data_reaches_every_agent_and_the_status_is_the_receipt(demo: World) -> None:
    demo.apply("settings", data={"ttl": 60, "db": {"host": "a", "off": None}, "a.b": []})
    await demo.converged()
    assert values(demo) == [{"ttl": 60, "db": {"host": "a", "off": None}, "a.b": []}] * 3
    found = demo.get("settings")
    assert found is not None
    status = found["status"]
    assert (status["keys"], status["convergedAgents"]) == (4, "3/3")
    assert status["observedGeneration"] == found["metadata"]["generation"]
    assert status["version"] == status["convergedVersion"]
    assert demo.condition("settings", "Synced")[:2] == ("True", "Delivered")
    assert demo.condition("settings", "Drifted")[:2] == ("False", "InSync")
    assert ("Normal", "Delivered") in demo.events("settings")


async def test_values_come_from_config_maps_and_secrets_and_follow_them(demo: World) -> None:
    demo.config_map("base", {"app.yaml": "ttl: 1\ndb: {host: a}"})
    demo.create("secrets", "db", {"data": {"password": base64.b64encode(b"hunter2").decode()}})
    sources = [
        {"configMapRef": {"name": "base", "key": "app.yaml"}},
        {"secretRef": {"name": "db"}, "path": "db"},
    ]
    demo.apply("settings", valuesFrom=sources, data={"ttl": 2})
    await demo.converged()
    assert values(demo) == [{"ttl": 2, "db": {"host": "a", "password": "hunter2"}}] * 3
    assert "hunter2" not in str(demo.get("settings"))
    demo.config_map("base", {"app.yaml": "db: {host: b, port: 5}"})
    demo.reconciler.notice((demo.namespace, "settings"))
    await demo.until(
        lambda: (
            values(demo) == [{"ttl": 2, "db": {"host": "b", "port": 5, "password": "hunter2"}}] * 3
        )
    )


async def test_a_secret_is_read_once_a_minute_so_its_change_is_delivered_within_one(
    demo: World,
) -> None:
    now = 1000.0
    demo.restart(clock=lambda: now)
    demo.create("secrets", "db", {"data": {"password": base64.b64encode(b"old").decode()}})
    demo.apply("settings", valuesFrom=[{"secretRef": {"name": "db"}}])
    await demo.converged()
    await demo.reconcile()
    path = f"/api/v1/namespaces/{demo.namespace}/secrets/db"
    changed = {"data": {"password": base64.b64encode(b"new").decode()}}
    demo.cluster.request("PATCH", path, changed, "application/merge-patch+json")
    now += 59
    assert await demo.reconcile() == 5.0, (
        "one agent is asked whether anything changed, and that is all"
    )
    assert values(demo) == [{"password": "old"}] * 3
    now += 2
    await demo.until(lambda: values(demo) == [{"password": "new"}] * 3)


async def test_keys_that_are_gone_are_deleted_and_those_of_others_stay(demo: World) -> None:
    await demo.agents[2].write("app.theirs", "kept")
    demo.apply("settings", data={"a": 1, "b": {"c": 2}})
    await demo.converged()
    demo.apply("settings", data={"a": 1})
    await demo.until(lambda: values(demo) == [{"a": 1, "theirs": "kept"}] * 3)
    await demo.converged()
    found = demo.get("settings")
    assert found is not None
    assert [owned["key"] for owned in found["status"]["keysOwned"]] == ["a"]


async def test_an_unchanged_config_writes_nothing(demo: World) -> None:
    demo.apply("settings", data={"a": 1})
    await demo.converged()
    before = (demo.get("settings"), [one.agent.node.state.sequence for one in demo.agents])
    for _ in range(3):
        demo.reconciler.notice((demo.namespace, "settings"))
        await demo.reconcile()
        await demo.reconcile()
    assert (demo.get("settings"), [o.agent.node.state.sequence for o in demo.agents]) == before


async def test_what_somebody_changes_is_found_and_set_back(demo: World) -> None:
    demo.apply("settings", data={"a": 1, "b": 2})
    await demo.converged()
    await demo.agents[2].write("app.a", "changed")
    await demo.until(lambda: demo.condition("settings", "Drifted")[1] == "Repaired")
    await demo.until(lambda: values(demo, "app.a") == [1, 1, 1])
    assert demo.condition("settings", "Drifted")[2].endswith(": a")
    assert ("Warning", "ChangedLive") in demo.events("settings")
    assert ("Warning", "Repaired") in demo.events("settings")


async def test_keep_live_leaves_it_and_says_so(demo: World) -> None:
    demo.apply("settings", data={"a": 1, "b": 2}, conflictPolicy="KeepLive")
    await demo.converged()
    await demo.agents[2].write("app.a", "changed")
    await demo.until(lambda: demo.condition("settings", "Drifted")[1] == "KeptLive")
    demo.apply("settings", data={"a": 5, "b": 6}, conflictPolicy="KeepLive")
    await demo.until(lambda: values(demo) == [{"a": "changed", "b": 6}] * 3)
    await demo.converged()
    assert demo.condition("settings", "Drifted")[:2] == ("True", "KeptLive")
    demo.apply("settings", data={"a": 5, "b": 6})
    await demo.until(lambda: values(demo) == [{"a": 5, "b": 6}] * 3)


async def test_the_older_of_two_owners_wins_and_the_younger_takes_over(demo: World) -> None:
    demo.apply("a-older", data={"x": 1})
    await demo.converged("a-older")
    demo.apply("b-younger", prefix="app.sub", data={"y": 2})
    await demo.until(
        lambda: demo.condition("b-younger", "Synced")[1] == "PrefixConflict", "b-younger"
    )
    assert "'a-older'" in demo.condition("b-younger", "Synced")[2]
    assert values(demo) == [{"x": 1}] * 3
    demo.remove("a-older")
    await demo.until(lambda: demo.get("a-older") is None, "a-older")
    await demo.converged("b-younger")
    assert values(demo) == [{"sub": {"y": 2}}] * 3


async def test_deletion_takes_back_what_was_delivered(demo: World) -> None:
    await demo.agents[0].write("app.theirs", 1)
    demo.apply("settings", data={"a": 1, "b": {}})
    await demo.converged()
    demo.remove("settings")
    await demo.until(lambda: demo.get("settings") is None)
    assert values(demo) == [{"theirs": 1}] * 3


async def test_without_pruning_deletion_leaves_everything_at_once(demo: World) -> None:
    demo.apply("settings", data={"a": 1}, prune="Disabled")
    await demo.converged()
    demo.remove("settings")
    assert demo.get("settings") is None
    assert values(demo) == [{"a": 1}] * 3


async def test_nothing_is_held_back_by_a_swarm_that_is_gone(demo: World) -> None:
    demo.apply("settings", data={"a": 1})
    await demo.converged()
    demo.cluster.request(
        "DELETE", f"/apis/gossipswarm.io/v1alpha1/namespaces/{demo.namespace}/gossipswarms/demo"
    )
    demo.remove("settings")
    assert demo.get("settings") is not None
    await demo.reconcile()
    assert demo.get("settings") is None


async def test_every_cause_has_a_reason_and_is_recovered_from(
    cluster: Cluster, namespace: str
) -> None:
    async with world(cluster, namespace) as empty:
        sources = [{"configMapRef": {"name": "base", "key": "v.json"}}]
        empty.apply("settings", valuesFrom=sources)

        async def reason() -> str:
            empty.reconciler.notice((namespace, "settings"))
            await empty.reconcile()
            return empty.condition("settings", "Synced")[1]

        assert await reason() == "SwarmNotFound"
        empty.swarm("east")
        assert await reason() == "SourceNotFound"
        empty.config_map("base", {"other": "x"})
        assert await reason() == "SourceKeyNotFound"
        empty.config_map("base", {"v.json": "{"})
        assert await reason() == "SourceUnreadable"
        empty.config_map("base", {"v.json": "1"})
        assert await reason() == "NoAgents"
        assert [event[1] for event in empty.events("settings")][:2] == [
            "SwarmNotFound",
            "NotSynced",
        ]
        path = f"/api/v1/namespaces/{namespace}/secrets/demo-tokens"
        empty.cluster.request("DELETE", path)
        assert await reason() == "NoCredentials"


async def test_an_agent_that_does_not_answer_is_named_and_waited_for(demo: World) -> None:
    lost = demo.agents[2]
    await lost.server.close()
    demo.apply("settings", data={"a": 1})
    await demo.until(lambda: demo.condition("settings", "Converged")[1] == "AgentsSilent")
    assert lost.name in demo.condition("settings", "Converged")[2]
    found = demo.get("settings")
    assert found is not None
    assert found["status"]["convergedAgents"] == "2/3"
    assert demo.condition("settings", "Synced")[0] == "True"


async def test_a_megabyte_is_delivered(demo: World) -> None:
    for part in range(4):
        demo.config_map(f"part{part}", {f"k{part}-{n}": "x" * 1000 for n in range(240)})
    sources = [{"configMapRef": {"name": f"part{part}"}} for part in range(4)]
    demo.apply("settings", valuesFrom=sources)
    await demo.converged()
    assert [len(value) for value in values(demo)] == [960] * 3
    demo.config_map("part4", {f"more{n}": "x" * 1000 for n in range(200)})
    demo.apply("settings", valuesFrom=[*sources, {"configMapRef": {"name": "part4"}}])
    await demo.until(lambda: demo.condition("settings", "Synced")[1] == "TooLarge")
    assert [len(value) for value in values(demo)] == [960] * 3


async def test_what_could_not_be_written_is_neither_forgotten_nor_taken_for_drift(
    demo: World,
) -> None:
    demo.apply("settings", data={"a": 1, "b": 1})
    await demo.converged()
    for one in demo.agents:
        one.agent.degrade(True)
    demo.apply("settings", data={"a": 2, "c": 2})
    await demo.until(lambda: demo.condition("settings", "Synced")[1] == "SwarmReadOnly")
    found = demo.get("settings")
    assert found is not None
    assert [owned["key"] for owned in found["status"]["keysOwned"]] == ["a", "b", "c"]
    demo.apply("settings", data={"a": 3, "d": 3})
    await demo.reconcile()
    for one in demo.agents:
        one.agent.degrade(False)
    await demo.converged()
    assert values(demo) == [{"a": 3, "d": 3}] * 3
    assert demo.condition("settings", "Drifted")[:2] == ("False", "InSync")
    assert "ChangedLive" not in [reason for _, reason in demo.events("settings")]


async def test_a_region_that_is_cut_off_has_it_once_the_network_is_back(demo: World) -> None:
    demo.apply("settings", data={"a": 1})
    await demo.converged()
    sides = {"east": frozenset({"west"}), "west": frozenset({"east"})}
    for one in demo.agents:
        other = sides[one.agent.config.region]
        one.agent.set_drops(DropList(other, other, None))
    demo.apply("settings", data={"a": 2})
    await demo.until(lambda: values(demo, "app.a") == [2, 2, 1])
    await demo.until(lambda: demo.condition("settings", "Converged")[2].endswith(": demo-west-0"))
    assert demo.condition("settings", "Converged")[1] == "Spreading"
    assert values(demo, "app.a") == [2, 2, 1]
    await demo.agents[2].write("app.a", "changed beyond the cut")
    for one in demo.agents:
        one.agent.set_drops(DropList(frozenset(), frozenset(), None))
    await demo.until(lambda: values(demo, "app.a") == [2, 2, 2])
    await demo.converged()


# --- trials ---------------------------------------------------------------------------------------

TRIAL = {"canaryRegions": ["east"], "timeout": "10s", "soak": "1s"}


class Time:
    """The operator's wall clock, which stands still until it is told to go on: so does a trial."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self._now

    def passes(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


@pytest.fixture
def time(demo: World) -> Time:
    found = Time()
    demo.restart(now=found)
    return found


async def test_a_version_is_tried_in_a_region_before_everybody_gets_it(
    demo: World, time: Time
) -> None:
    demo.apply("settings", data={"a": 1, "old": True})
    await demo.converged()
    demo.apply("settings", data={"a": 2}, rollout=TRIAL)
    await demo.until(lambda: values(demo, "canary.east.app") == [{"a": 2, "old": None}] * 3)
    await demo.until(lambda: demo.condition("settings", "Synced")[2].endswith("; 1 s to go"))
    assert values(demo) == [{"a": 1, "old": True}] * 3
    assert demo.condition("settings", "Synced")[1] == "CanaryInProgress"
    assert demo.condition("settings", "Converged")[0] == "False"
    time.passes(1)
    await demo.converged()
    assert values(demo) == [{"a": 2}] * 3
    assert values(demo, "canary") == [None] * 3
    found = demo.get("settings")
    assert found is not None
    assert "rollout" not in found["status"]


async def test_another_operator_goes_on_with_a_trial(demo: World, time: Time) -> None:
    demo.apply("settings", data={"a": 1})
    await demo.converged()
    demo.apply("settings", data={"a": 2}, rollout={**TRIAL, "soak": "5s"})
    await demo.until(lambda: values(demo, "canary.east.app") == [{"a": 2}] * 3)
    before = demo.get("settings")
    assert before is not None
    time.passes(2)
    demo.restart(now=time)
    await demo.reconcile()
    after = demo.get("settings")
    assert after is not None
    assert after["status"]["rollout"]["startedAt"] == before["status"]["rollout"]["startedAt"]
    time.passes(5)
    await demo.converged()
    assert values(demo) == [{"a": 2}] * 3
    assert values(demo, "canary") == [None] * 3


async def test_a_rejected_version_stops_by_itself_and_leaves_the_base_alone(
    demo: World, time: Time
) -> None:
    demo.apply("settings", data={"a": 1})
    await demo.converged()
    demo.apply("settings", data={"a": 2}, rollout={**TRIAL, "soak": "10s"})
    await demo.until(lambda: values(demo, "canary.east.app") == [{"a": 2}] * 3)
    await demo.agents[1].write("canary-rejected.east.app", "error rate 12 %")
    await demo.until(lambda: demo.condition("settings", "Synced")[1] == "CanaryFailed")
    assert "error rate 12 %" in demo.condition("settings", "Synced")[2]
    await demo.until(lambda: values(demo, "canary") == [None] * 3)
    assert values(demo) == [{"a": 1}] * 3
    await demo.until(lambda: values(demo, "canary-rejected") == [None] * 3)
    assert ("Warning", "CanaryFailed") in demo.events("settings")
    demo.apply("settings", data={"a": 3})
    await demo.converged()
    assert values(demo) == [{"a": 3}] * 3


async def test_a_region_that_does_not_stay_ready_fails_the_trial(demo: World, time: Time) -> None:
    demo.apply("settings", data={"a": 1})
    await demo.converged()
    demo.apply("settings", data={"a": 2}, rollout={**TRIAL, "timeout": "2s", "soak": "2s"})
    await demo.until(lambda: values(demo, "canary.east.app") == [{"a": 2}] * 3)
    demo.pod(demo.agents[0], ready=False)
    time.passes(2)
    await demo.until(lambda: demo.condition("settings", "Synced")[1] == "CanaryFailed")
    assert "demo-east-0" in demo.condition("settings", "Synced")[2]
    await demo.until(lambda: values(demo, "canary") == [None] * 3)
    assert values(demo) == [{"a": 1}] * 3


async def test_deleting_a_config_on_trial_removes_the_overlay(demo: World, time: Time) -> None:
    demo.apply("settings", data={"a": 2}, prune="Disabled", rollout={**TRIAL, "soak": "10s"})
    await demo.until(lambda: values(demo, "canary.east.app") == [{"a": 2}] * 3)
    demo.remove("settings")
    await demo.until(lambda: demo.get("settings") is None)
    await demo.until(lambda: values(demo, "canary") == [None] * 3)


async def test_a_canary_region_that_the_swarm_has_not_is_named(demo: World) -> None:
    demo.apply("settings", data={"a": 1}, rollout={"canaryRegions": ["north"]})
    await demo.until(lambda: demo.condition("settings", "Synced")[1] == "UnknownRegion")
    assert "north" in demo.condition("settings", "Synced")[2]


# --- as the operator runs it ----------------------------------------------------------------------


@pytest.fixture
async def operated(demo: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """The world with somebody who watches it."""
    monkeypatch.setenv("KUBECONFIG", str(demo.cluster.kubeconfig))
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(kopf.login_with_kubeconfig)
    queue = Queue("SwarmConfig", demo.reconciler.reconcile)
    register(registry, demo.reconciler, queue.add)
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    ready = asyncio.Event()
    # Not kopf.operator(): in the end that cancels every task that it does not know, such as this test.
    watching = await kopf.spawn_tasks(
        registry=registry,
        settings=settings,
        standalone=True,
        namespaces=[demo.namespace],
        ready_flag=ready,
    )
    tasks = [asyncio.create_task(queue.run()), *watching]
    async with asyncio.timeout(120):
        await ready.wait()
    yield demo
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def eventually(holds: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = monotonic() + seconds
    while not holds():
        assert monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.05)


async def test_changes_of_the_object_and_its_sources_are_followed_by_watching(
    operated: World,
) -> None:
    operated.apply("settings", valuesFrom=[{"configMapRef": {"name": "base"}}])
    await eventually(lambda: operated.condition("settings", "Synced")[1] == "SourceNotFound")
    operated.config_map("base", {"a": "1"})
    await eventually(lambda: values(operated) == [{"a": "1"}] * 3)
    operated.config_map("base", {"a": "2"})
    await eventually(lambda: values(operated) == [{"a": "2"}] * 3)
    await eventually(lambda: operated.condition("settings", "Converged")[0] == "True")
    await operated.agents[0].write("app.a", "drift")
    await eventually(lambda: operated.condition("settings", "Drifted")[1] == "Repaired")
    operated.apply("younger", prefix="app.sub", data={"b": 1})
    await eventually(lambda: operated.condition("younger", "Synced")[1] == "PrefixConflict")
    operated.remove("settings")
    await eventually(lambda: values(operated) == [{"sub": {"b": 1}}] * 3)
