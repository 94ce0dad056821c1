"""An agent keeps what it acknowledged, says clearly why it cannot start, and stops in order."""

from __future__ import annotations

import asyncio
import base64
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agents import KEY, config_of, new_key, put, running, seed_of, swarm
from gossipswarm_agent.core.errors import WriteRefused
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.runtime import commits
from gossipswarm_agent.runtime.agent import Agent
from gossipswarm_agent.runtime.config import ConfigError, Seed
from gossipswarm_agent.runtime.departure import NotHandedOver
from gossipswarm_agent.runtime.journal import JournalError, JournalLocked
from gossipswarm_agent.runtime.keyring import KeyringError, key_id
from gossipswarm_agent.runtime.ports import PortInUse, bind_gossip
from loopback import HOST, until


def segments(data: Path) -> list[Path]:
    return sorted((data / "journal").glob("segment-*.journal"))


# --- writing and reading --------------------------------------------------------------------------


async def test_a_write_at_one_agent_is_read_at_the_others() -> None:
    async with swarm(["us-east", "us-west", "eu-central"]) as agents:
        [result] = await agents[0].write(
            put("app.config", {"ttl": 1, "flags": {"new": True}}), traced=True
        )
        reached = await agents[0].wait_converged(result.dot, 1.0, 60)
        assert (reached.converged, reached.received) == (True, 3)
        for agent in agents:
            reading = agent.read("app.config")
            assert reading.value == {"ttl": 1, "flags": {"new": True}}
            assert reading.etag == result.etag
        assert len({agent.node.state.state_hash for agent in agents}) == 1


async def test_a_value_too_large_for_any_datagram_arrives() -> None:
    async with swarm(["us-east", "us-west"]) as agents:
        value = base64.b64encode(os.urandom(300_000)).decode()
        [result] = await agents[0].write([Mutation("leaf", "blob", value)], traced=True)
        assert (await agents[0].wait_converged(result.dot, 1.0, 60)).converged
        assert agents[1].read("blob").value == value


async def test_waiting_for_a_write_that_is_unknown_is_refused() -> None:
    async with running(config_of("a")) as agent:
        with pytest.raises(WriteRefused) as refused:
            await agent.wait_converged("a/1:77", None, 1)
        assert refused.value.status == 404


async def test_waiting_ends_with_the_time_and_tells_how_far_it_came() -> None:
    # Who is taken for dead is waited for no longer.
    patient = {"suspicion_timeout": 600_000}
    async with swarm(["us-east", "us-east", "us-east"], settings=patient) as agents:
        await agents[2].stop(leave=False)
        [result] = await agents[0].write(put("k", 1), traced=True)
        assert (await agents[0].wait_converged(result.dot, 0.6, 60)).converged
        reached = await agents[0].wait_converged(result.dot, 1.0, 0.3)
        assert not reached.converged
        assert reached.missing == ["agent-2"]


async def test_one_request_id_is_one_write() -> None:
    async with running(config_of("a")) as agent:
        first, second = await asyncio.gather(
            agent.write(put("k", 1), request_id="x"), agent.write(put("k", 1), request_id="x")
        )
        third = await agent.write(put("k", 1), request_id="x")
        assert first == second == third
        assert agent.read("k").version == 1
        await agent.write(put("k", 1), request_id="y")
        assert agent.read("k").version == 2


async def test_a_refused_request_may_be_tried_again_under_its_id() -> None:
    async with running(config_of("a")) as agent:
        agent.degrade(True)
        with pytest.raises(WriteRefused, match="degraded"):
            await agent.write(put("k", 1), request_id="x")
        agent.degrade(False)
        await agent.write(put("k", 1), request_id="x")
        assert agent.read("k").value == 1


async def test_a_caller_that_gives_up_can_ask_again_without_writing_twice(tmp_path: Path) -> None:
    async with running(config_of("a", data_dir=tmp_path)) as agent:
        impatient = asyncio.create_task(agent.write(put("k", 1), request_id="x"))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.wait([impatient])
        [result] = await agent.write(put("k", 1), request_id="x")
        assert result.version == 1
        assert agent.node.state.sequence == 1


async def test_a_stopped_agent_refuses_writes() -> None:
    async with running(config_of("a")) as agent:
        await agent.stop()
        with pytest.raises(WriteRefused) as refused:
            await agent.write(put("k", 1))
        assert (refused.value.status, refused.value.reason) == (503, "stopped")


# --- disks ----------------------------------------------------------------------------------------


async def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    config = config_of("a", data_dir=tmp_path)
    async with running(config) as agent:
        await agent.write(put("app.config", {"x": 1}))
        await agent.write([Mutation("delete", "app.config.x")])
        await agent.write(put("app.y", [2]))
        before = (agent.node.state.state_hash, agent.node.state.origin, agent.read("app").value)
        incarnation = agent.node.membership.me.incarnation
    async with running(config) as agent:
        after = (agent.node.state.state_hash, agent.node.state.origin, agent.read("app").value)
        assert after == before
        assert agent.node.membership.me.incarnation > incarnation
        [result] = await agent.write(put("app.z", 3))
        assert result.dot == f"{before[1]}:4"


async def test_a_torn_tail_is_cut_and_the_rest_is_kept(tmp_path: Path) -> None:
    config = config_of("a", data_dir=tmp_path)
    async with running(config) as agent:
        await agent.write(put("k", "kept"))
    with segments(tmp_path)[-1].open("ab") as file:
        file.write(b"\x00\x00\x01\x00torn")
    async with running(config) as agent:
        assert agent.read("k").value == "kept"
        assert agent.recovery_summary == (8, 0)


async def test_a_damaged_middle_is_set_aside_and_fetched_again_from_peers(tmp_path: Path) -> None:
    async with swarm(["us-east", "us-east"], tmp_path) as agents:
        for number in range(50):
            [result] = await agents[0].write(put(f"k{number}", "v" * 100), traced=True)
        assert (await agents[0].wait_converged(result.dot, 1.0, 60)).converged
        await agents[1].stop()
        data = agents[1].config.data_dir
        path = segments(data)[0]
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
        again = config_of(
            "agent-1",
            data_dir=data,
            seeds=[seed_of(agents[0])],
            gossip_port=agents[1].node.identity.port,
        )
        async with running(again) as agent:
            assert agent.recovery_summary == (0, 1)
            assert list((data / "journal").glob("*.quarantine"))
            await until(lambda: agent.node.state.state_hash == agents[0].node.state.state_hash, 60)
            assert all(agent.read(f"k{number}") is not None for number in range(50))


async def test_two_agents_cannot_share_a_directory(tmp_path: Path) -> None:
    async with running(config_of("a", data_dir=tmp_path)):
        with pytest.raises(JournalLocked, match="open elsewhere"):
            await Agent.start(config_of("b", data_dir=tmp_path))


async def test_a_directory_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", Path("/sys/gossipswarm")):
        with pytest.raises(JournalError, match=str(directory)):
            await Agent.start(config_of("a", data_dir=directory))


@contextmanager
def full_disk(largest: int) -> Iterator[None]:
    """No file may grow beyond this many bytes meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_refuses_writes_and_recovers_by_itself(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(commits, "RETRY_SECONDS", 0.1)
    config = config_of("a", data_dir=tmp_path)
    async with (
        running(config_of("peer")) as peer,
        running(config_of("a", data_dir=tmp_path, seeds=[seed_of(peer)])) as agent,
    ):
        await agent.write(put("before", 1))
        await until(lambda: peer.read("before") is not None)
        size = agent.journal_status.bytes
        with full_disk(size + 100):
            with pytest.raises(WriteRefused) as refused:
                await agent.write(put("during", "x" * 500))
            assert (refused.value.status, refused.value.reason) == (507, "disk-full")
            assert agent.read("during") is None
            assert agent.read("before").value == 1
            # Gossip goes on: what others write is seen, though not journalled yet.
            await peer.write(put("from-peer", "y" * 500))
            await until(lambda: agent.read("from-peer") is not None)
            await until(lambda: agent.journal_status.trouble is not None)
            with pytest.raises(NotHandedOver):
                await peer.departure.drain(copies=1, leaving=(), seconds=0.5, hold=0.1)
        await until(lambda: agent.journal_status.trouble is None)
        found = await peer.departure.drain(copies=1, leaving=(), seconds=60, hold=0.1)
        assert found == ["a"]
        await agent.write(put("after", 2))
    async with running(config) as agent:
        assert agent.read("before").value == 1
        assert agent.read("after").value == 2
        assert agent.read("from-peer").value == "y" * 500
        assert agent.read("during") is None


async def test_the_journal_is_replaced_by_a_snapshot_when_it_has_grown(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(commits, "SNAPSHOT_BYTES", 20_000)
    config = config_of("a", data_dir=tmp_path)
    async with running(config) as agent:
        for number in range(60):
            await agent.write(put("same.key", "v" * 1000 + str(number)))
        await until(lambda: agent.journal_status.snapshots > 0)
        hashed = agent.node.state.state_hash
    assert sum(file.stat().st_size for file in (tmp_path / "journal").iterdir()) < 60_000
    async with running(config) as agent:
        assert agent.node.state.state_hash == hashed
        assert agent.read("same.key").version == 60


# --- ports, peers, readiness ----------------------------------------------------------------------


async def test_a_taken_port_is_an_error_that_names_it_and_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    taken = bind_gossip(HOST)
    config = config_of("a", data_dir=tmp_path, gossip_port=taken.port)
    with pytest.raises(PortInUse, match=str(taken.port)):
        await Agent.start(config)
    taken.close()
    async with running(config) as agent:
        assert agent.gossip_address == f"{HOST}:{taken.port}"


async def test_an_agent_that_is_alone_by_declaration_is_ready() -> None:
    async with running(config_of("a", declared={"a": "us-east"})) as agent:
        assert agent.ready


async def test_an_agent_that_has_not_met_its_swarm_is_not_ready() -> None:
    nobody = bind_gossip(HOST)
    nobody.close()
    async with running(config_of("a", seeds=[Seed(HOST, nobody.port)])) as agent:
        assert not agent.ready
    async with running(config_of("a", declared={"a": "us-east", "b": "us-east"})) as agent:
        assert not agent.ready


async def test_a_seed_may_be_a_name() -> None:
    async with running(config_of("a")) as agent:
        seed = Seed("localhost", agent.node.identity.port)
        async with running(config_of("b", seeds=[seed])) as other:
            await until(lambda: agent.node.membership.live() and other.ready, 40)


async def test_a_reset_of_flows_goes_unnoticed_by_the_swarm() -> None:
    async with swarm(["us-east", "us-west"]) as agents:
        port = agents[0].transport.source_port
        agents[0].reset_peers()
        assert agents[0].transport.source_port != port
        [result] = await agents[0].write(put("k", 1), traced=True)
        assert (await agents[0].wait_converged(result.dot, 1.0, 60)).converged


async def test_comparing_with_nobody_is_refused() -> None:
    async with running(config_of("a")) as agent:
        for peer in (None, "ghost"):
            with pytest.raises(WriteRefused) as refused:
                await agent.compare(peer, 1)
            assert refused.value.status == 404


async def test_parameters_that_are_out_of_range_are_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="fanout"):
        await Agent.start(config_of("a", settings={"fanout": 99}))


async def test_a_defect_in_one_event_is_counted_and_the_agent_goes_on(caplog) -> None:
    agent = await Agent.start(config_of("a"))
    agent.driver.deliver([object()])
    assert agent.driver.defects == 1
    assert "cannot handle an event" in caplog.text
    await agent.write(put("k", 1))
    await agent.stop()


# --- keys -----------------------------------------------------------------------------------------


async def test_keys_are_rotated_without_losing_anybody(tmp_path: Path) -> None:
    async with swarm(["us-east", "us-west"], tmp_path) as agents:
        key = new_key()
        [name] = {agent.install_key(key) for agent in agents}
        old = key_id(KEY).hex()
        agents[0].use_key(name)
        [result] = await agents[0].write(put("half-way", 1), traced=True)
        assert (await agents[0].wait_converged(result.dot, 1.0, 60)).converged
        agents[1].use_key(name)
        # What was sealed with the old key is on its way no more once this has arrived.
        [result] = await agents[1].write(put("all-the-way", 1), traced=True)
        assert (await agents[1].wait_converged(result.dot, 1.0, 60)).converged
        for agent in agents:
            agent.remove_key(old)
            assert agent.keys() == [name]
        [result] = await agents[1].write(put("done", 1), traced=True)
        assert (await agents[1].wait_converged(result.dot, 1.0, 60)).converged
        assert all("key" not in agent.transport.counters.dropped for agent in agents)


async def test_a_retired_key_stays_retired_after_a_restart(tmp_path: Path) -> None:
    config = config_of("a", data_dir=tmp_path)
    async with running(config) as agent:
        name = agent.install_key(new_key())
        agent.use_key(name)
        agent.remove_key(key_id(KEY).hex())
    async with running(config) as agent:
        assert agent.keys() == [name]
    other = os.urandom(32)
    async with running(config_of("a", data_dir=tmp_path, keys=[other])) as agent:
        assert agent.keys() == [key_id(other).hex()], "newly configured keys count again"


async def test_keys_of_no_use_are_refused() -> None:
    async with running(config_of("a")) as agent:
        for attempt in (
            lambda: agent.install_key("short"),
            lambda: agent.use_key("00112233"),
            lambda: agent.remove_key("nonsense"),
            lambda: agent.remove_key(agent.keys()[0]),
        ):
            with pytest.raises(KeyringError):
                attempt()
    with pytest.raises(ConfigError, match="32 bytes"):
        await Agent.start(config_of("a", keys=[b"short"]))


async def test_a_directory_of_another_swarm_is_refused(tmp_path: Path) -> None:
    async with running(config_of("a", data_dir=tmp_path)) as agent:
        agent.install_key(new_key())
    with pytest.raises(ConfigError, match="holds the keys of swarm 'test'"):
        await Agent.start(config_of("a", data_dir=tmp_path, swarm="other"))
