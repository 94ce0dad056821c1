"""Reading and writing keys."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgspec
from aiohttp import hdrs, web

from gossipswarm_agent.api import shapes
from gossipswarm_agent.api.call import Call, encode_json
from gossipswarm_agent.api.problems import Problem, suggestion
from gossipswarm_agent.api.times import milliseconds, timestamp
from gossipswarm_agent.api.types import (
    Keys,
    PutParameters,
    ReadParameters,
    Value,
    WriteParameters,
    Written,
)
from gossipswarm_agent.api.watch import stream_changes
from gossipswarm_agent.core import paths
from gossipswarm_agent.core.events import Mutation

_READ: Final = ReadParameters()
_NEAR_KEYS: Final = 1000
"""Keys looked at to find the one that was meant."""


async def read(call: Call) -> web.StreamResponse:
    """GET: one value, a page of keys, or a watch."""
    wanted = call.parameters(ReadParameters) if call.query else _READ
    key = _key(call, wanted)
    if key:
        key = paths.check(key, system=True)
    if wanted.watch and call.request.method != hdrs.METH_HEAD:
        return await stream_changes(call, key, wanted.since)
    if wanted.keys:
        return _list_keys(call, key, wanted)
    holder = call.holder
    reading = holder.read(key)
    if reading is None:
        raise _not_found(call, key)
    etag = f'"{reading.etag}"'
    given = call.request.headers.get(hdrs.IF_NONE_MATCH)
    if given is not None and (given.strip() == "*" or etag in _etags(given)):
        return web.Response(status=304, headers={hdrs.ETAG: etag})
    body = encode_json(
        Value(
            key=reading.key,
            value=reading.value,
            version=reading.version,
            etag=reading.etag,
            last_updated=timestamp(reading.updated_ms),
            origin=reading.origin,
            conflict=reading.conflict,
            region=holder.config.region,
            agent=holder.config.name,
            degraded=holder.degraded,
        )
    )
    return _answer(body, etag)


def _key(call: Call, wanted: ReadParameters | WriteParameters) -> str:
    """The key that is meant. Raises Problem 400 where path and query both name one."""
    if call.tail and wanted.key:
        raise Problem(400, "two-keys", "the path names a key, and the query names another one")
    return wanted.key or call.key()


def _list_keys(call: Call, prefix: str, wanted: ReadParameters) -> web.Response:
    found = call.holder.list_keys(prefix, wanted.limit + 1, wanted.after)
    page = list(found[: wanted.limit])
    rest = page[-1] if len(found) > wanted.limit else None
    return _answer(encode_json(Keys(keys=page, next=rest)), None)


def _not_found(call: Call, key: str) -> Problem:
    parent = next(paths.ancestors(key), "")
    near = suggestion(key, _near_keys(call, parent) or _near_keys(call, ""))
    hint = f"; did you mean {near!r}?" if near else ""
    return Problem(
        404,
        "not-found",
        f"nothing is stored at {key!r}{hint}",
        key=key,
        suggestions=[near] if near else [],
    )


def _near_keys(call: Call, parent: str) -> set[str]:
    """Keys that are read below a parent: leaves, and what lies above them."""
    leaves = call.holder.list_keys(parent, _NEAR_KEYS)
    return {*leaves, *(above for leaf in leaves for above in paths.ancestors(leaf))}


async def put(call: Call) -> web.StreamResponse:
    """PUT: replace the subtree, or store the value as one leaf."""
    wanted = call.parameters(PutParameters) if call.query else _PUT
    return await _write(call, wanted.op, wanted, await call.json_and_body())


async def patch(call: Call) -> web.StreamResponse:
    """PATCH: an RFC 7396 merge patch."""
    wanted = call.parameters(WriteParameters) if call.query else _PUT
    return await _write(call, "merge", wanted, await call.json_and_body())


async def delete(call: Call) -> web.StreamResponse:
    """DELETE: the key and all below it."""
    wanted = call.parameters(WriteParameters) if call.query else _PUT
    return await _write(call, "delete", wanted, (None, b""))


_PUT: Final = PutParameters()


async def _write(
    call: Call, op: str, wanted: WriteParameters, sent: tuple[object, bytes]
) -> web.Response:
    agent = call.agent
    key = _key(call, wanted)
    value, body = sent
    given_id = call.request_id()
    request_id = None if given_id is None else _write_id(given_id, op, key, body)
    mutation = Mutation(op, key, value, _condition(call, key))
    waits = wanted.wait is not None
    [result] = await agent.write([mutation], traced=wanted.trace or waits, request_id=request_id)
    written = Written(
        key=result.key,
        version=result.version,
        etag=result.etag,
        dot=result.dot,
        last_updated=timestamp(result.clock_ms),
        changed=result.changed,
        agent=agent.config.name,
        region=agent.config.region,
    )
    if waits and result.dot:
        written = await _converged(call, written, wanted)
    response = _answer(encode_json(written), f'"{result.etag}"' if result.etag else None)
    if given_id is not None:
        response.headers["X-Request-Id"] = given_id
    return response


def _write_id(given: str, op: str, key: str, body: bytes) -> str:
    """What makes two requests the same write: an id that is used again for another one must not swallow it."""
    digest = blake2b(
        b"\0".join((op.encode(), key.encode("utf-8", "replace"), body)), digest_size=12
    )
    return f"{given} {digest.hexdigest()}"


async def _converged(call: Call, written: Written, wanted: WriteParameters) -> Written:
    """The write with its convergence. Raises Problem 504, carrying both, at the timeout."""
    try:
        reached = await shapes.converged(
            call.agent, written.dot, wanted.threshold, milliseconds(wanted.timeout)
        )
    except Problem as problem:
        problem.extensions["written"] = written
        raise
    return msgspec.structs.replace(written, convergence=reached)


def _condition(call: Call, key: str) -> str | None:
    """If-Match and If-None-Match as the etag that a mutation requires.

    Raises:
        Problem: 412 when it is clear now that they cannot hold.
    """
    headers = call.request.headers
    match, none_match = headers.get(hdrs.IF_MATCH), headers.get(hdrs.IF_NONE_MATCH)
    if match is None and none_match is None:
        return None
    if match is not None and none_match is not None:
        raise Problem(400, "two-conditions", "give If-Match or If-None-Match, not both")
    if match is not None:
        if match.strip() == "*":
            return "*"
        tags = _etags(match)
        if len(tags) == 1:
            return tags[0][1:-1]
        current = _current(call, key)
        if current is None or f'"{current}"' not in tags:
            raise _precondition_failed(key, current)
        return current
    assert none_match is not None
    if none_match.strip() == "*":
        return ""
    current = _current(call, key)
    if current is not None and f'"{current}"' in _etags(none_match):
        raise _precondition_failed(key, current)
    return current or ""


def _current(call: Call, key: str) -> str | None:
    reading = call.agent.read(paths.check(key, system=True))
    return reading.etag if reading is not None else None


def _precondition_failed(key: str, current: str | None) -> Problem:
    state = f"its etag is {current}" if current else "it does not exist"
    return Problem(412, "precondition-failed", f"{key!r} has changed: {state}", key=key)


def _etags(header: str) -> list[str]:
    """The entity tags of a header, with their quotes; weak ones never match a write.

    Raises:
        Problem: 400 for a tag without quotes.
    """
    tags = [tag.strip() for tag in header.split(",")]
    for tag in tags:
        plain = tag.removeprefix("W/")
        if len(plain) < 2 or plain[0] != '"' or plain[-1] != '"':
            raise Problem(
                400, "malformed-etag", f'{tag!r} is not an entity tag; expected "..." or *'
            )
    return tags


def _answer(body: bytes, etag: str | None) -> web.Response:
    response = web.Response(body=body, content_type="application/json")
    if etag is not None:
        response.headers[hdrs.ETAG] = etag
    return response
