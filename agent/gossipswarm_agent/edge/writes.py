"""What only an agent can answer: passed to the one that the edge follows, and its answer passed back.

A request is given up when the agent is lost. What was sent to it may stand then, or may not, and is not tried elsewhere: only
the caller knows whether to write again what others may have changed meanwhile.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec
from aiohttp import hdrs, web
from yarl import URL

from gossipswarm_agent.api.call import Call
from gossipswarm_agent.api.problems import Problem
from gossipswarm_agent.edge.config import Credentials
from gossipswarm_agent.edge.finding import Connection
from gossipswarm_agent.runtime.config import ConfigError

if TYPE_CHECKING:
    from gossipswarm_agent.edge.edge import Edge

FAILOVER_SECONDS: Final = 1.5
"""How long a request waits for the next agent after one was lost."""
OWN_SECONDS: Final = 1.0
"""How long the answer to a write waits for the write to arrive here, so that its writer can read it."""
_LAST_BYTES: Final = 4096
"""Of the acknowledgements of a batch, to find the last write in."""
_PASSED: Final = (
    hdrs.CONTENT_TYPE, hdrs.IF_MATCH, hdrs.IF_NONE_MATCH, "X-Request-Id", hdrs.ACCEPT,
)  # fmt: skip
_RETURNED: Final = (
    hdrs.CONTENT_TYPE,
    hdrs.ETAG,
    hdrs.RETRY_AFTER,
    "X-Request-Id",
    hdrs.CACHE_CONTROL,
)
_ELSEWHERE: Final = re.compile(rb'"reason":"(leaving|stopped)"')
_DOT: Final = re.compile(rb'"dot":"((?:[^"\\]|\\.)*):([0-9]+)"')


class Forwarder:
    """Passes requests of one edge on."""

    def __init__(
        self, edge: Edge, session: aiohttp.ClientSession, credentials: Credentials
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        """Requests by what became of them: ``done``, ``refused`` by the agent, ``unreachable``, ``unknown``."""
        self._edge = edge
        self._session = session
        self._credentials = credentials

    async def forward(self, call: Call, body: bytes | None = None) -> web.Response:
        """Have the agent answer. Raises Problem 503 without one, or where it was lost before it answered."""
        for attempt in (1, 2):
            connection = await self._connection()
            status, headers, answer = await self._ask(call, connection, body)
            if attempt == 1 and status == 503 and _ELSEWHERE.search(answer):
                # Nothing was done there, for sure: another agent may do it.
                self._edge.upstream.leave()
                if await self._next_after(connection):
                    continue
            break
        self.outcomes["done" if status < 400 else "refused"] += 1
        return web.Response(status=status, headers=headers, body=answer)

    async def write(self, call: Call, body: bytes | None) -> web.Response:
        """A write; answered once the edge itself has it, if it holds such keys, so that its writer can read it."""
        response = await self.forward(call, body)
        concerned = self._edge.replica.concerns(call.key())
        if response.status == 200 and concerned and isinstance(response.body, bytes):
            found = _DOT.search(response.body)
            if found is not None:
                await self._arrived(found[1], found[2])
        return response

    async def _arrived(self, origin_json: bytes, digits: bytes) -> None:
        """Wait until a write has come back, or for ``OWN_SECONDS``."""
        replica = self._edge.replica
        origin: str = msgspec.json.decode(b'"%b"' % origin_json)
        sequence = int(digits)
        try:
            async with asyncio.timeout(OWN_SECONDS):
                while not replica.vector.covers(origin, sequence):
                    await self._edge.upstream.next_frame()
        except TimeoutError:
            pass  # the write stands; this edge is merely late

    async def batch(self, call: Call) -> web.StreamResponse:
        """Lines to the agent, and its acknowledgements back, both as they come."""
        connection = await self._connection()
        if hdrs.EXPECT in call.request.headers:
            await call.expect_continue()
        begun: list[web.StreamResponse] = []
        piping = asyncio.ensure_future(self._pipe(call, connection, begun))
        why: object = "it fell silent"
        try:
            await asyncio.wait((piping, connection.lost), return_when=asyncio.FIRST_COMPLETED)
            if piping.done():
                return piping.result()
        except (aiohttp.ClientError, OSError) as error:
            why = error
        finally:
            piping.cancel()
            await asyncio.wait((piping,))
        self.outcomes["unknown"] += 1
        if not begun:
            raise _outcome_unknown(connection, why)
        # Lines that have no acknowledgement by now get none.
        call.request.protocol.force_close()
        return begun[0]

    async def _pipe(
        self, call: Call, connection: Connection, begun: list[web.StreamResponse]
    ) -> web.StreamResponse:
        async with self._session.post(
            _url(call, connection),
            data=call.request.content,
            headers=self._headers(call),
            ssl=self._credentials.context(),
        ) as answer:
            if answer.status != 200:
                self.outcomes["refused"] += 1
                return web.Response(
                    status=answer.status, headers=_returned(answer), body=await answer.read()
                )
            response = web.StreamResponse(headers=_returned(answer))
            await response.prepare(call.request)
            begun.append(response)
            last = b""
            async for piece in answer.content.iter_any():
                last = (last + piece)[-_LAST_BYTES:]
                await response.write(piece)
        dots = _DOT.findall(last)
        if dots:
            await self._arrived(*dots[-1])
        self.outcomes["done"] += 1
        return response

    # --- one request ------------------------------------------------------------------------------

    async def _connection(self) -> Connection:
        upstream = self._edge.upstream
        if upstream.current is None:
            loop = asyncio.get_running_loop()
            left = upstream.lost_at + FAILOVER_SECONDS - loop.time()
            if left > 0:
                try:
                    async with asyncio.timeout(left):
                        await upstream.connected.wait()
                except TimeoutError:
                    pass
        if upstream.current is None:
            self.outcomes["unreachable"] += 1
            raise _no_agent(upstream.trouble)
        return upstream.current

    async def _next_after(self, connection: Connection) -> bool:
        """Whether there soon is another agent."""
        upstream = self._edge.upstream
        try:
            async with asyncio.timeout(FAILOVER_SECONDS):
                while upstream.current is connection or upstream.current is None:
                    await upstream.next_frame()
        except TimeoutError:
            return False
        return True

    async def _ask(
        self, call: Call, connection: Connection, body: bytes | None
    ) -> tuple[int, dict[str, str], bytes]:
        asking = asyncio.ensure_future(self._exchange(call, connection, body))
        try:
            await asyncio.wait((asking, connection.lost), return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return asking.result()
        except aiohttp.ClientConnectorError as error:
            self.outcomes["unreachable"] += 1
            raise _no_agent(str(error)) from None
        except (aiohttp.ClientError, OSError) as error:
            self.outcomes["unknown"] += 1
            raise _outcome_unknown(connection, error) from None
        finally:
            asking.cancel()
            await asyncio.wait((asking,))
        self.outcomes["unknown"] += 1
        raise _outcome_unknown(connection, "it fell silent")

    async def _exchange(
        self, call: Call, connection: Connection, body: bytes | None
    ) -> tuple[int, dict[str, str], bytes]:
        request = call.request
        async with self._session.request(
            request.method,
            _url(call, connection),
            data=body,
            headers=self._headers(call),
            ssl=self._credentials.context(),
            skip_auto_headers=(hdrs.CONTENT_TYPE, hdrs.USER_AGENT, hdrs.ACCEPT_ENCODING),
        ) as answer:
            content = await answer.read()
            if answer.status == 401:
                detail = "the agent does not know this edge's token; see its upstream_token_file"
                raise Problem(503, "edge-unauthorised", detail, retry_after=5.0)
            return answer.status, _returned(answer), content

    def _headers(self, call: Call) -> dict[str, str]:
        given = call.request.headers
        passed = {name: given[name] for name in _PASSED if name in given}
        try:
            return passed | self._credentials.headers()
        except ConfigError as error:
            raise Problem(503, "edge-unauthorised", str(error), retry_after=5.0) from None


def _url(call: Call, connection: Connection) -> URL:
    return URL(f"{connection.url}{call.request.path_qs}", encoded=True)


def _returned(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: answer.headers[name] for name in _RETURNED if name in answer.headers}


def _no_agent(trouble: str | None) -> Problem:
    why = f" ({trouble})" if trouble else ""
    return Problem(
        503,
        "no-agent",
        f"this edge reaches no agent that could take it{why}; reads go on",
        retry_after=2.0,
    )


def _outcome_unknown(connection: Connection, why: object) -> Problem:
    return Problem(
        503,
        "outcome-unknown",
        f"agent {connection.agent} was lost before it answered ({why}); a write may or may not stand",
        retry_after=1.0,
    )
