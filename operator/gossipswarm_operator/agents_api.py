"""The agents' HTTP API, as the operator uses it: by pod address, with the write token, never by DNS.

One ``AgentsApi`` serves all swarms. Every call takes the ``AgentAddress`` it is for, is bounded in time, answer
size and number in flight, and raises ``AgentUnreachable`` or ``AgentRefused``; nothing is retried here, because a
reconcile comes again by itself. Durations are seconds.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from gossipswarm_operator.agent_documents import (
    CUT_BY,
    Ack,
    AgentAddress,
    AgentError,
    AgentInfo,
    AgentRefused,
    AgentUnreachable,
    Comparison,
    Config,
    Drained,
    Flows,
    Line,
    Member,
    Partition,
    Receipts,
    Region,
    Value,
    Written,
)

T = TypeVar("T")

API_PORT: Final = 7601
"""Where an agent in a pod serves its API."""
REQUEST_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 2.0
BATCH_SECONDS: Final = 30.0
"""A megabyte of values, journalled."""
COMPARE_SECONDS: Final = 30.0
CONCURRENT_REQUESTS: Final = 256
"""Of one operator, over all agents: a further request waits."""
ASKED_AT_ONCE: Final = 64
"""Of one swarm: agents that are slow to answer do not keep those of other swarms waiting."""
MAX_ANSWER_BYTES: Final = 32 << 20
NOT_MODIFIED: Final = 304

_NDJSON: Final = "application/x-ndjson"
_JSON: Final = "application/json"


class _Members(msgspec.Struct, frozen=True):
    members: list[Member]


class _Regions(msgspec.Struct, frozen=True):
    regions: list[Region]


class _Keyring(msgspec.Struct, frozen=True):
    keys: list[str]


class _Reset(msgspec.Struct, frozen=True):
    closed: int


class _Ignored(msgspec.Struct, frozen=True):
    """An answer of which nothing is wanted."""


class _Problem(msgspec.Struct, frozen=True):
    reason: str
    detail: str
    retry_after_ms: int | None = None


class AgentsApi:
    """Asks agents. Use it as a context manager, or ``close`` it."""

    def __init__(
        self,
        *,
        seconds: float = REQUEST_SECONDS,
        concurrent: int = CONCURRENT_REQUESTS,
        before_write: Callable[[], None] | None = None,
    ) -> None:
        """``before_write`` is called before anything but a GET, and forbids it by raising."""
        self._seconds = seconds
        self._before_write = before_write
        self._limit = asyncio.Semaphore(concurrent)
        self._contexts: dict[str, ssl.SSLContext] = {}
        # Idle connections are few and short-lived: pods come and go, and so do their addresses.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrent, keepalive_timeout=15.0),
            trust_env=False,
            auto_decompress=True,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    # --- the agent and its swarm ------------------------------------------------------------------

    async def info(self, agent: AgentAddress) -> AgentInfo:
        """What the agent says of itself."""
        return await self._get(agent, "/v1/agent", AgentInfo)

    async def members(self, agent: AgentAddress) -> list[Member]:
        """Everyone the agent knows, itself included, by name."""
        return (await self._get(agent, "/v1/members", _Members)).members

    async def regions(self, agent: AgentAddress) -> list[Region]:
        """Every region the agent knows, by name."""
        return (await self._get(agent, "/v1/regions", _Regions)).regions

    async def partition(self, agent: AgentAddress) -> Partition:
        """Which regions hear each other, by the agent's knowledge."""
        return await self._get(agent, "/v1/partition", Partition)

    async def config(self, agent: AgentAddress) -> Config:
        """The swarm's parameters."""
        return await self._get(agent, "/v1/config", Config)

    async def change_config(self, agent: AgentAddress, changes: Mapping[str, Any]) -> Config:
        """Change parameters of the whole swarm, all or none. Refused with 422 naming the one at fault."""
        return await self._send(agent, "PATCH", "/v1/config", Config, changes)

    # --- state ------------------------------------------------------------------------------------

    async def read(self, agent: AgentAddress, key: str) -> Value | None:
        """The visible value of a key at this agent; None where nothing is stored."""
        found = await self.read_unless(agent, key, None)
        assert not isinstance(found, bool)
        return found

    async def read_unless(
        self, agent: AgentAddress, key: str, etag: str | None
    ) -> Value | Literal[True] | None:
        """As ``read``, but True, at hardly any cost, if the key's etag is the given one."""
        headers = {"If-None-Match": f'"{etag}"'} if etag is not None else {}
        try:
            status, body = await self._exchange(agent, "GET", _state_path(key), headers=headers)
        except AgentRefused as refused:
            if refused.reason == "not-found":
                return None
            raise
        return True if status == NOT_MODIFIED else _decode(agent, body, Value)

    async def put(
        self, agent: AgentAddress, key: str, value: Any, *, trace: bool = True
    ) -> Written:
        """Replace everything at and below a key; durable at this agent when it returns."""
        path = _state_path(key) + ("?trace=true" if trace else "")
        return await self._send(agent, "PUT", path, Written, value)

    async def delete(self, agent: AgentAddress, key: str, *, trace: bool = True) -> Written:
        """Delete a key and everything below it; ``changed`` is 0 where nothing was."""
        path = _state_path(key) + ("?trace=true" if trace else "")
        return _decode(agent, (await self._exchange(agent, "DELETE", path))[1], Written)

    async def batch(self, agent: AgentAddress, lines: Sequence[Line]) -> list[Ack]:
        """Many writes over one request, acknowledged in order; one that is refused does not stop the others."""
        if not lines:
            return []
        body = msgspec.json.Encoder().encode_lines(lines)
        _, answer = await self._exchange(
            agent, "POST", "/v1/batch", body, media=_NDJSON, seconds=BATCH_SECONDS
        )
        try:
            acks = msgspec.json.Decoder(Ack).decode_lines(answer)
        except msgspec.MsgspecError as error:
            raise AgentUnreachable(agent.name, f"its answer makes no sense: {error}") from None
        if len(acks) != len(lines):
            raise AgentUnreachable(
                agent.name, f"it acknowledged {len(acks)} of {len(lines)} lines and broke off"
            )
        return acks

    async def receipts(
        self, agent: AgentAddress, dot: str, *, wait: float = 0.0
    ) -> Receipts | None:
        """How far a traced write of this agent has come; None if it has forgotten the write.

        With ``wait``, answers when every agent has it, or raises AgentRefused 504 after so many seconds.
        """
        path = f"/v1/convergence/{quote(dot, safe='')}"
        if wait:
            path += f"?wait=true&threshold=1.0&timeout={round(wait * 1000)}"
        try:
            _, body = await self._exchange(agent, "GET", path, seconds=self._seconds + wait)
        except AgentRefused as refused:
            if refused.status == 404:
                return None
            raise
        return _decode(agent, body, Receipts)

    # --- administration ---------------------------------------------------------------------------

    async def keyring(self, agent: AgentAddress) -> list[str]:
        """Ids of the keys the agent holds, the one that seals first."""
        return (await self._get(agent, "/v1/admin/keyring", _Keyring)).keys

    async def install_key(self, agent: AgentAddress, key: str) -> list[str]:
        """Make the agent accept a key (32 bytes in base64); the ids it holds then."""
        return await self._keyring(agent, {"action": "install", "key": key})

    async def use_key(self, agent: AgentAddress, key_id: str) -> list[str]:
        """Make the agent seal with a key that it holds; the ids it holds then."""
        return await self._keyring(agent, {"action": "use", "id": key_id})

    async def remove_key(self, agent: AgentAddress, key_id: str) -> list[str]:
        """Make the agent refuse a key that it does not seal with; the ids it holds then."""
        return await self._keyring(agent, {"action": "remove", "id": key_id})

    async def _keyring(self, agent: AgentAddress, step: Mapping[str, str]) -> list[str]:
        return (await self._send(agent, "POST", "/v1/admin/keyring", _Keyring, step)).keys

    async def reset_peers(self, agent: AgentAddress) -> int:
        """Make the network judge every flow of the agent afresh; how many streams were closed."""
        return (await self._send(agent, "POST", "/v1/admin/reset-peers", _Reset, {})).closed

    async def drop(
        self, agent: AgentAddress, regions: Sequence[str], seconds: float | None
    ) -> None:
        """Make the agent hear none of these regions, and be heard by none, for so long; None = until told otherwise."""
        order = {
            "inbound": list(regions),
            "outbound": list(regions),
            "duration_ms": None if seconds is None else max(1, round(seconds * 1000)),
            "by": CUT_BY if regions else None,
        }
        await self._send(agent, "POST", "/v1/admin/drop-list", _Ignored, order)

    async def probe(self, agent: AgentAddress, address: str) -> Flows:
        """Have the agent try to reach a gossip address by new flows and by those that it has."""
        order = {"address": address}
        return await self._send(agent, "POST", "/v1/admin/probe", Flows, order)

    async def compare(self, agent: AgentAddress, peer: str | None = None) -> Comparison:
        """Compare everything with this peer (None: a random live one) now, and repair what differs."""
        order = {"peer": peer, "timeout": f"{COMPARE_SECONDS:.0f}s"}
        return await self._send(
            agent, "POST", "/v1/admin/anti-entropy", Comparison, order, COMPARE_SECONDS + 5.0
        )

    async def drain(
        self, agent: AgentAddress, leaving: Sequence[str], *, hold: float, wait: float
    ) -> Drained:
        """Make the agent take no more writes and wait until others hold all it has, so that it may go.

        ``leaving`` do not count as others. It takes writes again ``hold`` seconds later, unless asked again. Raises
        AgentRefused 504 if that did not come about within ``wait`` seconds.
        """
        order = {
            "leaving": list(leaving),
            "hold": f"{hold:.0f}s",
            "timeout": f"{wait:.0f}s",
        }
        return await self._send(
            agent, "POST", "/v1/admin/drain", Drained, order, wait + self._seconds
        )

    # --- exchange ---------------------------------------------------------------------------------

    async def _get(self, agent: AgentAddress, path: str, kind: type[T]) -> T:
        return _decode(agent, (await self._exchange(agent, "GET", path))[1], kind)

    async def _send(
        self,
        agent: AgentAddress,
        method: str,
        path: str,
        kind: type[T],
        document: Any,
        seconds: float | None = None,
    ) -> T:
        body = msgspec.json.encode(document)
        _, answer = await self._exchange(agent, method, path, body, media=_JSON, seconds=seconds)
        return _decode(agent, answer, kind)

    async def _exchange(
        self,
        agent: AgentAddress,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        media: str | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> tuple[int, bytes]:
        """Status (below 400) and body of an answer."""
        if self._before_write is not None and method != "GET":
            self._before_write()
        sent = dict(headers or {})
        if agent.token is not None:
            sent["Authorization"] = f"Bearer {agent.token}"
        if media is not None:
            sent["Content-Type"] = media
        seconds = self._seconds if seconds is None else seconds
        timeout = aiohttp.ClientTimeout(seconds, sock_connect=min(CONNECT_SECONDS, seconds))
        try:
            async with (
                self._limit,
                self._session.request(
                    method,
                    # The path is encoded already; encoding it again would address another key.
                    URL(agent.url + path, encoded=True),
                    data=body,
                    headers=sent,
                    timeout=timeout,
                    ssl=self._context(agent),
                    allow_redirects=False,
                ) as response,
            ):
                answer = await _read_whole(agent, response)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            what = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            raise AgentUnreachable(agent.name, what or type(error).__name__) from None
        if response.status < 300 or response.status == NOT_MODIFIED:
            return response.status, answer
        raise _refusal(agent, response.status, answer)

    def _context(self, agent: AgentAddress) -> ssl.SSLContext | bool:
        """How to verify an https agent: by its authority, not its name, since it is called by address."""
        if agent.ca is None:
            return True
        context = self._contexts.get(agent.ca)
        if context is None:
            context = ssl.create_default_context(cadata=agent.ca)
            context.check_hostname = False
            self._contexts[agent.ca] = context
        return context


async def ask_all(
    agents: Iterable[AgentAddress],
    ask: Callable[[AgentAddress], Awaitable[T]],
    *,
    at_once: int = ASKED_AT_ONCE,
) -> dict[str, T | AgentError]:
    """Ask every agent, some at a time; what each answered, or its error, by the agent's name."""
    asked = list(agents)
    found: dict[str, T | AgentError] = {}
    left = iter(asked)

    async def some() -> None:
        for agent in left:
            try:
                found[agent.name] = await ask(agent)
            except AgentError as error:
                found[agent.name] = error

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, len(asked))):
            group.create_task(some())
    return {agent.name: found[agent.name] for agent in asked}


def _state_path(key: str) -> str:
    return f"/v1/state/{quote(key, safe='')}" if key else "/v1/state"


async def _read_whole(agent: AgentAddress, response: aiohttp.ClientResponse) -> bytes:
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise AgentUnreachable(agent.name, f"its answer has over {MAX_ANSWER_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _decode(agent: AgentAddress, body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise AgentUnreachable(agent.name, f"its answer makes no sense: {error}") from None


def _refusal(agent: AgentAddress, status: int, body: bytes) -> AgentError:
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except msgspec.MsgspecError:
        return AgentRefused(agent.name, status, "unknown", f"it answered with status {status}")
    wait = problem.retry_after_ms
    seconds = wait / 1000 if wait is not None else None
    return AgentRefused(agent.name, status, problem.reason, problem.detail, seconds)
