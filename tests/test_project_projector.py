"""An agent keeps parts of the state as files: soon, in step with bursts, in spite of its disk, and across its restart."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from agents import config_of, put, running, seed_of, swarm
from disks import mount, small_disk, unmount
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.project import following
from gossipswarm_agent.project.projections import parse_projections
from gossipswarm_agent.project.receipts import Receipt
from loopback import until
from projecting import (
    contents,
    document,
    metric,
    projected,
    projected_file,
    projecting,
    receipt_of,
    shows,
)

__all__ = ["projected_file"]  # fixture


def overwrite(path: Path) -> None:
    path.write_text("{}")


def remove(path: Path) -> None:
    path.unlink()


# --- following ------------------------------------------------------------------------------------


async def test_a_write_is_in_the_file_and_a_receipt_says_which(file: Path) -> None:
    async with projecting(projected(file)) as agent:
        await until(lambda: agent.ready)
        [result] = await agent.write(put("app", {"ttl": 60, "on": True}))
        await until(lambda: shows(file, {"ttl": 60, "on": True}))
        await until(
            lambda: receipt_of(agent).written and receipt_of(agent).written.dot == result.dot
        )
        receipt = receipt_of(agent)
        assert receipt.written is not None
        assert (receipt.written.version, receipt.written.etag) == (result.version, result.etag)
        assert receipt.written.bytes == len(contents(file))
        assert receipt.applied
        assert metric(agent, "version") == result.version
        assert metric(agent, "trouble") == 0
        assert metric(agent, "applied") == 1
        assert metric(agent, "delay_seconds_count") == metric(agent, "writes_total")


async def test_a_write_elsewhere_in_the_swarm_is_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "app.json"
    async with swarm(["us-east", "us-west"]) as [first, _]:
        config = config_of(
            "sidecar", project=parse_projections([projected(file)]), seeds=[seed_of(first)]
        )
        async with running(config) as agent:
            await until(lambda: agent.ready, 60)
            await first.write(put("app.ttl", 7))
            await until(lambda: shows(file, {"ttl": 7}))


async def test_what_is_deleted_goes_and_nothing_is_an_empty_object(tmp_path: Path) -> None:
    file, directory = tmp_path / "app.json", tmp_path / "config"
    async with projecting(projected(file), projected(directory, format="dir")) as agent:
        await agent.write(put("app", {"a": 1, "b": {"c": 2}}))
        await until((directory / "b.c").exists)
        await agent.write([Mutation("delete", "app.b")])
        await until(lambda: shows(file, {"a": 1}) and not os.path.lexists(directory / "b.c"))
        assert (directory / "a").read_text() == "1"
        await agent.write([Mutation("delete", "app")])
        await until(lambda: shows(file, {}) and not os.path.lexists(directory / "a"))


async def test_writes_elsewhere_touch_no_file(file: Path) -> None:
    async with projecting(projected(file)) as agent:
        await until(lambda: agent.ready)
        await agent.write(put("application", 1))
        await agent.write(put("ap", 1))
        await agent.write(put("app.x", 1))
        await until(lambda: shows(file, {"x": 1}))
        await until(lambda: metric(agent, "writes_total") == 2)  # the empty one, and app.x


async def test_a_value_written_above_the_prefix_hides_it(file: Path) -> None:
    async with projecting(projected(file, prefix="app.config")) as agent:
        await agent.write(put("app.config.x", 1))
        await until(lambda: shows(file, {"x": 1}))
        await agent.write(put("app", 5))
        await until(lambda: shows(file, {}))


async def test_a_burst_is_a_few_writes_and_ends_with_the_last(file: Path) -> None:
    async with projecting(projected(file)) as agent:
        await until(lambda: agent.ready)
        begun = time.monotonic()
        for number in range(1000):
            await agent.write(put("app.number", number))
        await until(lambda: shows(file, {"number": 999}))
        took = time.monotonic() - begun
        writes = metric(agent, "writes_total")
        assert writes is not None
        assert writes <= 3 + took / following.GAP_SECONDS


async def test_whatever_blocks_happens_in_other_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, threads = tmp_path / "config", set()
    real_sync, real_render = os.fsync, following.render

    def sync(descriptor: int) -> None:
        threads.add(threading.current_thread())
        real_sync(descriptor)

    def render(*arguments: Any) -> Any:
        threads.add(threading.current_thread())
        return real_render(*arguments)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(following, "render", render)
    async with projecting(
        projected(directory, format="dir"),
        projected(tmp_path / "app.yaml", format="yaml"),
        projected(tmp_path / "app.env", format="env"),
    ) as agent:
        await until(lambda: agent.ready)
        leaves = {f"service-{number}": {"ttl": number} for number in range(3000)}
        await agent.write(put("app", leaves))
        await until(lambda: len(list(directory.glob("service-*"))) == 3000, 120)
        assert (directory / "service-7.ttl").read_text() == "7"
        await until(lambda: b"SERVICE_2999_TTL=2999" in (tmp_path / "app.env").read_bytes(), 120)
    assert threads
    assert threading.current_thread() not in threads


async def test_a_file_that_somebody_changes_or_removes_is_put_back(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(following, "CHECK_SECONDS", 0.05)
    async with projecting(projected(file)) as agent:
        await agent.write(put("app.x", 1))
        await until(lambda: shows(file, {"x": 1}))
        overwrite(file)
        await until(lambda: shows(file, {"x": 1}))
        remove(file)
        await until(lambda: shows(file, {"x": 1}))
        await until(lambda: "changed by somebody else" in caplog.text)


# --- trials ---------------------------------------------------------------------------------------


async def test_a_version_on_trial_shows_in_its_region_and_ends_with_it(tmp_path: Path) -> None:
    file, other = tmp_path / "app.json", tmp_path / "other.json"
    base = {"ttl": 60, "flags": {"new": False, "old": True}}
    async with projecting(projected(file), projected(other, prefix="other")) as agent:
        await agent.write(put("app", base))
        await until(lambda: shows(file, base))
        await agent.write([Mutation("leaf", "canary.us-west.app.ttl", 1)])
        await agent.write(
            [
                Mutation("leaf", "canary.us-east.app.flags.new", True),
                Mutation("leaf", "canary.us-east.app.flags.old", None),
            ]
        )
        trial = {"ttl": 60, "flags": {"new": True}}
        await until(lambda: shows(file, trial))
        await until(
            lambda: any(
                receipt.written and receipt.written.on_trial for receipt in agent.projector.receipts
            )
        )
        # What others write below the prefix shows through.
        await agent.write(put("app.ttl", 61))
        await until(lambda: shows(file, {**trial, "ttl": 61}))
        await agent.write([Mutation("delete", "canary.us-east.app")])
        await until(lambda: shows(file, {**base, "ttl": 61}))
        assert document(other) == {}


async def test_a_trial_that_takes_away_what_the_prefix_is_part_of_leaves_nothing(
    file: Path,
) -> None:
    async with projecting(projected(file, prefix="app.config.web")) as agent:
        await agent.write(put("app.config.web", {"ttl": 1}))
        await until(lambda: shows(file, {"ttl": 1}))
        await agent.write([Mutation("leaf", "canary.us-east.app.config", None)])
        await until(lambda: shows(file, {}))
        await agent.write([Mutation("delete", "canary")])
        await until(lambda: shows(file, {"ttl": 1}))


# --- readiness and restart ------------------------------------------------------------------------


async def test_an_agent_is_ready_once_its_files_are_written(tmp_path: Path) -> None:
    file = tmp_path / "config" / "app.json"
    async with projecting(projected(file)) as agent:
        await until(lambda: receipt_of(agent).trouble)
        assert agent.unreadiness == (
            f"app is not yet projected to {file}: No such file or directory: {file.parent}/.app.json.gossipswarm"
        )
        file.parent.mkdir()
        await until(lambda: agent.ready)
        assert document(file) == {}


async def test_a_restart_keeps_the_file_and_writes_only_what_differs(tmp_path: Path) -> None:
    file, data = tmp_path / "app.json", tmp_path / "data"
    async with projecting(projected(file), data_dir=data) as agent:
        await agent.write(put("app.x", 1))
        await until(lambda: shows(file, {"x": 1}))
    before = file.stat()
    async with projecting(projected(file), data_dir=data) as agent:
        await until(lambda: agent.ready)
        assert file.stat().st_ino == before.st_ino
        assert metric(agent, "writes_total") == 0
        assert receipt_of(agent).applied
        assert receipt_of(agent).written is not None
        await agent.write(put("app.x", 2))
        await until(lambda: shows(file, {"x": 2}))


async def test_an_agent_that_has_met_nobody_yet_leaves_the_file_alone(file: Path) -> None:
    async with projecting(projected(file)) as agent:
        await agent.write(put("app.x", 1))
        await until(lambda: shows(file, {"x": 1}))
    # It starts with nothing, and the other that ought to exist does not answer.
    config = config_of(
        "one",
        project=parse_projections([projected(file)]),
        declared={"one": "us-east", "two": "us-east"},
    )
    async with running(config) as agent:
        await asyncio.sleep(0.3)  # it must not happen at any time: there is nothing to wait for
        assert agent.unreadiness == "the agent has not yet met anybody of its swarm"
        assert document(file) == {"x": 1}


# --- trouble --------------------------------------------------------------------------------------


async def test_a_full_disk_keeps_the_last_version_is_said_and_gets_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        file, filling = disk / "app.json", disk / "filling"
        async with projecting(projected(file)) as agent:
            await agent.write(put("app.x", 1))
            await until(lambda: shows(file, {"x": 1}))
            filling.write_bytes(b"x" * 40_000)
            await agent.write(put("app.x", "y" * 30_000))
            await until(lambda: agent.projector.trouble)
            assert agent.ready, "what it has is still good"
            assert "No space left on device" in str(agent.projector.trouble)
            assert f"{file} stays at version" in str(agent.projector.trouble)
            assert metric(agent, "trouble") == 1
            assert document(file) == {"x": 1}
            filling.unlink()
            await until(lambda: shows(file, {"x": "y" * 30_000}))
            await until(lambda: agent.projector.trouble is None)
            assert metric(agent, "trouble") == 0
            assert metric(agent, "failures_total")
    said = [record for record in caplog.records if record.message == "cannot project"]
    assert len(said) == 1, "once, not at every attempt"


async def test_a_disk_that_turns_read_only_is_written_when_it_can_be_again(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        file = disk / "app.json"
        async with projecting(projected(file)) as agent:
            await until(lambda: agent.ready)
            mount("--bind", disk, disk)
            mount("-o", "remount,bind,ro", disk)
            try:
                await agent.write(put("app.x", 1))
                await until(lambda: agent.projector.trouble)
                assert "Read-only file system" in str(agent.projector.trouble)
            finally:
                unmount(disk)
            await until(lambda: shows(file, {"x": 1}))


async def test_what_a_format_cannot_hold_stops_that_file_alone(tmp_path: Path) -> None:
    variables, file = tmp_path / "app.env", tmp_path / "app.json"
    async with projecting(projected(variables, format="env"), projected(file)) as agent:
        await agent.write(put("app", {"a": {"b": 1}}))
        await until(lambda: variables.exists() and variables.read_text() == "A_B=1\n")
        await agent.write(put("app.a_b", 2))
        await until(lambda: shows(file, {"a": {"b": 1}, "a_b": 2}))
        await until(lambda: agent.projector.trouble)
        assert "app.a.b and app.a_b are both A_B" in str(agent.projector.trouble)
        assert variables.read_text() == "A_B=1\n"
        await agent.write([Mutation("delete", "app.a")])
        await until(lambda: variables.read_text() == "A_B=2\n")


async def test_a_fault_of_ours_is_logged_and_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    real = following.render

    def render(value: Any, format_: Any, prefix: str) -> Any:
        if prefix == "one" and value == {"x": 1}:
            raise TypeError("a bug")
        return real(value, format_, prefix)

    monkeypatch.setattr(following, "render", render)
    async with projecting(projected(one, prefix="one"), projected(two, prefix="two")) as agent:
        await until(lambda: agent.ready)
        await agent.write([*put("one.x", 1), *put("two.x", 1)])
        await until(lambda: shows(two, {"x": 1}))
        await until(lambda: agent.projector.trouble)
        assert "a fault in the agent" in str(agent.projector.trouble)
        await agent.write(put("one.x", 2))
        await until(lambda: shows(one, {"x": 2}))
    assert any(record.exc_info for record in caplog.records if record.message == "cannot project")


# --- receipts -------------------------------------------------------------------------------------


async def test_receipts_are_told_as_they_come_and_reported_within_a_limit(tmp_path: Path) -> None:
    told: list[Receipt] = []
    entries = [projected(tmp_path / f"{number}.json") for number in range(20)]
    async with projecting(*entries) as agent:
        agent.projector.subscribe(told.append)
        [result] = await agent.write(put("app.x", 1))
        await until(
            lambda: all(r.written and r.written.dot == result.dot for r in agent.projector.receipts)
        )
        assert {receipt.projection.path for receipt in told} == {each["path"] for each in entries}
        report = json.loads(agent.projector.report(1 << 20))
        assert (len(report["projections"]), report["left_out"]) == (20, 0)
        assert report["projections"][0]["dot"] == result.dot
        assert report["projections"][0]["applied"] is True
        short = agent.projector.report(1000)
        assert len(short) <= 1000
        assert len(json.loads(short)["projections"]) + json.loads(short)["left_out"] == 20
        assert json.loads(agent.projector.report(64)) == {"projections": [], "left_out": 20}


async def test_an_agent_without_projections_has_nothing_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with running(config_of("one")) as agent:
        await agent.write(put("app.x", 1))
        assert agent.projector.receipts == []
        assert agent.projector.unreadiness is None
        shown = [family.name for family in agent.metrics.collect()]
        assert not [name for name in shown if name.startswith("gossipswarm_projection_")]
