"""What is sent as a datagram arrives, once, and anything else is counted and dropped."""

from __future__ import annotations

import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossipswarm_agent.core.effects import Send
from gossipswarm_agent.runtime import keyring as seal
from gossipswarm_agent.runtime.admission import WINDOW, ReplayWindows
from gossipswarm_agent.runtime.keyring import Keyring, Rejected
from gossipswarm_agent.runtime.ports import PortInUse, bind_gossip
from loopback import HOST, KEY, Peer, peers, until


def throw(to: Peer, *datagrams: bytes) -> None:
    """Send raw bytes from a socket that belongs to nobody."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for datagram in datagrams:
            sock.sendto(datagram, to.address)


async def test_a_frame_arrives_with_its_hop_and_tree() -> None:
    async with peers(2) as (one, other):
        one.send(other, b"\x91hello", hop=3, tree=2)
        await until(lambda: other.inbound)
        inbound = other.inbound[0]
        assert (inbound.frame.body, inbound.hop, inbound.tree) == (b"\x91hello", 3, 2)
        assert inbound.source == (HOST, one.transport.source_port)


async def test_a_relayed_frame_travels_as_the_very_same_sealed_bytes() -> None:
    async with peers(3) as (origin, relay, last):
        sent = origin.send(relay, b"\x91news", hop=1, tree=1)
        await until(lambda: relay.inbound)
        frame = relay.inbound[0].frame
        relay.transport.send(Send((last.address,), frame, 2, 1))
        await until(lambda: last.inbound)
        assert last.inbound[0].frame.sealed == frame.sealed == sent.sealed


async def test_the_same_frame_is_let_in_once_a_tree() -> None:
    async with peers(2) as (one, other):
        frame = one.send(other, b"\x91x", tree=1)
        sealed = frame.sealed
        assert sealed is not None
        throw(other, b"\x01\x01" + sealed, b"\x02\x02" + sealed, b"\x02\x02" + sealed)
        await until(lambda: other.transport.counters.datagrams_in == 4)
        assert [inbound.tree for inbound in other.inbound] == [1, 2]
        assert other.dropped == {"duplicate": 2}


@pytest.mark.parametrize(
    ("forged", "reason"),
    [
        (lambda sealed: b"", "truncated"),
        (lambda sealed: sealed[:5], "truncated"),
        (lambda sealed: sealed[:-1], "tag"),
        (lambda sealed: sealed[:-1] + bytes([sealed[-1] ^ 1]), "tag"),
        (lambda sealed: bytes([seal.VERSION + 1]) + sealed[1:], "version"),
        (lambda sealed: Keyring("another swarm", [KEY]).seal(b"\x91x"), "swarm"),
        (lambda sealed: Keyring("test", [bytes(32)]).seal(b"\x91x"), "key"),
        (lambda sealed: Keyring("test", []).seal(b"\x91x" + bytes(32)), "key"),
    ],
    ids=[
        "empty",
        "header cut short",
        "last byte missing",
        "one bit flipped",
        "newer protocol",
        "another swarm",
        "unknown key",
        "plaintext to an encrypted swarm",
    ],
)
async def test_what_is_no_frame_of_ours_is_counted_by_reason(forged, reason: str) -> None:
    async with peers(1) as (one,):
        throw(one, b"\x01\x00" + forged(one.keyring.seal(b"\x91x")))
        await until(lambda: one.dropped)
        assert one.dropped == {reason: 1}
        assert one.inbound == []


async def test_a_swarm_without_keys_still_refuses_another_swarm() -> None:
    async with peers(1, key=None) as (one,):
        throw(one, b"\x01\x00" + Keyring("other", []).seal(b"\x91x"))
        throw(one, b"\x01\x00" + Keyring("test", []).seal(b"\x91y"))
        await until(lambda: one.transport.counters.datagrams_in == 2)
        assert one.dropped == {"swarm": 1}
        assert one.bodies == [b"\x91y"]


async def test_frames_under_an_installed_key_are_let_in_and_under_a_removed_one_are_not() -> None:
    new = bytes(reversed(range(32)))
    async with peers(2) as (one, other):
        name = other.keyring.install(new)
        one.keyring.install(new)
        one.keyring.use(name)
        one.send(other, b"\x91new")
        await until(lambda: other.bodies == [b"\x91new"])
        other.keyring.use(name)
        other.keyring.remove(seal.key_id(KEY))
        one.keyring.use(seal.key_id(KEY))
        one.send(other, b"\x91old")
        await until(lambda: other.dropped == {"key": 1})


async def test_random_bytes_are_dropped_whatever_they_are() -> None:
    async with peers(1) as (one,):
        sealed = one.keyring.seal(b"\x91x")

        @settings(max_examples=200, suppress_health_check=list(HealthCheck))
        @given(
            st.one_of(
                st.binary(max_size=200),
                # Near misses: a true frame with a piece replaced.
                st.builds(
                    lambda at, piece: (
                        (b"\x01\x00" + sealed)[:at] + piece + sealed[at + len(piece) :]
                    ),
                    st.integers(2, len(sealed)),
                    st.binary(min_size=1, max_size=8),
                ),
            )
        )
        def bombard(datagram: bytes) -> None:
            if datagram[2:] != sealed:
                throw(one, datagram)

        bombard()
        counters = one.transport.counters
        one.transport.drain()
        await until(lambda: counters.datagrams_in == sum(counters.dropped.values()))
        assert one.inbound == []
        assert counters.datagrams_in > 100


async def test_many_datagrams_that_wait_are_handed_over_together() -> None:
    async with peers(2) as (one, other):
        for number in range(300):
            one.send(other, b"\x91%d" % number)
        assert other.transport.drain(), "one call takes 256 at most"
        assert len(other.inbound) == 256
        assert not other.transport.drain()
        assert other.bodies == [b"\x91%d" % number for number in range(300)]


async def test_sending_to_a_closed_port_harms_nobody() -> None:
    async with peers(2) as (one, other):
        gone = bind_gossip(HOST)
        gone.close()
        nobody = type("Nobody", (), {"address": (HOST, gone.port)})
        for _ in range(5):
            one.send(nobody, b"\x91x")
            one.send(other, b"\x91y")
        await until(lambda: other.inbound)
        assert set(other.bodies) == {b"\x91y"}


async def test_the_source_port_is_not_the_listening_port_and_changes() -> None:
    async with peers(2, rotation_seconds=0.02) as (one, other):
        first = one.transport.source_port
        assert first != one.address[1]
        await until(lambda: one.transport.source_port != first)
        one.send(other, b"\x91x")
        await until(lambda: other.inbound)


def test_a_taken_port_is_an_error_that_names_it() -> None:
    taken = bind_gossip(HOST)
    try:
        with pytest.raises(PortInUse, match=f"{HOST}:{taken.port} is in use"):
            bind_gossip(HOST, taken.port)
    finally:
        taken.close()


def test_udp_and_tcp_share_one_port_number() -> None:
    sockets = bind_gossip(HOST)
    try:
        assert sockets.udp.getsockname() == sockets.tcp.getsockname() == (HOST, sockets.port)
    finally:
        sockets.close()


@given(st.lists(st.integers(0, 3 * WINDOW), max_size=200))
def test_no_counter_within_the_window_is_let_in_twice(counters: list[int]) -> None:
    windows = ReplayWindows()
    accepted = []
    for counter in counters:
        try:
            windows.check(b"session!", counter, 0, ordered=False)
        except Rejected as rejected:
            newest = max(accepted)
            expected = "stale" if counter <= newest - WINDOW else "duplicate"
            assert rejected.reason == expected
            assert expected == "stale" or counter in accepted
        else:
            assert counter not in accepted
            accepted.append(counter)


def test_a_stream_may_bring_what_is_older_than_the_window() -> None:
    windows = ReplayWindows()
    windows.check(b"session!", 5000, 0, ordered=False)
    windows.check(b"session!", 1, 0, ordered=True)
    with pytest.raises(Rejected):
        windows.check(b"session!", 1, 0, ordered=False)


def test_sessions_are_remembered_up_to_a_limit() -> None:
    windows = ReplayWindows()
    for number in range(5000):
        windows.check(number.to_bytes(8, "big"), 0, 0, ordered=False)
    assert len(windows) == 4096


@pytest.mark.parametrize(("granted", "limit"), [(425_984, 13_312), (8192, 1400), (1 << 27, 60_000)])
def test_datagrams_are_no_larger_than_what_the_kernel_can_hold_some_of(
    granted, limit, monkeypatch
) -> None:
    sockets = bind_gossip(HOST)
    answering = type("Socket", (), {"getsockopt": lambda *_: granted})
    assert sockets._replace(udp=answering()).largest_datagram(60_000) == limit
    sockets.close()
