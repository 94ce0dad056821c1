"""Many writes over one request: lines in, acknowledgements out, both streaming.

Whatever lines have arrived are written as one group, which shares one commit of the journal. While a
group waits for the disk the next lines gather, so groups grow with the load by themselves. A client
reads acknowledgements while it sends: one that only sends is read no further once they pile up. Only a batch
whose length is announced, and not large, is read to its end first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
from aiohttp import hdrs, web

from gossipswarm_agent.api.call import Call, check_value, decode_document
from gossipswarm_agent.api.common import NDJSON
from gossipswarm_agent.api.limits import (
    BATCH_LINES,
    MAX_LINE_BYTES,
    READ_FIRST_BYTES,
    STALLED_SECONDS,
)
from gossipswarm_agent.api.problems import Problem
from gossipswarm_agent.api.types import BatchAck, BatchLine
from gossipswarm_agent.core.errors import WriteRefused
from gossipswarm_agent.core.events import Mutation

if TYPE_CHECKING:
    from gossipswarm_agent.runtime.agent import Agent

_HEADERS: Final = {hdrs.CONTENT_TYPE: NDJSON, hdrs.CACHE_CONTROL: "no-store"}
_AGENT_WIDE: Final = frozenset({429, 503, 507})
"""Statuses of refusals that say nothing about the line: the others would meet them as well."""

_decoder: Final = msgspec.json.Decoder(BatchLine)
_encode_lines: Final = msgspec.json.Encoder().encode_lines

Ack: TypeAlias = BatchAck | dict[str, object]


async def write_batch(call: Call) -> web.StreamResponse:
    """POST: acknowledge each line in order; a line that is refused does not stop the others."""
    request = call.request
    if hdrs.EXPECT in request.headers:
        await call.expect_continue()
    response = web.StreamResponse(headers=_HEADERS)
    held: list[bytes] | None = [] if _is_read_first(request) else None
    if held is None:
        await response.prepare(request)
    try:
        async for lines in _arriving_lines(call):
            for start in range(0, len(lines), BATCH_LINES):
                group = [_decode(line) for line in lines[start : start + BATCH_LINES]]
                acks = _encode_lines(await _write(call.agent, group))
                if held is not None:
                    held.append(acks)
                    continue
                async with asyncio.timeout(STALLED_SECONDS):
                    await response.write(acks)
        if held is not None:
            await response.prepare(request)
            async with asyncio.timeout(STALLED_SECONDS):
                await response.write(b"".join(held))
    except TimeoutError:
        request.protocol.force_close()
    return response


def _is_read_first(request: web.BaseRequest) -> bool:
    """Whether nothing is answered until the request is there. Its length says so: who streams does not know it.

    Proxies that speak HTTP/1.1 to both sides, the API server of Kubernetes among them, drop the rest of a request once
    an answer begins, and then break the answer off.
    """
    length = request.content_length
    return length is not None and length <= READ_FIRST_BYTES


async def _arriving_lines(call: Call) -> AsyncIterator[Sequence[bytes | Problem]]:
    """The request's lines, as many at a time as have arrived, until its end or the server's."""
    content = call.request.content
    partial = b""
    oversized = False
    while not call.closing.done():
        data = await _next_chunk(call)
        if not data and content.at_eof():
            break
        complete: list[bytes | Problem] = list(data.split(b"\n"))
        rest = complete.pop()
        if complete:
            first = complete[0]
            complete[0] = _too_long() if oversized else partial + first  # type: ignore[operator]
            partial, oversized = b"", False
        if not oversized:
            partial += rest  # type: ignore[operator]
        if len(partial) > MAX_LINE_BYTES:
            partial, oversized = b"", True
        if complete:
            yield complete
    if oversized:
        yield [_too_long()]
    elif partial:
        yield [partial]


async def _next_chunk(call: Call) -> bytes:
    """What has arrived; nothing at the end of the request or of the server."""
    reading = asyncio.ensure_future(call.request.content.readany())
    try:
        await asyncio.wait((reading, call.closing), return_when=asyncio.FIRST_COMPLETED)
        return reading.result() if reading.done() else b""
    finally:
        if not reading.done():
            reading.cancel()
            await asyncio.wait((reading,))


def _too_long() -> Problem:
    return Problem(413, "line-too-long", f"a line has over {MAX_LINE_BYTES} bytes")


def _decode(line: bytes | Problem) -> BatchLine | Problem | None:
    """One line; None for a blank one."""
    if isinstance(line, Problem):
        return line
    if len(line) > MAX_LINE_BYTES:
        return _too_long()
    if not line or line.isspace():
        return None
    try:
        decoded = decode_document(line, _decoder)
        if decoded.value is not msgspec.UNSET:
            check_value(decoded.value, line)
        elif decoded.op != "delete":
            raise Problem(422, "missing-field", f"a {decoded.op} needs a value", field="value")
    except Problem as problem:
        return problem
    return decoded


def _kind(line: BatchLine | Problem | None) -> str:
    if isinstance(line, BatchLine):
        return "traced" if line.trace else "plain"
    return "blank" if line is None else "refused"


async def _write(agent: Agent, group: Iterable[BatchLine | Problem | None]) -> list[Ack]:
    """The acknowledgements of a group, in order."""
    acks: list[Ack] = []
    for kind, members in groupby(group, key=_kind):
        if kind == "refused":
            acks.extend(_refusal(None, line) for line in members if isinstance(line, Problem))
        elif kind != "blank":
            lines = [line for line in members if isinstance(line, BatchLine)]
            acks.extend(await _write_lines(agent, lines, traced=kind == "traced"))
    return acks


async def _write_lines(agent: Agent, lines: Sequence[BatchLine], *, traced: bool) -> list[Ack]:
    """Write together; where that is refused, in halves, until the line at fault is alone."""
    mutations = [
        Mutation(line.op, line.key, None if line.op == "delete" else line.value, line.if_match)
        for line in lines
    ]
    try:
        results = await agent.write(mutations, traced=traced)
    except WriteRefused as refused:
        if len(lines) == 1 or refused.status in _AGENT_WIDE:
            problem = Problem.of_refusal(refused)
            return [_refusal(line, problem) for line in lines]
        middle = len(lines) // 2
        first = await _write_lines(agent, lines[:middle], traced=traced)
        return first + await _write_lines(agent, lines[middle:], traced=traced)
    return [
        BatchAck(id=line.id, dot=result.dot, version=result.version)
        for line, result in zip(lines, results, strict=True)
    ]


def _refusal(line: BatchLine | None, problem: Problem) -> dict[str, object]:
    ack: dict[str, object] = {"error": problem.document()}
    if line is not None and line.id is not None:
        ack = {"id": line.id, **ack}
    return ack
