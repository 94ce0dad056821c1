"""Whatever comes from the network, an agent counts it by reason, drops it and goes on.

Strangers cannot seal a frame; these tests do what they can, and then what a peer could that has a key and a
bug: sound frames around messages that are nonsense.
"""

from __future__ import annotations

import socket
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from agents import KEY, config_of, put, running, seed_of, swarm
from gossipswarm_agent.core import messages
from gossipswarm_agent.runtime.agent import Agent
from gossipswarm_agent.runtime.keyring import Keyring
from loopback import HOST, until

KINDS = list(messages.Message.__args__)
FUZZ = settings(max_examples=100, suppress_health_check=list(HealthCheck))

names = st.sampled_from(["peer", "victim", "stranger", "", "peer/1", "x" * 300])
numbers = st.integers(-(2**63), 2**64 - 1) | st.integers(0, 300)
origins = st.sampled_from(["peer/1", "victim/1", "peer", "/", ""])
ranges = st.dictionaries(
    origins,
    st.lists(
        st.tuples(numbers, numbers) | st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=3
    ),
)
keys = st.sampled_from(["a", "a.b", "", ".", "$swarm.config.fanout", "a..b", "\\", "k" * 600, "é"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
vectors = st.dictionaries(origins, numbers, max_size=3)


def of_type(kind: Any) -> st.SearchStrategy[Any]:
    """Values that decode as this type, plausible or not."""
    name = getattr(kind, "__name__", str(kind))
    if kind is msgspec.Raw:
        return json_values
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        return st.tuples(*[of_field(field.name, field.type) for field in fields]).map(list)
    if kind is str:
        return names | keys
    if kind is int:
        return numbers
    if kind is bool:
        return st.booleans()
    if kind is bytes:
        return st.binary(max_size=30)
    origin, arguments = getattr(kind, "__origin__", None), getattr(kind, "__args__", ())
    if origin is list:
        return st.lists(of_type(arguments[0]), max_size=4)
    if origin is tuple:
        return st.tuples(*map(of_type, arguments)).map(list)
    if origin is dict:
        return st.dictionaries(of_type(arguments[0]), of_type(arguments[1]), max_size=3)
    if arguments:
        return st.one_of(*[of_type(one) for one in arguments if one is not type(None)], st.none())
    raise AssertionError(f"no values for {name}")


def of_field(name: str, kind: Any) -> st.SearchStrategy[Any]:
    if name == "sender":
        return names
    if name in ("ranges", "claims", "ahead"):
        return ranges
    if name == "seen":
        return vectors | of_type(kind)
    return of_type(kind)


def message(kind: type) -> st.SearchStrategy[bytes]:
    fields = msgspec.structs.fields(kind)
    tag = kind.__struct_config__.tag
    return (
        st.tuples(*[of_field(field.name, field.type) for field in fields])
        .map(lambda values: [tag, *values])
        .map(msgspec.msgpack.encode)
    )


def dropped(agent: Agent) -> dict[str, float]:
    text = agent.metrics.render().decode()
    return {
        sample.labels["reason"]: sample.value
        for family in text_string_to_metric_families(text)
        if family.name == "gossipswarm_dropped_packets"
        for sample in family.samples
        if sample.name.endswith("_total")
    }


class Insider:
    """Somebody with the swarm's key who sends what it likes."""

    def __init__(self, agent: Agent) -> None:
        self.keyring = Keyring("test", [KEY])
        self._target = (HOST, agent.node.identity.port)
        self._agent = agent
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((HOST, 0))

    def send(self, body: bytes, hop: int = 1, tree: int = 0) -> None:
        self._socket.sendto(bytes((hop, tree)) + self.keyring.seal(body), self._target)
        self._agent.transport.drain()

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_no_message_however_odd_makes_an_agent_fail(kind: type) -> None:
    async with (
        running(config_of("victim")) as agent,
        running(config_of("peer", seeds=[seed_of(agent)])) as peer,
    ):
        await until(lambda: agent.node.membership.live() and peer.node.membership.live(), 40)
        insider = Insider(agent)

        @FUZZ
        @given(message(kind), st.integers(0, 255), st.sampled_from([0, 1, 2, 17, 64, 65, 255]))
        def harass(body: bytes, hop: int, tree: int) -> None:
            insider.send(body, hop, tree)
            assert agent.driver.defects == 0

        harass()
        insider.close()
        # It still does what it is for.
        await agent.write(put("after", 1))
        assert agent.read("after").value == 1


async def test_bodies_that_are_no_message_are_counted_as_malformed() -> None:
    async with running(config_of("victim")) as agent:
        insider = Insider(agent)
        bodies = [
            b"",
            b"\xc1",
            b"\x93\x01",
            msgspec.msgpack.encode({"a": 1}),
            msgspec.msgpack.encode([99, "peer"]),
            msgspec.msgpack.encode([2, "peer", "not a number", "victim"]),
            b"\x92\xa3abc\xa1\xff",
            b"\x91" * 5000,
            b"\x93\x08\xa1\xff\x01",
        ]
        for body in bodies:
            insider.send(body)
        insider.close()
        assert agent.driver.defects == 0
        assert dropped(agent) == {"malformed": len(bodies)}


async def test_fields_that_a_newer_version_appends_are_passed_over() -> None:
    async with swarm(["us-east", "us-east"]) as (agent, other):
        insider = Insider(agent)
        probes = agent.node.counters.get("dropped_malformed", 0)
        known = messages.encode(messages.Digest(other.config.name, 1, 2, False))
        fields = msgspec.msgpack.decode(known)
        insider.send(msgspec.msgpack.encode([*fields, "new", {"field": 1}]))
        insider.close()
        assert agent.node.counters.get("dropped_malformed", 0) == probes


async def test_what_strangers_send_is_counted_by_reason() -> None:
    async with running(config_of("victim")) as agent:
        sealed = Keyring("test", [KEY]).seal(messages.encode(messages.Digest("peer", 1, 2)))
        target = (HOST, agent.node.identity.port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for datagram in (
                b"",
                b"\x01\x00" + sealed[:30],
                b"\x01\x00" + sealed[:-1] + b"\x00",
                b"\x01\x00\x63" + sealed[1:],
                b"\x01\x00" + Keyring("other", [KEY]).seal(b"x"),
                b"\x01\x00" + Keyring("test", [bytes(32)]).seal(b"x"),
                b"\x01\x00" + sealed,
                b"\x01\x00" + sealed,
            ):
                stranger.sendto(datagram, target)
        await until(lambda: sum(dropped(agent).values()) >= 8)
        expected = dict.fromkeys(["tag", "version", "swarm", "key", "duplicate", "stranger"], 1)
        assert dropped(agent) == expected | {"truncated": 2}


async def test_a_whole_conversation_that_is_replayed_changes_nothing() -> None:
    async with running(config_of("a")) as agent:
        recorded: list[bytes] = []
        async with running(config_of("b", seeds=[seed_of(agent)])) as other:
            admit = agent.transport._admission.admit

            def record(data: bytes, source: Any, **options: Any) -> Any:
                recorded.append(data)
                return admit(data, source, **options)

            agent.transport._datagrams._admission = type(
                "Recording", (), {"admit": staticmethod(record)}
            )
            for number in range(20):
                await other.write(put("k", number), traced=True)
            await until(lambda: agent.read("k") is not None and agent.read("k").value == 19)
        await until(lambda: not agent.node.membership.live())
        before = (
            agent.node.state.state_hash,
            agent.read("k").version,
            dict(agent.node.state.vector.seen),
        )
        conversation = list(recorded)
        assert len(conversation) > 20
        target = (HOST, agent.node.identity.port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
            for _ in range(3):
                for datagram in conversation:
                    # On other trees, too: that byte is outside the seal.
                    attacker.sendto(datagram, target)
                    attacker.sendto(datagram[:1] + b"\x03" + datagram[2:], target)
                    while agent.transport.drain():  # before the socket has no room for more
                        pass
        after = (
            agent.node.state.state_hash,
            agent.read("k").version,
            dict(agent.node.state.vector.seen),
        )
        assert after == before
        assert dropped(agent)["duplicate"] >= 4 * len(conversation)
        assert not agent.node.membership.live(), "who left does not come back by a replay"
