"""Many writes over one request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from served import Served, one_agent

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest_asyncio.fixture
async def agent() -> AsyncIterator[Served]:
    async with one_agent() as found:
        yield found


async def _batch(agent: Served, body: bytes) -> list[dict]:
    async def pieces():
        for start in range(0, len(body), 50_000):
            yield body[start : start + 50_000]

    answer = await agent.ask("POST", "/v1/batch", body=pieces(), headers=NDJSON)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.body.splitlines()]


def _lines(*lines: object) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def test_each_line_is_acknowledged_in_order(agent):
    lines = [{"key": f"k.{n}", "value": n, "id": n} for n in range(1000)]

    acks = await _batch(agent, _lines(*lines))

    assert [ack["id"] for ack in acks] == list(range(1000))
    sequences = [int(ack["dot"].rpartition(":")[2]) for ack in acks]
    assert sequences == sorted(sequences)
    assert agent.agent.read("k").value == {str(n): n for n in range(1000)}


async def test_lines_put_merge_delete_and_keep_whole(agent):
    acks = await _batch(
        agent,
        _lines(
            {"op": "put", "key": "a", "value": {"x": 1, "y": 2}},
            {"op": "merge", "key": "a", "value": {"y": None, "z": 3}},
            {"op": "leaf", "key": "b", "value": {"kept": "whole"}},
            {"op": "put", "key": "gone", "value": 1},
            {"op": "delete", "key": "gone"},
            {"op": "put", "key": "nil", "value": None},
        ),
    )

    assert all("dot" in ack for ack in acks)
    assert agent.agent.read("").value == {
        "a": {"x": 1, "z": 3},
        "b": {"kept": "whole"},
        "nil": None,
    }


async def test_later_lines_win_over_earlier_ones_across_groups(agent):
    acks = await _batch(agent, _lines(*({"key": "same", "value": n} for n in range(600))))

    assert acks[-1]["version"] == 600
    assert agent.agent.read("same").value == 599


async def test_a_bad_line_is_refused_on_its_own(agent):
    body = b"\n".join(
        [
            b'{"key": "good.1", "value": 1, "id": "one"}',
            b'{"key": "bad", "value": }',
            b'{"key": "bad..key", "value": 1, "id": "three"}',
            b'{"key": "bad", "valeu": 1}',
            b'{"op": "shove", "key": "bad", "value": 1}',
            b'{"key": "bad"}',
            b'{"value": 1}',
            b'{"key": "bad", "value": 18446744073709551616}',
            b'{"key": "$swarm.config.fanout", "value": 9}',
            b"[]",
            b"\xff",
            b"",
            b'{"key": "absent", "value": 1, "if_match": "*"}',
            b'{"key": "good.2", "value": 2}',
        ]
    )

    acks = await _batch(agent, body)

    reasons = [ack.get("error", {}).get("reason") for ack in acks]
    assert reasons == [
        None,
        "malformed-json",
        "invalid-key",
        "unknown-field",
        "invalid-field",
        "missing-field",
        "missing-field",
        "number-out-of-range",
        "invalid-key",
        "invalid-field",
        "malformed-json",
        "precondition-failed",
        None,
    ]
    assert acks[2]["id"] == "three"
    assert acks[3]["error"]["detail"] == "unknown field 'valeu'; did you mean 'value'?"
    assert agent.agent.read("").value == {"good": {"1": 1, "2": 2}}


async def test_bad_lines_do_not_change_the_order_of_good_ones(agent):
    lines = [
        {"key": "bad..key" if n % 7 == 0 else "same", "value": n, "id": n} for n in range(1, 300)
    ]

    acks = await _batch(agent, _lines(*lines))

    assert [ack["id"] for ack in acks] == [line["id"] for line in lines]
    assert all(("error" in ack) == (ack["id"] % 7 == 0) for ack in acks)
    assert agent.agent.read("same").value == 299


async def test_a_line_over_the_limit_is_refused_and_the_rest_goes_on(agent):
    long = b'{"key": "long", "value": "' + b"x" * (3 << 20) + b'"}\n'

    acks = await _batch(agent, long + _lines({"key": "after", "value": 1}) + long.rstrip())

    assert [ack.get("error", {}).get("reason") for ack in acks] == [
        "line-too-long",
        None,
        "line-too-long",
    ]
    assert agent.agent.read("").value == {"after": 1}


async def test_an_empty_batch_is_answered_with_nothing(agent):
    assert await _batch(agent, b"") == []
    assert await _batch(agent, b"\n \r\n\n") == []


async def test_lines_may_end_like_on_windows(agent):
    acks = await _batch(agent, b'{"key":"a","value":1}\r\n{"key":"b","value":2}\r\n')

    assert ["dot" in ack for ack in acks] == [True, True]


async def test_acknowledgements_come_while_lines_are_still_sent(agent):
    answered: asyncio.Queue[bytes] = asyncio.Queue()

    async def lines():
        for n in range(3):
            yield _lines({"key": "k", "value": n, "id": n})
            async with asyncio.timeout(60):
                assert json.loads(await answered.get())["id"] == n

    async with agent.session.post(
        f"{agent.url}/v1/batch", data=lines(), headers=NDJSON
    ) as response:
        async for line in response.content:
            answered.put_nowait(line)

    assert agent.agent.read("k").value == 2


async def test_a_batch_of_an_announced_length_is_answered_once_it_is_there(agent):
    """A proxy may drop what is left of a request when its answer begins."""
    lines = _lines({"key": "a", "value": 1}, {"key": "b", "value": 2})
    reader, writer = await asyncio.open_connection(*agent.server.addresses[0].split(":"))
    head = f"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(lines)}\r\n\r\n"
    writer.write(head.encode() + lines[:-1])
    await writer.drain()
    async with asyncio.timeout(60):
        while agent.agent.read("a") is None:  # noqa: ASYNC110 - as a client would
            await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await reader.read(1)

    writer.write(lines[-1:])

    async with asyncio.timeout(60):
        await reader.readuntil(b"\r\n\r\n")
        body = await reader.readuntil(b"0\r\n\r\n")
    writer.close()
    assert body.count(b'"dot"') == 2


async def test_traced_lines_are_traced(agent):
    acks = await _batch(
        agent,
        _lines(
            {"key": "a", "value": 1},
            {"key": "b", "value": 2, "trace": True},
            {"key": "c", "value": 3},
        ),
    )

    known = (await agent.ask("GET", "/v1/convergence")).document["writes"]

    assert [write["dot"] for write in known] == [acks[1]["dot"]]


async def test_lines_that_arrive_together_share_a_commit(tmp_path):
    async with one_agent(data_dir=tmp_path) as agent:
        before = agent.agent.journal_status.records

        acks = await _batch(agent, _lines(*({"key": f"k{n}", "value": n} for n in range(2000))))

        assert len(acks) == 2000
        assert agent.agent.journal_status.records - before < 100


async def test_a_degraded_agent_refuses_every_line(agent):
    agent.agent.degrade(True)

    acks = await _batch(agent, _lines(*({"key": f"k{n}", "value": n, "id": n} for n in range(300))))

    assert [ack["id"] for ack in acks] == list(range(300))
    assert {ack["error"]["reason"] for ack in acks} == {"degraded"}
    assert all(ack["error"]["retry_after_ms"] for ack in acks)


@pytest.mark.parametrize(
    "cut", [b'{"key": "a", "value": 1}\n{"key": "b", "val', b'{"key": "a", "val']
)
async def test_a_client_that_breaks_off_leaves_nothing_half_done(agent, cut):
    reader, writer = await asyncio.open_connection(*agent.server.addresses[0].split(":"))
    head = b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head + b"%x\r\n%b\r\n" % (len(cut), cut))
    await writer.drain()
    async with asyncio.timeout(60):
        await reader.readuntil(b"\r\n\r\n")
    writer.close()

    assert (await agent.ask("PUT", "/v1/state/later", 1)).status == 200
    assert agent.agent.read("b") is None
