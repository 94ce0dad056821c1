"""What is too large for a datagram arrives down a stream; connections are made, bounded and given up."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import closing, suppress

import msgspec
import pytest
import uvloop

from gossipswarm_agent.runtime import stream_server, streams
from gossipswarm_agent.runtime.keyring import Keyring
from gossipswarm_agent.runtime.ports import bind_gossip
from gossipswarm_agent.runtime.streams import record
from loopback import HOST, KEY, Peer, free_ports, peers, until


def large(size: int = 100_000) -> bytes:
    return b"\x91" + os.urandom(size)


async def connect(to: Peer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*to.address)


def hello(keyring: Keyring, address=(HOST, 1)) -> bytes:
    return record(b"\x00\x00" + keyring.seal(msgspec.msgpack.encode(address)))


async def closed(reader: asyncio.StreamReader) -> None:
    """Wait for the other end to close."""
    async with asyncio.timeout(60):
        with suppress(ConnectionError):
            assert await reader.read() == b""


async def test_a_large_frame_arrives_whole_from_the_listening_address() -> None:
    async with peers(2) as (one, other):
        body = large(3 << 20)
        one.send(other, body, hop=2, tree=3)
        await until(lambda: other.inbound)
        inbound = other.inbound[0]
        assert inbound.frame.body == body
        assert (inbound.hop, inbound.tree, inbound.source) == (2, 3, one.address)


async def test_frames_to_one_peer_keep_their_order_and_share_a_connection() -> None:
    async with peers(2) as (one, other):
        bodies = [large(5000 + number) for number in range(50)]
        for body in bodies:
            one.send(other, body)
        await until(lambda: len(other.inbound) == 50)
        assert other.bodies == bodies
        assert other.transport.streams_open == 1


async def test_a_large_frame_is_compressed_when_asked_and_expands_to_itself() -> None:
    async with peers(2) as (one, other):
        one.transport.compresses = True
        body = b"\x91" + b"configuration " * 10_000
        one.send(other, body)
        await until(lambda: other.inbound)
        assert other.bodies == [body]
        assert one.transport.counters.bytes_out < 1400


async def test_a_compressed_body_that_lies_about_its_size_is_dropped() -> None:
    async with peers(2) as (one, other):
        huge_claim = (
            bytes.fromhex("28b52ffd") + bytes.fromhex("e0") + (1 << 50).to_bytes(8, "little")
        )
        one.send(other, huge_claim + b"\x00" * 16)
        one.send(other, bytes.fromhex("28b52ffd") + b"\xff" * 20)
        await until(lambda: other.dropped.get("compression") == 2)
        assert other.inbound == []


async def test_a_peer_that_comes_up_later_gets_what_waited(monkeypatch) -> None:
    async with peers(1) as (one,):
        (port,) = free_ports(1)
        waiting = type("Later", (), {"address": (HOST, port)})
        body = large()
        one.send(waiting, body)
        listening = socket.create_server((HOST, port))
        with closing(listening):
            listening.setblocking(False)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(60):
                connection, _ = await loop.sock_accept(listening)
                with closing(connection):
                    received = b""
                    while len(received) < len(body):
                        received += await loop.sock_recv(connection, 1 << 16)


async def test_a_peer_that_never_answers_is_given_up_and_counted(monkeypatch) -> None:
    monkeypatch.setattr(streams, "GIVE_UP_SECONDS", 0.1)
    async with peers(1) as (one,):
        gone = bind_gossip(HOST)
        gone.close()
        one.send(type("Gone", (), {"address": (HOST, gone.port)}), large())
        await until(lambda: one.dropped == {"unreachable": 1})
        assert one.transport.streams_open == 0


async def test_a_queue_that_is_full_drops_and_counts(monkeypatch) -> None:
    monkeypatch.setattr(streams, "QUEUE_BYTES", 250_000)
    async with peers(2) as (one, other):
        for _ in range(5):
            one.send(other, large())
        assert one.dropped == {"stream_queue": 3}
        await until(lambda: len(other.inbound) == 2)


async def test_reset_closes_streams_both_ways_and_the_next_frame_opens_another() -> None:
    async with peers(2) as (one, other):
        one.send(other, large())
        other.send(one, large())
        await until(lambda: one.inbound and other.inbound)
        before = one.transport.source_port
        assert one.transport.reset_peers() == 2
        assert one.transport.source_port != before
        await until(lambda: other.transport.streams_open == 0)
        one.send(other, large())
        await until(lambda: len(other.inbound) == 2)


async def test_idle_connections_are_closed(monkeypatch) -> None:
    monkeypatch.setattr(streams, "IDLE_SECONDS", 1.0)  # the frame has to arrive before
    async with peers(2) as (one, other):
        one.send(other, large())
        await until(lambda: other.inbound)
        await until(lambda: one.transport.streams_open == 0)
        await until(lambda: other.transport.streams_open == 0)


async def test_nothing_large_is_read_before_a_hello() -> None:
    async with peers(1) as (one,):
        reader, writer = await connect(one)
        writer.write((1 << 20).to_bytes(4, "big") + b"x" * 1000)
        await closed(reader)
        writer.close()
        assert one.dropped == {"oversized": 1}


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (hello(Keyring("test", [bytes(32)])), "key"),
        (hello(Keyring("other", [KEY])), "swarm"),
        (record(b"\x00\x00" + Keyring("test", [KEY]).seal(b"\x91not an address")), "hello"),
        (record(b"\x00"), "truncated"),
        (record(b""), "truncated"),
    ],
    ids=["wrong key", "another swarm", "no address", "no frame", "nothing"],
)
async def test_a_bad_hello_ends_the_connection(greeting: bytes, reason: str) -> None:
    async with peers(1) as (one,):
        reader, writer = await connect(one)
        writer.write(greeting)
        await closed(reader)
        writer.close()
        assert one.dropped == {reason: 1}


async def test_a_recorded_hello_cannot_be_used_again() -> None:
    async with peers(1) as (one,):
        recorded = hello(Keyring("test", [KEY]))
        _, first = await connect(one)
        first.write(recorded)
        await until(lambda: one.transport.streams_open == 1)
        await first.drain()
        reader, second = await connect(one)
        second.write(recorded)
        await closed(reader)
        first.close()
        second.close()
        assert one.dropped == {"duplicate": 1}


async def test_who_says_nothing_is_closed_after_a_while(monkeypatch) -> None:
    monkeypatch.setattr(stream_server, "HELLO_SECONDS", 0.05)
    async with peers(1) as (one,):
        reader, writer = await connect(one)
        await closed(reader)
        writer.close()
        assert one.dropped == {"hello_timeout": 1}


async def test_connections_are_bounded(monkeypatch) -> None:
    monkeypatch.setattr(stream_server, "INBOUND_LIMIT", 2)
    async with peers(1) as (one,):
        kept = [await connect(one) for _ in range(2)]
        await until(lambda: one.transport.streams_open == 2)
        reader, writer = await connect(one)
        await closed(reader)
        for _, open_writer in [*kept, (reader, writer)]:
            open_writer.close()
        assert one.dropped == {"connections": 1}


async def test_a_bad_frame_on_a_good_stream_is_dropped_alone() -> None:
    async with peers(1) as (one,):
        keyring = Keyring("test", [KEY])
        _, writer = await connect(one)
        good = keyring.seal(b"\x91good")
        bad = good[:-1] + bytes([good[-1] ^ 1])
        writer.write(hello(keyring) + record(b"\x01\x00" + bad) + record(b"\x01\x00" + good))
        await until(lambda: one.inbound)
        writer.close()
        assert one.bodies == [b"\x91good"]
        assert one.dropped == {"tag": 1}


async def test_a_frame_in_small_pieces_is_put_together() -> None:
    async with peers(1) as (one,):
        keyring = Keyring("test", [KEY])
        _, writer = await connect(one)
        data = hello(keyring) + record(b"\x01\x00" + keyring.seal(b"\x91" + b"z" * 300))
        for position in range(0, len(data), 7):
            writer.write(data[position : position + 7])
            await writer.drain()
            await asyncio.sleep(0)
        await until(lambda: one.inbound)
        writer.close()
        assert one.bodies == [b"\x91" + b"z" * 300]


async def test_a_length_beyond_all_limits_ends_the_stream() -> None:
    async with peers(1) as (one,):
        keyring = Keyring("test", [KEY])
        reader, writer = await connect(one)
        writer.write(hello(keyring) + b"\xff\xff\xff\xff")
        await closed(reader)
        writer.close()
        assert one.dropped == {"oversized": 1}


def test_datagrams_and_streams_work_on_the_event_loop_that_agents_run_on() -> None:
    async def exchange() -> None:
        async with peers(2) as (one, other):
            body = large(1 << 20)
            one.send(other, b"\x91small")
            one.send(other, body)
            await until(lambda: len(other.inbound) == 2)
            assert set(other.bodies) == {b"\x91small", body}
            assert one.transport.reset_peers() == 1
            await until(lambda: other.transport.streams_open == 0)
            assert one.dropped == {}

    uvloop.run(exchange())
