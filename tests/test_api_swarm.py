"""What an agent tells of itself and its swarm, and how both are administered."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from gossipswarm_agent.api import types
from served import Served, one_agent, served, until

KEY = bytes(range(32))
OTHER_KEY = base64.b64encode(bytes(range(1, 33))).decode()
REGIONS = ("us-east", "us-west", "eu-central")


async def _get(agent: Served, path: str, kind: Any) -> Any:
    """The answer, which must be exactly what the type says."""
    answer = await agent.ask("GET", path)
    assert answer.status == 200, answer
    return msgspec.json.decode(answer.body, type=kind)


async def _post(agent: Served, path: str, document: Any, kind: Any) -> Any:
    answer = await agent.ask("POST", path, document)
    assert answer.status == 200, answer
    return msgspec.json.decode(answer.body, type=kind)


async def test_an_agent_says_who_it_is_and_how_it_fares(tmp_path):
    async with one_agent(data_dir=tmp_path) as agent:
        await agent.ask("PUT", "/v1/state/app", {"a": 1, "b": 2})
        await agent.ask("DELETE", "/v1/state/app.b")

        found = await _get(agent, "/v1/agent", types.AgentInfo)

        assert (found.name, found.region, found.swarm) == ("agent-0", "us-east", "tests")
        assert (found.status, found.ready, found.degraded) == ("alive", True, False)
        assert found.api == agent.server.addresses[0]
        assert found.gossip == agent.agent.gossip_address
        assert (found.leaves, found.tombstones, found.sequence) == (1, 1, 2)
        assert len(found.state_hash) == 16
        assert found.journal.bytes > 0
        assert found.groups == [["us-east"]]
        assert found.newest_trace is None

        written = await agent.ask("PUT", "/v1/state/app.c?trace=1", 3)
        newest = (await _get(agent, "/v1/agent", types.AgentInfo)).newest_trace
        assert newest is not None
        assert (newest.key, newest.dot) == ("app.c", written.document["dot"])


async def test_agents_that_hold_the_same_have_the_same_state_hash():
    async with served(*REGIONS) as agents:
        await agents[0].ask("PUT", "/v1/state/a", 1)

        async def alike() -> bool:
            found = [await _get(each, "/v1/agent", types.AgentInfo) for each in agents]
            return len({(each.state_hash, each.leaves) for each in found}) == 1 == found[0].leaves

        await until(alike)


async def test_everybody_is_listed_by_name_with_status_and_addresses():
    async with served(*REGIONS) as agents:
        found = (await _get(agents[1], "/v1/members", types.Members)).members

        assert [member.name for member in found] == ["agent-0", "agent-1", "agent-2"]
        assert [member.region for member in found] == list(REGIONS)
        assert {member.status for member in found} == {"alive"}
        assert [member.api for member in found] == [each.server.addresses[0] for each in agents]


async def test_regions_are_listed_with_relays_and_links():
    async with served(*REGIONS) as agents:
        found = (await _get(agents[0], "/v1/regions", types.Regions)).regions

        assert [region.name for region in found] == sorted(REGIONS)
        east = next(region for region in found if region.name == "us-east")
        assert east.relays == ["agent-0"]
        assert (east.agents, east.alive, east.reachable) == (1, 1, True)
        assert east.links == {"us-west": "up", "eu-central": "up"}


async def test_a_cut_is_declared_listed_and_healed():
    async with served(*REGIONS) as agents:
        east = agents[0]
        assert (await _get(east, "/v1/partition", types.Partition)).status == "healthy"
        away = {"inbound": ["us-west", "eu-central"], "outbound": ["us-west", "eu-central"]}
        await _post(east, "/v1/admin/drop-list", away, types.DropList)

        async def status(wanted: str) -> bool:
            return (await _get(east, "/v1/partition", types.Partition)).status == wanted

        async def cut_off_from_both() -> bool:
            # One link after the other is declared down.
            return len((await _get(east, "/v1/partition", types.Partition)).cuts) == 2

        await until(cut_off_from_both)
        found = await _get(east, "/v1/partition", types.Partition)
        assert found.status == "partitioned"
        assert sorted(found.groups) == [["eu-central", "us-west"], ["us-east"]]
        members = (await _get(east, "/v1/members", types.Members)).members
        assert [member.status for member in members] == ["alive", "unreachable", "unreachable"]

        assert [(cut.a, cut.b) for cut in found.cuts] == [
            ("eu-central", "us-east"),
            ("us-east", "us-west"),
        ]
        [current] = found.history
        assert current.partition_end is None
        assert current.affected_regions == sorted(REGIONS)
        assert 300 <= current.detection_ms < 60_000
        await agents[1].ask("PUT", "/v1/state/written.meanwhile", 1)

        await _post(east, "/v1/admin/drop-list", {}, types.DropList)
        await until(lambda: status("healthy"))

        async def caught_up() -> bool:
            return (await east.ask("GET", "/v1/state/written.meanwhile")).status == 200

        await until(caught_up)

        async def no_cut_left() -> bool:
            return not (await _get(east, "/v1/partition", types.Partition)).cuts

        await until(no_cut_left)

        async def made_up_for() -> bool:
            [past] = (await _get(east, "/v1/partition", types.Partition)).history
            assert past.partition_end > past.partition_start
            return past.healing_time_ms is not None

        await until(made_up_for)


async def test_conflicting_writes_are_listed_with_winner_and_loser():
    async with served("us-east", "us-west") as [east, west]:
        for agent, other in ((east, "us-west"), (west, "us-east")):
            cut = {"inbound": [other], "outbound": [other]}
            await _post(agent, "/v1/admin/drop-list", cut, types.DropList)
        await east.ask("PUT", "/v1/state/app.ttl", 7200)
        await west.ask("PUT", "/v1/state/app.ttl", 1800)
        for agent in (east, west):
            await _post(agent, "/v1/admin/drop-list", {}, types.DropList)

        async def recorded() -> bool:
            return bool((await _get(east, "/v1/conflicts", types.Conflicts)).history)

        await until(recorded)
        [found] = (await _get(east, "/v1/conflicts?limit=5", types.Conflicts)).history
        assert (found.key, found.winning_value, found.losing_value) == ("app.ttl", 1800, 7200)
        assert (found.winning_origin, found.losing_origin) == ("agent-1", "agent-0")
        assert found.resolution_strategy == "last-write-wins"
        assert found.winning_timestamp >= found.losing_timestamp
        assert found.affected_agents == 2


async def test_traced_writes_are_listed_latest_first():
    async with served("us-east", "us-west") as [agent, _]:
        first = (await agent.ask("PUT", "/v1/state/a?trace=1", 1)).document["dot"]
        second = (await agent.ask("PUT", "/v1/state/b?trace", 2)).document["dot"]
        await agent.ask("PUT", "/v1/state/c", 3)

        path = f"/v1/convergence/{second}?wait&threshold=1&timeout=60s"
        reached = await _get(agent, path, types.Convergence)
        listed = (await _get(agent, "/v1/convergence", types.ConvergenceList)).writes

        assert [write.dot for write in listed] == [second, first]
        assert (reached.converged, reached.received, reached.share) == (True, 2, 1.0)
        assert reached.full_ms is not None
        stats = await _get(agent, "/v1/convergence-stats", types.ConvergenceStats)
        assert stats.samples >= 1
        assert stats.max_ms >= stats.p50_ms


async def test_without_traced_writes_there_are_no_statistics():
    async with one_agent() as agent:
        stats = await _get(agent, "/v1/convergence-stats", types.ConvergenceStats)

        assert (stats.samples, stats.p99_ms) == (0, None)


async def test_parameters_change_everywhere():
    async with served(*REGIONS) as agents:
        changes = {"fanout": 5, "anti-entropy-interval": 20_000}
        changed = await agents[0].ask("PATCH", "/v1/config", changes)
        assert changed.document["settings"]["fanout"] == 5
        assert changed.document["version"] >= 1

        async def everywhere() -> bool:
            found = [await _get(agent, "/v1/config", types.Config) for agent in agents]
            return all(each.settings.anti_entropy_interval == 20_000 for each in found)

        await until(everywhere)


async def test_changing_nothing_changes_nothing():
    async with one_agent() as agent:
        before = (await agent.ask("GET", "/v1/config")).document

        assert (await agent.ask("PATCH", "/v1/config", {})).document == before


async def test_anti_entropy_reports_what_it_compared():
    async with served("us-east", "us-west") as [agent, other]:
        name = other.agent.config.name
        document = {"peer": name, "timeout": "60s"}

        found = await _post(agent, "/v1/admin/anti-entropy", document, types.AntiEntropyReport)

        assert (found.peer, found.buckets_compared, found.buckets_different) == (name, 256, 0)


async def test_a_key_is_rotated_in_three_steps():
    async with one_agent(keys=[KEY]) as agent:
        [old] = (await _post(agent, "/v1/admin/keyring", {}, types.Keyring)).keys
        assert await _get(agent, "/v1/admin/keyring", types.Keyring) == types.Keyring([old], old)

        install = {"action": "install", "key": OTHER_KEY}
        held = (await _post(agent, "/v1/admin/keyring", install, types.Keyring)).keys
        [new] = [key for key in held if key != old]
        await _post(agent, "/v1/admin/keyring", {"action": "use", "id": new}, types.Keyring)
        remove = {"action": "remove", "id": old}
        left = (await _post(agent, "/v1/admin/keyring", remove, types.Keyring)).keys

        assert held[0] == old
        assert left == [new]


async def test_the_drop_list_is_read_back_and_runs_out():
    async with served("us-east", "us-west") as [agent, _]:
        wanted = {"inbound": ["us-west"], "duration_ms": 200}
        told = await _post(agent, "/v1/admin/drop-list", wanted, types.DropList)
        assert told.inbound == ["us-west"]
        assert told.outbound == []
        assert told.until is not None

        async def over() -> bool:
            return not (await _get(agent, "/v1/admin/drop-list", types.DropList)).inbound

        await until(over)


async def test_peers_are_reset_and_held_regions_released():
    async with served("us-east", "us-west") as [agent, _]:
        assert (await _post(agent, "/v1/admin/reset-peers", {}, types.ResetPeers)).closed >= 0
        assert (await _post(agent, "/v1/admin/release", {}, types.Released)).regions == []


async def test_an_admin_call_needs_no_body_where_it_takes_none():
    async with one_agent() as agent:
        assert (await agent.ask("POST", "/v1/admin/reset-peers")).status == 200


async def test_an_agent_that_has_not_met_its_swarm_is_alive_and_not_ready():
    async with one_agent() as agent:
        await agent.agent.set_peers([], {"agent-0": "us-east", "agent-1": "us-east"})
        answer = await agent.ask("GET", "/readyz")
        assert (answer.status, answer.reason) == (503, "not-ready")
        assert "Retry-After" in answer.headers
        assert (await agent.ask("GET", "/healthz")).document == {"status": "ok"}


async def test_an_agent_that_lost_its_swarm_goes_on_serving():
    async with served("us-east", "us-west") as [agent, other]:
        await other.server.close()
        await other.agent.stop(leave=True)

        async def alone() -> bool:
            return not agent.agent.node.membership.live()

        await until(alone)
        assert (await agent.ask("GET", "/readyz")).document == {"status": "ready"}


async def test_metrics_are_in_the_text_format():
    async with one_agent() as agent:
        answer = await agent.ask("GET", "/metrics")

        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert b"# TYPE gossipswarm_leaves gauge" in answer.body
