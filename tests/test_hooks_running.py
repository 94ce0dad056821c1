"""Hooks do what they say, in order, and whatever they do never holds up gossip."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from agents import config_of, put, running, swarm
from gossipswarm_agent.core.effects import Notify
from gossipswarm_agent.core.errors import WriteRefused
from gossipswarm_agent.runtime import hooks as hooks_module
from gossipswarm_agent.runtime.agent import Agent
from loopback import HOST, until

EXAMPLE = Path(__file__).parent.parent / "examples/hooks/coordination.yaml"


@asynccontextmanager
async def hooked(directory: Path, hooks: dict[str, list[Any]]) -> AsyncIterator[Agent]:
    path = directory / "hooks.yaml"
    path.write_text(yaml.safe_dump({"hooks": hooks}))
    async with running(config_of("lonely", hooks=path)) as agent:
        assert agent.hooks is not None
        yield agent


def happen(agent: Agent, event: str, **detail: Any) -> None:
    for callback in list(agent._subscribers):
        callback(Notify(event, detail))


@asynccontextmanager
async def receiver(
    answers: list[int],
) -> AsyncIterator[tuple[str, list[web.BaseRequest], list[bytes]]]:
    """An HTTP server that answers with these statuses in turn, and what it was sent."""
    requests: list[web.BaseRequest] = []
    bodies: list[bytes] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        bodies.append(await request.read())
        requests.append(request)
        return web.Response(status=answers.pop(0) if answers else 200, text="said")

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    try:
        yield f"http://{HOST}:{runner.addresses[0][1]}/hook", requests, bodies
    finally:
        await runner.cleanup()


async def test_the_walkthroughs_four_hooks() -> None:
    async with swarm(["us-east", "us-west"], hooks=EXAMPLE) as (east, west):
        assert east.hooks is not None
        [waited] = await east.hooks.run("pre-task", {})
        assert (waited.status, "2 agents" in waited.message) == ("done", True), waited

        [updated] = await east.hooks.run("post-edit", {"file": "src/main.py"})
        assert updated.status == "done", updated
        await until(lambda: west.read(r"file-metadata.src/main\.py") is not None)
        assert west.read(r"file-metadata.src/main\.py.by").value == "agent-0"

        happen(east, "partition-detected", groups=[["us-east"], ["us-west"]], detection_ms=310)
        await until(lambda: east.node.parameters.degraded)
        with pytest.raises(WriteRefused, match="degraded"):
            await east.write(put("a", 1))
        assert not west.node.parameters.degraded

        happen(east, "partition-healed", groups=[["us-east", "us-west"]], duration_ms=1000)
        await until(lambda: len(east.hooks.outcomes) == 6)
        assert [outcome.status for outcome in east.hooks.outcomes] == ["done"] * 6
        assert "compared with agent-1" in east.hooks.outcomes[-1].message
        await east.write(put("a", 1))


async def test_healing_never_overtakes_the_partition_it_ends(tmp_path: Path) -> None:
    slow = {"exec": [sys.executable, "-c", "import time; time.sleep(0.2)"]}
    hooks = {
        "partition-detected": [slow, {"builtin": {"name": "degraded-mode", "enabled": True}}],
        "partition-healed": [{"builtin": {"name": "degraded-mode", "enabled": False}}],
    }
    async with hooked(tmp_path, hooks) as agent:
        happen(agent, "partition-detected", groups=[])
        happen(agent, "partition-healed", groups=[])
        await until(lambda: len(agent.hooks.outcomes) == 3)
        assert not agent.node.parameters.degraded


async def test_a_post_is_signed_and_says_what_happened(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    async with receiver([]) as (url, requests, bodies):
        action = {"http": {"url": url, "secret_env": "HOOK_SECRET", "headers": {"X-Team": "a"}}}
        async with hooked(tmp_path, {"conflict": [action]}) as agent:
            [outcome] = await agent.hooks.run("conflict", {"key": "app.config"})
        assert (outcome.status, outcome.message) == ("done", "200 said")
        headers, body = requests[0].headers, bodies[0]
        signed = headers["X-GossipSwarm-Timestamp"].encode() + b"." + body
        digest = hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()
        assert headers["X-GossipSwarm-Signature"] == f"sha256={digest}"
        assert headers["X-Team"] == "a"
        document = json.loads(body)
        assert (document["event"], document["agent"]) == ("conflict", "lonely")
        assert document["detail"] == {"key": "app.config"}


async def test_a_post_is_tried_again_where_that_may_help(tmp_path: Path) -> None:
    async with receiver([503, 429]) as (url, requests, _):
        async with hooked(tmp_path, {"conflict": [{"http": url}]}) as agent:
            [outcome] = await agent.hooks.run("conflict", {})
        assert outcome.status == "done"
        assert len(requests) == 3


async def test_a_post_that_was_refused_is_not_tried_again(tmp_path: Path) -> None:
    async with receiver([403]) as (url, requests, _):
        async with hooked(tmp_path, {"conflict": [{"http": url}]}) as agent:
            [outcome] = await agent.hooks.run("conflict", {})
            assert agent.metrics.hook_runs == {("conflict", "failed"): 1}
        assert outcome.status == "failed"
        assert "answered 403: said" in outcome.message
        assert len(requests) == 1


async def test_a_receiver_that_is_not_there_fails_with_its_address(tmp_path: Path) -> None:
    action = {"http": {"url": f"http://{HOST}:1/x", "retries": 0}}
    async with hooked(tmp_path, {"conflict": [action]}) as agent:
        [outcome] = await agent.hooks.run("conflict", {})
    assert outcome.status == "failed"
    assert f"cannot reach http://{HOST}:1/x" in outcome.message


async def test_a_program_finds_the_event_and_no_secrets(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("GOSSIPSWARM_WRITE_TOKEN", "hidden")
    report = (
        "import json, os, sys; e = os.environ; "
        "print(e['GOSSIPSWARM_EVENT'], e['TEAM'], json.loads(e['GOSSIPSWARM_DETAIL'])['key'], "
        "json.load(sys.stdin)['region'], 'GOSSIPSWARM_WRITE_TOKEN' in e, sys.argv[1:])"
    )
    action = {
        "exec": {"command": [sys.executable, "-c", report, "a b; $c"], "environment": {"TEAM": "x"}}
    }
    async with hooked(tmp_path, {"conflict": [action]}) as agent:
        [outcome] = await agent.hooks.run("conflict", {"key": "k"})
    assert (outcome.status, outcome.message) == (
        "done",
        "conflict x k us-east False ['a b; $c']",
    )


async def test_a_program_that_fails_is_reported_with_the_end_of_what_it_said(
    tmp_path: Path,
) -> None:
    say = "import sys; print('x' * 100_000); print('the reason', file=sys.stderr); sys.exit(3)"
    async with hooked(tmp_path, {"conflict": [{"exec": [sys.executable, "-c", say]}]}) as agent:
        [outcome] = await agent.hooks.run("conflict", {})
    assert outcome.status == "failed"
    assert "ended with 3" in outcome.message
    assert outcome.message.endswith("the reason")
    assert len(outcome.message) < 5000


async def test_a_program_that_is_not_there_fails(tmp_path: Path) -> None:
    async with hooked(tmp_path, {"conflict": [{"exec": ["/does/not/exist"]}]}) as agent:
        [outcome] = await agent.hooks.run("conflict", {})
    assert outcome.status == "failed"
    assert "No such file" in outcome.message


async def test_a_program_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "children"
    # A shell has begun within the two seconds, wherever it runs.
    hang = f"sleep 3600 & echo $! > '{mark}'; wait"
    action = {"exec": {"command": ["sh", "-c", hang], "timeout": "2s"}}
    async with hooked(tmp_path, {"conflict": [action]}) as agent:
        async with asyncio.timeout(60):
            [outcome] = await agent.hooks.run("conflict", {})
        assert outcome.status == "failed"
        assert "not done within 2s" in outcome.message
        child = Path(f"/proc/{mark.read_text().strip()}/stat")
        await until(lambda: not child.exists() or ") Z " in child.read_text())


async def test_a_hook_that_hangs_never_holds_up_the_agent(tmp_path: Path) -> None:
    action = {"exec": {"command": ["sleep", "3600"], "timeout": "1h"}}
    async with asyncio.timeout(120), hooked(tmp_path, {"conflict": [action]}) as agent:
        for number in range(200):
            happen(agent, "conflict", number=number)
        for number in range(20):
            await agent.write(put(f"k{number}", number))
        overflow = agent.metrics.hook_runs[("conflict", "overflow")]
        assert overflow >= 200 - hooks_module.WAITING_LIMIT - 1
        # Stopping waits for no hook, either.


async def test_the_actions_after_one_that_failed_are_carried_out(tmp_path: Path) -> None:
    actions = [
        {"exec": ["/does/not/exist"]},
        {"builtin": {"name": "state-update", "key": "after.${key}", "value": ["${key}", 1]}},
    ]
    async with hooked(tmp_path, {"conflict": actions}) as agent:
        outcomes = await agent.hooks.run("conflict", {"key": "a.b"})
        assert [outcome.status for outcome in outcomes] == ["failed", "done"]
        assert agent.read(r"after.a\.b").value == ["a.b", 1]


async def test_a_field_that_the_event_lacks_fails_the_action(tmp_path: Path) -> None:
    action = {"builtin": {"name": "log", "message": "it was ${nobody}"}}
    async with hooked(tmp_path, {"conflict": [action]}) as agent:
        [outcome] = await agent.hooks.run("conflict", {})
    assert "says nothing of 'nobody'" in outcome.message
