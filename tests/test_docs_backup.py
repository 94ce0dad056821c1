"""The commands of the guide that back a swarm up and restore it, run as they stand, on real agents."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

import guides
from gossipswarm_agent.runtime.config import Tokens
from served import one_agent

PAGE = Path(__file__).parent.parent / "docs" / "kubernetes-swarms.md"
TOKENS = Tokens(read="reads", write="writes")
URL = "http://127.0.0.1:7601"
KUBECTL = """#!/bin/sh
# As much of kubectl as the guide uses: the port is open already, and the Secret holds this token.
test "$1" = get && printf writes | base64
exit 0
"""
STATE = {
    "app": {
        "config": {"cache_ttl": 3600, "hosts": ["a", "b"], "ratio": 0.5, "off": None, "empty": {}},
        "app.example.com/name": {"a\\b": "a key with dots, a slash and a backslash"},
    },
    "text": 'quoted "like" \\this\\, \u00e9 and \n lines',
    "flag": True,
    **{f"part-{part}": {f"key-{n}": f"{n}" * 200 for n in range(1000)} for part in range(3)},
}
"""Over a megabyte in all, which is more than one value may have."""

needs_tools = pytest.mark.skipif(
    not all(map(shutil.which, ("curl", "jq", "base64"))), reason="NEEDS curl, jq and base64"
)


def commands(url: str) -> list[str]:
    """Backup and restore, in this order, at an agent."""
    found = [
        block.text.replace(URL, url)
        for block in guides.blocks(PAGE)
        if block.language == "bash" and "backup.json" in block.text
    ]
    assert len(found) == 2
    return found


async def run(url: str, which: slice, directory: Path) -> list[guides.Outcome]:
    programs = directory / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "kubectl").write_text(KUBECTL, "utf-8")
    (programs / "kubectl").chmod(0o755)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "TOKEN": "writes"}
    return await asyncio.to_thread(guides.run, commands(url)[which], directory, environment, 300)


@needs_tools
async def test_what_was_backed_up_is_restored_into_an_empty_swarm(tmp_path: Path):
    async with one_agent(tokens=TOKENS) as agent:
        headers = {"Authorization": "Bearer writes"}
        for key, value in STATE.items():
            assert (
                await agent.ask("PUT", f"/v1/state/{key}", value, headers=headers)
            ).status == 200
        await run(agent.url, slice(0, 1), tmp_path)
    async with one_agent(tokens=TOKENS) as empty:
        [restored] = await run(empty.url, slice(1, 2), tmp_path)
        assert restored.stdout == "", "no line was refused"
        found = await empty.ask("GET", "/v1/state", headers=headers)
        assert found.document["value"] == STATE


@needs_tools
async def test_a_restore_wins_over_what_is_there_leaves_what_is_new_and_says_what_is_refused(
    tmp_path: Path,
):
    headers = {"Authorization": "Bearer writes"}
    async with one_agent(tokens=TOKENS) as agent:
        await agent.ask("PUT", "/v1/state/app", {"kept": 1, "changed": 2}, headers=headers)
        await run(agent.url, slice(0, 1), tmp_path)
        await agent.ask("PUT", "/v1/state/app", {"changed": 3, "new": 4}, headers=headers)
        await run(agent.url, slice(1, 2), tmp_path)
        found = await agent.ask("GET", "/v1/state/app", headers=headers)
        assert found.document["value"] == {"kept": 1, "changed": 2, "new": 4}
        (tmp_path / "backup.json").write_text('{"value": {"$swarm": {"config": {"fanout": 3}}}}')
        [refused] = await run(agent.url, slice(1, 2), tmp_path)
        assert "invalid-key" in refused.stdout
