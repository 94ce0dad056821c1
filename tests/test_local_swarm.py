"""Local swarms as commands see them: made, filled, changed, cut, taken down, deleted."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from gossipctl.local import client, lifecycle
from gossipctl.local.client import LocalSwarm
from gossipctl.local.errors import LocalError
from local_swarms import REGIONS, Local, all_gone, eventually, home, is_alive, make


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    with home(tmp_path, monkeypatch) as directory:
        yield directory


def refusal(call, *arguments, **more):
    with pytest.raises(LocalError) as refused:
        call(*arguments, **more)
    return refused.value


# --- making, spawning -----------------------------------------------------------------------------


def test_a_new_swarm_is_selected_encrypted_and_empty(state):
    lifecycle.init(name="demo", regions=list(REGIONS), max_agents=150)
    status = LocalSwarm(None).request("status")
    assert status["status"] == "initializing"
    assert (status["swarm_id"], status["topology"], status["protocol"]) == (
        "demo",
        "mesh",
        "gossip",
    )
    assert (status["agents"], status["regions"]) == ([], list(REGIONS))
    assert (status["max_agents"], status["encryption"]) == (150, True)
    for secret in ("keyring", "token"):
        assert (state / "gossipswarm" / "demo" / secret).stat().st_mode & 0o077 == 0


def test_an_agent_is_up_and_joined_when_spawn_returns():
    swarm = make()
    first, second = swarm.spawn(1, "us-east", "us-west")
    swarm.set(first, "app.config", {"cache_ttl": 3600})
    eventually(lambda: swarm.get(second, "app.config") == {"cache_ttl": 3600})
    agents = {agent["name"]: agent for agent in swarm("agents")["agents"]}
    assert agents[second]["joined"]
    assert agents[second]["status"] == "active"
    assert swarm("agents", filter="stopped")["agents"] == []
    assert swarm("status")["status"] == "active"


def test_the_agents_of_a_region_are_spread_over_the_workers_and_say_where_they_are():
    swarm = make()
    names = swarm.spawn(2)
    workers = {agent["name"]: agent["worker"] for agent in swarm("agents")["agents"]}
    for region in REGIONS:
        assert {workers[f"gossip-{region}-{n}"] for n in (1, 2)} == {"worker-1", "worker-2"}
    with swarm.client(names[0]) as http:
        assert eventually(lambda: len(http.members()) == len(names))
        assert {member.name: member.labels["host"] for member in http.members()} == workers


def test_fifty_spawns_at_once_never_exceed_max_agents():
    swarm = make(max_agents=8)

    def spawn(number):
        try:
            LocalSwarm("demo").request("spawn", name=f"agent-{number}", region="us-east")
        except LocalError as error:
            return error.reason
        return "up"

    with ThreadPoolExecutor(50) as threads:
        outcomes = list(threads.map(spawn, range(50)))
    assert outcomes.count("up") == 8
    assert outcomes.count("max-agents") == 42
    assert len(swarm("agents", filter="active")["agents"]) == 8
    error = refusal(swarm, "spawn", region="us-east")
    assert "the 8 agents that swarm demo admits" in error.message
    assert error.exit == 2


def test_a_mistake_in_a_spawn_is_explained():
    swarm = make()
    error = refusal(swarm, "spawn", region="us-eats")
    assert (error.reason, error.exit) == ("unknown-region", 2)
    assert error.hint == "did you mean us-east?"
    assert refusal(swarm, "spawn", name="../x").reason == "invalid-agent"
    assert refusal(swarm, "resolve", name="gossip-us-east-1").reason == "unknown-agent"
    assert refusal(swarm, "resolve").reason == "no-agent"


def test_a_stopped_agent_comes_back_with_its_name_and_data():
    swarm = make()
    swarm("spawn", name="a", region="us-east", capabilities=["config-caching"])
    swarm("spawn", name="b", region="us-east")
    swarm.set("a", "key", 1)
    assert refusal(swarm, "spawn", name="a", region="us-east").reason == "agent-exists"
    swarm("stop", name="a")
    assert refusal(swarm, "resolve", name="a").reason == "agent-down"
    assert [agent["name"] for agent in swarm("agents", filter="stopped")["agents"]] == ["a"]
    error = refusal(swarm, "spawn", name="a", region="us-west")
    assert "was a worker in us-east with capabilities config-caching" in error.message
    swarm("spawn", name="a")
    assert swarm.get("a", "key") == 1
    assert swarm("agents")["agents"][0]["capabilities"] == ["config-caching"]


def test_a_removed_agent_leaves_its_data_with_a_peer_and_no_file(state):
    swarm = make()
    swarm("spawn", name="a", region="us-east")
    swarm("spawn", name="b", region="us-west")
    swarm.set("a", "key", "precious")
    swarm("stop", name="a", remove=True)
    assert swarm.get("b", "key") == "precious"
    assert not (state / "gossipswarm" / "demo" / "agents" / "a").exists()
    assert [agent["name"] for agent in swarm("agents")["agents"]] == ["b"]


def test_an_agent_that_no_peer_can_hear_is_not_removed():
    swarm = make()
    swarm("spawn", name="a", region="us-east")
    swarm("spawn", name="b", region="us-west")
    swarm("partition", pair="us-east,us-west")
    swarm.set("a", "key", "precious")
    error = refusal(swarm, "stop", name="a", remove=True)
    assert (error.reason, error.hint) == (
        "not-drained",
        "heal the network, or stop it without --remove",
    )
    assert swarm.get("a", "key") == "precious"


# --- several swarms, life cycle -------------------------------------------------------------------


def test_a_second_swarm_of_one_name_is_refused_and_of_another_is_not():
    one = make("one")
    error = refusal(lifecycle.init, name="one", regions=["us-east"])
    assert (error.reason, error.exit) == ("swarm-exists", 2)
    assert "gossipctl swarm up one" in error.hint
    two = make("two")
    one("spawn", name="a", region="us-east")
    two("spawn", name="a", region="us-east")
    one.set("a", "key", 1)
    assert two.get("a", "key") is None
    assert [(swarm["name"], swarm["status"]) for swarm in client.list_swarms()] == [
        ("one", "running"),
        ("two", "running"),
    ]


def test_down_leaves_no_process_and_up_brings_back_names_ports_and_data():
    swarm = make()
    names = swarm.spawn(1)
    swarm.set(names[0], "key", {"a": 1})
    eventually(swarm.is_whole)
    before = swarm("agents")["agents"]
    swarm.pids()
    assert swarm.swarm.down()
    eventually(lambda: all_gone(swarm))
    assert not swarm.swarm.down()
    assert refusal(swarm, "status").reason == "swarm-down"
    assert swarm.up()["status"] == "active"
    assert [agent["api"] for agent in swarm("agents")["agents"]] == [
        agent["api"] for agent in before
    ]
    assert [swarm.get(name, "key") for name in names] == [{"a": 1}] * 3


def test_an_agent_whose_ports_were_taken_meanwhile_gets_others_and_is_found_again():
    swarm = make()
    names = swarm.spawn(1)
    taken = next(agent for agent in swarm("agents")["agents"] if agent["name"] == names[0])
    swarm.swarm.down()
    squatters = [
        socket.create_server(("127.0.0.1", int(taken[what].rpartition(":")[2])))
        for what in ("gossip", "api")
    ]
    swarm.up()
    moved = next(agent for agent in swarm("agents")["agents"] if agent["name"] == names[0])
    assert moved["gossip"] != taken["gossip"]
    assert moved["api"] != taken["api"]
    swarm.set(names[1], "key", "for all")
    eventually(lambda: swarm.get(names[0], "key") == "for all")
    for squatter in squatters:
        squatter.close()


def test_delete_leaves_neither_process_nor_file(state, tmp_path):
    swarm = make()
    swarm.spawn(1)
    swarm.pids()
    swarm.swarm.delete()
    eventually(lambda: all_gone(swarm))
    assert [*state.rglob("*"), *(tmp_path / "run").rglob("*")] == []
    assert not client.has_swarm()


def test_a_state_directory_that_cannot_be_written_is_reported(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with monkeypatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
        error = refusal(lifecycle.init, name="demo", regions=["us-east"])
    assert error.reason == "state-directory"
    assert "not a directory" in error.message
    assert "XDG_STATE_HOME" in error.hint


def test_settings_that_are_refused_leave_no_swarm_behind(state):
    error = refusal(lifecycle.init, name="demo", regions=["us-east"], settings={"fanout": 99})
    assert (error.reason, error.exit) == ("invalid-setting", 2)
    assert "fanout" in error.message
    assert list(state.iterdir()) == []


# --- settings, keys -------------------------------------------------------------------------------


def test_a_setting_reaches_every_agent_and_those_spawned_later():
    swarm = make()
    names = swarm.spawn(1)
    result = swarm("config", changes={"fanout": 5, "region-affinity": 0.8})
    assert sorted(result["changed"]) == ["fanout", "region_affinity"]
    names += swarm.spawn(1, "us-east")
    for name in names:
        with swarm.client(name) as http:
            eventually(lambda http=http: http.config().settings["fanout"] == 5)
    error = refusal(swarm, "config", changes={"fanuot": 3})
    assert (error.exit, "did you mean fanout" in error.message) == (2, True)
    assert refusal(swarm, "config", changes={"fanout": 0}).exit == 2
    assert swarm("config")["settings"]["fanout"] == 5
    assert swarm("config", changes={"fanout": 5})["changed"] == []


def test_max_agents_cannot_fall_below_what_there_is():
    swarm = make(max_agents=5)
    swarm.spawn(1)
    error = refusal(swarm, "config", changes={"max_agents": 2})
    assert "the swarm has 3 agents" in error.message
    assert swarm("config", changes={"max_agents": 3})["changed"] == ["max_agents"]
    assert refusal(swarm, "spawn").reason == "max-agents"


def test_a_key_rotation_interrupts_nothing():
    swarm = make()
    first, second, third = swarm.spawn(1)
    (old,) = swarm("keyring")["keys"]
    (new,) = swarm("keyring", action="rotate")["keys"]
    assert new != old
    for name in (first, second, third):
        with swarm.client(name) as http:
            assert list(http.keyring("list")) == [new]
    swarm.set(first, "key", "under the new key")
    eventually(lambda: swarm.get(second, "key") == "under the new key")
    (late,) = swarm.spawn(1, "us-east")
    eventually(lambda: swarm.get(late, "key") == "under the new key")
    swarm.swarm.down()
    swarm.up()
    swarm.set(third, "key", "after a restart")
    eventually(lambda: swarm.get(first, "key") == "after a restart")


def test_encryption_can_be_left_off():
    swarm = make(encryption=False)
    first, second = swarm.spawn(1, "us-east", "us-west")
    swarm.set(first, "key", 1)
    eventually(lambda: swarm.get(second, "key") == 1)
    assert refusal(swarm, "keyring", action="rotate").reason == "encryption-off"


# --- partitions -----------------------------------------------------------------------------------


def test_a_partition_holds_writes_back_until_it_is_healed():
    swarm = make()
    east, west, central = swarm.spawn(1)
    eventually(swarm.is_whole)
    cut = swarm("partition", group1="us-east", group2="us-west,eu-central")
    assert cut["agents"] == 3
    status = swarm("partition-status")
    assert (status["status"], status["enforced"]) == ("partitioned", {"agents": 3, "of": 3})
    assert status["groups"] == [["us-east"], ["eu-central", "us-west"]]
    swarm.set(east, "key", "east")
    swarm.set(west, "other", "west")
    eventually(lambda: swarm.get(central, "other") == "west")
    eventually(lambda: swarm("partition-status")["detection"]["agents"] == 3)
    assert swarm.get(central, "key") is None
    assert swarm.get(east, "other") is None
    assert swarm("heal")["healed"] == [cut["id"]]
    eventually(swarm.is_whole)
    assert [swarm.get(name, "key") for name in (east, west, central)] == ["east"] * 3
    assert swarm("partition-status")["status"] == "healthy"


def test_a_partition_ends_by_itself_when_its_time_is_over():
    swarm = make()
    east, west = swarm.spawn(1, "us-east", "us-west")
    cut = swarm("partition", group1="us-east", group2="us-west", duration_ms=1000)
    swarm.set(east, "key", 1)
    eventually(lambda: not swarm("partition-status")["cuts"])
    [over] = [
        line
        for line in swarm("logs", name="supervisor", lines=1000)["lines"]
        if line["message"].startswith("partition over")
    ]
    assert over["time"] >= cut["expires_at"]
    eventually(lambda: swarm.get(west, "key") == 1)


def test_an_agent_is_born_into_the_cut_that_is_in_force():
    swarm = make()
    east, west = swarm.spawn(1, "us-east", "us-west")
    swarm("partition", group1="us-east")
    swarm.set(west, "key", "beyond")
    (newcomer,) = swarm.spawn(1, "us-east")
    swarm.set(east, "mine", "here")
    eventually(lambda: swarm.get(newcomer, "mine") == "here")
    assert swarm.get(newcomer, "key") is None
    (only,) = swarm.spawn(1, "eu-central")
    eventually(lambda: swarm.get(only, "key") == "beyond")
    swarm("heal")
    eventually(lambda: swarm.get(newcomer, "key") == "beyond")


def test_partitions_that_make_no_sense_are_refused():
    swarm = make()
    error = refusal(swarm, "partition", group1="us-east,us-west", group2="us-west")
    assert (error.reason, error.exit) == ("invalid-partition", 2)
    assert refusal(swarm, "partition", group1="us-eats").hint == "did you mean us-east?"
    swarm("partition", group1="us-east", group2="us-west,eu-central")
    error = refusal(swarm, "partition", group1="us-west", group2="us-east")
    assert error.reason == "partition-active"
    assert "heal-partition" in error.hint
    swarm("partition", pair="us-west,eu-central")
    assert len(swarm("heal")["healed"]) == 2


# --- manifests ------------------------------------------------------------------------------------


def manifest(regions, **spec):
    return {
        "apiVersion": "gossipswarm.io/v1alpha1",
        "kind": "GossipSwarm",
        "metadata": {"name": "demo"},
        "spec": {"regions": [{"name": n, "replicas": r} for n, r in regions.items()], **spec},
    }


def counts(swarm):
    return {region: count["active"] for region, count in swarm("status")["agent_counts"].items()}


def test_applying_a_manifest_makes_the_swarm_and_applying_it_again_does_nothing():
    wanted = manifest({"us-east": 2, "us-west": 1}, gossip={"fanout": 4}, maxAgents=9)
    first = lifecycle.apply(wanted)
    assert first["created"]
    assert first["status"]["status"] == "active"
    second = lifecycle.apply(wanted)
    assert (second["created"], second["changes"]) == (False, [])
    assert second["status"]["max_agents"] == 9
    assert first["status"]["agents"] == ["demo-us-east-0", "demo-us-east-1", "demo-us-west-0"]


def test_a_changed_manifest_scales_regions_and_changes_settings_live():
    lifecycle.apply(manifest({"us-east": 2, "us-west": 1}))
    swarm = Local("demo")
    swarm.set("demo-us-west-0", "key", "moves on")
    changed = manifest({"us-east": 1, "ap-south": 2}, gossip={"interval": "50ms"})
    result = lifecycle.apply(changed)
    assert result["changes"] == [
        "set interval to 50",
        "added region ap-south",
        "removed 1 agents from us-east",
        "removed 1 agents from us-west",
        "added 2 agents to ap-south",
        "removed region us-west",
    ]
    assert counts(swarm) == {"us-east": 1, "ap-south": 2}
    eventually(lambda: swarm.get("demo-ap-south-1", "key") == "moves on")


def test_an_invalid_manifest_changes_nothing():
    lifecycle.apply(manifest({"us-east": 1}))
    swarm = Local("demo")
    for wrong in (
        manifest({"us-east": 3}, gossip={"fanout": 99}),
        manifest({"us-east": 3}, maxAgents=2),
        manifest({"us-east": 3}, encryption="Disabled"),
    ):
        assert refusal(lifecycle.apply, wrong).exit == 2
    assert counts(swarm) == {"us-east": 1}


# --- logs -----------------------------------------------------------------------------------------


def test_logs_of_an_agent_a_worker_and_the_supervisor_can_be_read():
    swarm = make()
    first, second = swarm.spawn(1, "us-east", "us-west")
    lines = swarm("logs", name=first)["lines"]
    assert lines
    assert {line["agent"] for line in lines} == {first}
    assert any(line["source"] == "supervisor" for line in swarm("logs")["lines"])
    assert swarm("logs", name="worker-1", lines=1)["lines"][0]["source"] == "worker-1"
    assert refusal(swarm, "logs", name="worker-9").hint.startswith("did you mean worker-")
    follower = LocalSwarm("demo").stream("logs", name=second, follow=True)
    assert next(follower)["line"]["agent"] == second


def test_every_process_is_there_once_and_named():
    swarm = make()
    pids = swarm.pids()
    assert sorted(pids) == ["supervisor", "worker-1", "worker-2"]
    assert all(map(is_alive, pids.values()))
