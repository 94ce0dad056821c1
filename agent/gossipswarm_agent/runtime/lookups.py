"""What the name of a seed stands for right now.

A host is asked of the system (files, then whatever it is configured for), each in a thread of its own: the system's
lookup cannot be cut short, and must neither hold up the journal's threads nor the end of the process. A service is
asked of the name servers directly, because the system's lookup knows no SRV records (RFC 2782).
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Final, TypeAlias

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from gossipswarm_agent.core.frames import Address
from gossipswarm_agent.runtime.config import Seed

LOOKUP_SECONDS: Final = 4.0
"""All that the resolution of one seed may take, with every search domain and retry."""
TARGETS_LIMIT: Final = 64
"""Names of one service whose addresses are asked for one by one, where the answer lacks them."""
UDP_PAYLOAD: Final = 1232
"""Bytes of an answer that crosses any network unfragmented (DNS flag day 2020); longer ones come by TCP."""

_Resolver: TypeAlias = dns.asyncresolver.Resolver


class LookupFailed(Exception):
    """A name stands for nothing at the moment; the message says why."""


def is_numeric(host: str) -> bool:
    """Whether this is an address, so that there is nothing to look up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Lookups:
    """Resolves seeds. ``make_resolver`` is called for each service anew, so that a changed configuration counts."""

    def __init__(
        self,
        rng: random.Random,
        make_resolver: Callable[[], _Resolver] = dns.asyncresolver.Resolver,
    ) -> None:
        self._rng = rng
        self._make_resolver = make_resolver
        self._running: dict[str, asyncio.Future[list[str]]] = {}
        self._full_names: dict[str, dns.name.Name] = {}
        """Service to its name with the search domain that it was found in, which is asked first from then on."""

    async def addresses(self, seed: Seed) -> list[Address]:
        """Where a seed is found, in order, each once. Takes ``LOOKUP_SECONDS`` at most.

        Raises:
            LookupFailed: the name does not exist, has nothing of use, or nobody answered in time.
        """
        if is_numeric(seed.host):
            return [(seed.host, seed.port)]
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                if seed.srv:
                    found = await self._service(seed.host)
                else:
                    found = {(host, seed.port) for host in await self._host(seed.host)}
        except TimeoutError:
            raise LookupFailed(f"no answer within {LOOKUP_SECONDS:g} s") from None
        except (OSError, dns.exception.DNSException) as error:
            raise LookupFailed(str(error) or type(error).__name__) from None
        if not found:
            raise LookupFailed("the name has no address")
        return sorted(found)

    # --- hosts ------------------------------------------------------------------------------------

    async def _host(self, name: str) -> list[str]:
        # One that takes longer than we wait is not asked again meanwhile: its answer serves the next attempt.
        lookup = self._running.get(name)
        if lookup is None:
            lookup = asyncio.wrap_future(_in_thread(name))
            self._running[name] = lookup
            lookup.add_done_callback(lambda done: self._finished(name, done))
        return await asyncio.shield(lookup)

    def _finished(self, name: str, lookup: asyncio.Future[list[str]]) -> None:
        del self._running[name]
        if not lookup.cancelled():
            lookup.exception()  # nobody may wait for it any more

    # --- services ---------------------------------------------------------------------------------

    async def _service(self, name: str) -> set[Address]:
        resolver = self._make_resolver()
        resolver.use_edns(0, 0, UDP_PAYLOAD)
        answer = await self._records(resolver, name)
        glue = _glue(answer)
        ports: dict[dns.name.Name, set[int]] = {}
        for record in answer:
            if record.target != dns.name.root:  # which says that the service is not to be had
                ports.setdefault(record.target, set()).add(record.port)
        lacking = [target for target in ports if target not in glue]
        if len(lacking) > TARGETS_LIMIT:
            lacking = self._rng.sample(lacking, TARGETS_LIMIT)
        hosts = {**glue, **await _resolve_all(resolver, lacking)}
        return {
            (host, port)
            for target in ports
            for host in hosts.get(target, ())
            for port in ports[target]
        }

    async def _records(self, resolver: _Resolver, name: str) -> dns.resolver.Answer:
        known = self._full_names.pop(name, None)
        if known is not None:
            try:
                answer = await resolver.resolve(known, dns.rdatatype.SRV, lifetime=LOOKUP_SECONDS)
            except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
                pass  # it may be found in another domain now
            else:
                self._full_names[name] = known
                return answer
        answer = await resolver.resolve(
            name, dns.rdatatype.SRV, lifetime=LOOKUP_SECONDS, search=True
        )
        self._full_names[name] = answer.qname
        return answer


def _in_thread(name: str) -> Future[list[str]]:
    outcome: Future[list[str]] = Future()

    def look_up() -> None:
        if not outcome.set_running_or_notify_cancel():
            return
        try:
            answers = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            outcome.set_exception(error if isinstance(error, OSError) else OSError(str(error)))
        else:
            outcome.set_result(sorted({str(answer[4][0]) for answer in answers}))

    # A daemon: the process ends without waiting for a name server.
    threading.Thread(target=look_up, name=f"look up {name}", daemon=True).start()
    return outcome


def _glue(answer: dns.resolver.Answer) -> dict[dns.name.Name, list[str]]:
    """Addresses that the answer brought along."""
    found: dict[dns.name.Name, list[str]] = {}
    for records in answer.response.additional:
        if records.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            found.setdefault(records.name, []).extend(record.address for record in records)
    return found


async def _resolve_all(
    resolver: _Resolver, targets: Iterable[dns.name.Name]
) -> Mapping[dns.name.Name, list[str]]:
    async def resolve(target: dns.name.Name) -> list[str]:
        try:
            answers = await resolver.resolve_name(target, lifetime=LOOKUP_SECONDS)
        except dns.exception.DNSException:
            return []  # it may just be gone; others remain
        return list(answers.addresses())

    asked = list(targets)
    return dict(zip(asked, await asyncio.gather(*map(resolve, asked)), strict=True))
