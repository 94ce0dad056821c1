"""Seeds by name: hosts and services are resolved against a real name server, again and again, and in time."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from agents import config_of, running
from gossipswarm_agent.core.frames import Address
from gossipswarm_agent.runtime import lookups, seeds
from gossipswarm_agent.runtime.config import Seed
from gossipswarm_agent.runtime.lookups import LookupFailed, Lookups
from gossipswarm_agent.runtime.seeds import SeedResolver
from loopback import HOST, until

SERVICE = "_gossip-udp._udp.swarm-east.default.svc"
DOMAINS = ("default.svc.cluster.local", "svc.cluster.local", "cluster.local")
FULL = f"{SERVICE}.cluster.local."
SEED = Seed(SERVICE, 0, "us-east", srv=True)


class NameServer(asyncio.DatagramProtocol):
    """Answers for ``records``, on one port of loopback by UDP and TCP."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.asked: list[tuple[str, str]] = []
        self.by_tcp = 0
        self.silent = False
        self.with_glue = True
        self.port = 0

    def pods(self, addresses: Sequence[str], port: int = 7600) -> None:
        """What a headless service of Kubernetes says of these pods."""
        names = [
            f"swarm-east-{number}.swarm-east.{DOMAINS[0]}." for number in range(len(addresses))
        ]
        self.records = {(FULL, "SRV"): [f"0 33 {port} {name}" for name in names]}
        self.records |= {(n, "A"): [a] for n, a in zip(names, addresses, strict=True)}

    def answer(self, body: bytes, limit: int) -> bytes:
        query = dns.message.from_wire(body)
        [question] = query.question
        name, kind = question.name, dns.rdatatype.to_text(question.rdtype)
        self.asked.append((str(name), kind))
        response = dns.message.make_response(query)
        found = self.records.get((str(name), kind))
        if found is not None:
            response.answer = [dns.rrset.from_text(name, 5, "IN", kind, *found)]
            if kind == "SRV" and self.with_glue:
                for target in (text.split()[-1] for text in found):
                    if addresses := self.records.get((target, "A")):
                        glue = dns.rrset.from_text(target, 5, "IN", "A", *addresses)
                        response.additional.append(glue)
        elif all(str(name) != known for known, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        try:
            return response.to_wire(max_size=limit)
        except dns.exception.TooBig:
            response.answer, response.additional = [], []
            response.flags |= dns.flags.TC
            return response.to_wire()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if not self.silent:
            limit = max(512, dns.message.from_wire(data).payload)
            self._transport.sendto(self.answer(data, limit), addr)

    async def serve_stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        self.by_tcp += 1
        wire = self.answer(await reader.readexactly(size), 65_535)
        writer.write(len(wire).to_bytes(2, "big") + wire)
        writer.close()

    def resolver(self) -> dns.asyncresolver.Resolver:
        """As a pod's /etc/resolv.conf makes one."""
        made = dns.asyncresolver.Resolver(configure=False)
        made.nameservers = [HOST]
        made.port = self.port
        made.search = [dns.name.from_text(domain) for domain in DOMAINS]
        made.ndots = 5
        return made


def bind_pair() -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket of one port that is free for both."""
    while True:
        by_tcp = socket.create_server((HOST, 0))
        by_udp = socket.socket(type=socket.SOCK_DGRAM)
        try:
            by_udp.bind(by_tcp.getsockname())
        except OSError:
            by_tcp.close()
            by_udp.close()
        else:
            by_udp.setblocking(False)
            return by_udp, by_tcp


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    loop = asyncio.get_running_loop()
    made = NameServer()
    by_udp, by_tcp = bind_pair()
    made.port = by_tcp.getsockname()[1]
    transport, _ = await loop.create_datagram_endpoint(lambda: made, sock=by_udp)
    stream = await asyncio.start_server(made.serve_stream, sock=by_tcp)
    yield made
    transport.close()
    stream.close()
    await stream.wait_closed()


@pytest.fixture
def looking(server: NameServer) -> Lookups:
    return Lookups(random.Random(1), server.resolver)


@asynccontextmanager
async def resolving(
    told: list[tuple[Address, ...]], looking: Lookups, *wanted: Seed
) -> AsyncIterator[SeedResolver]:
    resolver = SeedResolver(wanted, told.append, random.Random(1), lookups=looking)
    await resolver.start()
    try:
        yield resolver
    finally:
        await resolver.close()


async def test_a_service_is_found_by_the_search_domains_of_the_pod(
    server: NameServer, looking: Lookups
) -> None:
    server.pods(["10.0.0.1", "10.0.0.2"])
    assert await looking.addresses(SEED) == [("10.0.0.1", 7600), ("10.0.0.2", 7600)]
    assert [kind for _, kind in server.asked] == ["SRV"] * 3  # the addresses came along


async def test_the_full_name_is_asked_first_once_it_is_known(
    server: NameServer, looking: Lookups
) -> None:
    server.pods(["10.0.0.1"])
    await looking.addresses(SEED)
    server.asked.clear()
    await looking.addresses(SEED)
    assert server.asked == [(FULL, "SRV")]
    server.records = {
        (f"{SERVICE}.", "SRV"): ["0 0 9 a.example."],
        ("a.example.", "A"): ["10.9.9.9"],
    }
    assert await looking.addresses(SEED) == [("10.9.9.9", 9)]


async def test_an_answer_too_long_for_a_datagram_comes_by_tcp(
    server: NameServer, looking: Lookups
) -> None:
    addresses = [f"10.0.{number // 200}.{1 + number % 200}" for number in range(300)]
    server.pods(addresses)
    assert await looking.addresses(SEED) == sorted((address, 7600) for address in addresses)
    assert server.by_tcp > 0


async def test_addresses_that_do_not_come_along_are_asked_for(
    server: NameServer, looking: Lookups
) -> None:
    server.with_glue = False
    server.pods(["10.0.0.1", "10.0.0.2", "10.0.0.3"])
    gone = [key for key in server.records if key[0].startswith("swarm-east-1.")]
    for key in gone:
        del server.records[key]
    assert await looking.addresses(SEED) == [("10.0.0.1", 7600), ("10.0.0.3", 7600)]


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        ({}, "do(es)? not exist|None of DNS query names exist"),
        ({(FULL, "TXT"): ["x"]}, "does not contain an answer"),
        ({(FULL, "SRV"): ["0 0 0 ."]}, "the name has no address"),
    ],
)
async def test_a_service_that_nobody_offers_is_a_failure_that_says_why(
    server: NameServer,
    looking: Lookups,
    records: dict[tuple[str, str], list[str]],
    complaint: str,
) -> None:
    server.records = records
    with pytest.raises(LookupFailed, match=complaint):
        await looking.addresses(SEED)


async def test_a_silent_name_server_is_given_up_in_time_and_the_loop_goes_on(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "LOOKUP_SECONDS", 0.5)
    server.silent = True
    turns = 0

    def resolver() -> dns.asyncresolver.Resolver:
        made = server.resolver()
        made.timeout = made.lifetime = 3600.0  # it would wait that long by itself
        return made

    async def watch_the_loop() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    watcher = asyncio.create_task(watch_the_loop())
    async with asyncio.timeout(60):
        with pytest.raises(LookupFailed):
            await Lookups(random.Random(1), resolver).addresses(SEED)
    watcher.cancel()
    assert turns >= 5


async def test_a_service_is_resolved_again_and_an_outage_keeps_what_was_known(
    server: NameServer, looking: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeds, "RESOLVE_SECONDS", 0.02)
    told: list[tuple[Address, ...]] = []
    async with resolving(told, looking, SEED, Seed("10.1.1.1", 7, "us-west")) as resolver:
        assert told == [(("10.1.1.1", 7),)]
        await until(lambda: resolver.failures >= 2)
        assert len(told) == 1
        server.pods(["10.0.0.1"])
        await until(lambda: told[-1] == (("10.0.0.1", 7600), ("10.1.1.1", 7)))
        assert resolver.regions == {("10.0.0.1", 7600): "us-east", ("10.1.1.1", 7): "us-west"}
        failures = resolver.failures
        server.records = {}
        await until(lambda: resolver.failures > failures + 1)
        assert len(told) == 2
        server.pods(["10.0.0.2"])
        await until(lambda: told[-1] == (("10.0.0.2", 7600), ("10.1.1.1", 7)))
        assert ("10.0.0.1", 7600) not in resolver.regions


async def test_one_name_that_gets_no_answer_holds_up_no_other(
    server: NameServer, looking: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = asyncio.Event()
    asking = looking.addresses

    async def addresses(seed: Seed) -> list[Address]:
        if seed.host == "hangs":
            await hanging.wait()
        return await asking(seed)

    monkeypatch.setattr(looking, "addresses", addresses)
    monkeypatch.setattr(seeds, "RESOLVE_SECONDS", 0.02)
    server.pods(["10.0.0.1"])
    told: list[tuple[Address, ...]] = []
    async with resolving(told, looking, Seed("hangs", 1), SEED):
        await until(lambda: ("10.0.0.1", 7600) in told[-1])


async def test_a_service_of_hundreds_is_told_in_part(server: NameServer, looking: Lookups) -> None:
    server.pods([f"10.0.1.{number}" for number in range(1, 201)])
    told: list[tuple[Address, ...]] = []
    async with resolving(told, looking, SEED):
        await until(lambda: len(told[-1]) == seeds.ADDRESSES_LIMIT)


async def test_seeds_that_stay_are_known_at_once_when_others_are_configured(
    server: NameServer, looking: Lookups
) -> None:
    server.pods(["10.0.0.1"])
    told: list[tuple[Address, ...]] = []
    async with resolving(told, looking, SEED) as former:
        await until(lambda: len(told[-1]) == 1)
    server.records = {}
    later = SeedResolver([SEED, Seed("10.1.1.1", 7)], told.append, random.Random(1), former=former)
    await later.start()
    await later.close()
    assert told[-1] == (("10.0.0.1", 7600), ("10.1.1.1", 7))


async def test_a_host_stands_for_all_its_addresses() -> None:
    found = await Lookups(random.Random(1)).addresses(Seed("localhost", 7))
    assert (HOST, 7) in found
    with pytest.raises(LookupFailed):
        await Lookups(random.Random(1)).addresses(Seed("nobody.invalid", 7))


async def test_a_host_that_is_being_looked_up_is_not_looked_up_a_second_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookups, "LOOKUP_SECONDS", 0.1)
    waiting, calls = threading.Event(), 0

    def slow(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        nonlocal calls
        calls += 1
        waiting.wait(120)
        return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", ("10.0.0.5", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    looking = Lookups(random.Random(1))
    for _ in range(3):
        with pytest.raises(LookupFailed, match=r"no answer within 0\.1 s"):
            await looking.addresses(Seed("slow.example", 7))
    assert calls == 1
    monkeypatch.setattr(lookups, "LOOKUP_SECONDS", 60.0)
    waiting.set()
    assert await looking.addresses(Seed("slow.example", 7)) == [("10.0.0.5", 7)]


async def test_agents_meet_by_a_service(server: NameServer, looking: Lookups) -> None:
    async with running(config_of("one")) as one:
        host, port = one.node.membership.me.host, one.node.membership.me.port
        server.pods([host], port)
        async with running(config_of("two")) as two:
            resolver = SeedResolver([SEED], two._found_seeds, random.Random(1), lookups=looking)
            await resolver.start()
            try:
                await until(lambda: one.ready and two.ready)
            finally:
                await resolver.close()
