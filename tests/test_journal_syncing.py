"""Journals of one process sync together where that is cheaper, and each learns of its own failure."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gossipswarm_agent.runtime import syncing
from gossipswarm_agent.runtime.journal import Journal, JournalError
from gossipswarm_agent.runtime.syncing import syncer_of


@pytest.fixture
async def journals(tmp_path: Path):
    async with AsyncExitStack() as stack:
        made = []
        for number in range(12):
            journal, _ = Journal.open(tmp_path / str(number))
            stack.push_async_callback(journal.close)
            made.append(journal)
        yield made


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def write_all(journals: list[Journal]) -> None:
    await asyncio.gather(*[journal.sync(journal.append([b"record"])) for journal in journals])


async def test_journals_that_wait_together_share_a_sync(journals) -> None:
    await write_all(journals)
    syncer = syncer_of(None)
    assert syncer.together == 1
    assert syncer.alone == 0
    assert all(journal.synced > 0 for journal in journals)
    before = open_descriptors()
    for _ in range(5):
        await write_all(journals)
    assert open_descriptors() == before


async def test_a_journal_that_waits_alone_syncs_its_own_file(journals) -> None:
    await write_all(journals[:1])
    assert (syncer_of(None).together, syncer_of(None).alone) == (0, 1)


async def test_a_slow_file_system_is_not_synced_as_a_whole_for_a_while(
    journals, monkeypatch
) -> None:
    monkeypatch.setattr(syncing, "SLOW_SECONDS", 0.0)
    await write_all(journals)
    await write_all(journals)
    assert syncer_of(None).together == 1
    assert syncer_of(None).alone == len(journals)


async def test_where_the_whole_fails_each_learns_of_its_own(journals, monkeypatch) -> None:
    monkeypatch.setattr(syncing, "_syncfs", lambda: lambda descriptor: -1)
    real, broken = os.fdatasync, os.fstat
    victim = None

    def faulty(descriptor: int) -> None:
        if victim is not None and broken(descriptor).st_ino == victim:
            raise OSError(5, "Input/output error")
        real(descriptor)

    await write_all(journals)
    victim = next(journals[3].directory.glob("segment-*")).stat().st_ino
    monkeypatch.setattr(os, "fdatasync", faulty)
    outcomes = await asyncio.gather(
        *[journal.sync(journal.append([b"next"])) for journal in journals], return_exceptions=True
    )
    failed = [number for number, outcome in enumerate(outcomes) if outcome is not None]
    assert failed == [3]
    assert isinstance(outcomes[3], JournalError)
    monkeypatch.setattr(os, "fdatasync", real)
    await journals[3].snapshot([b"record", b"next"])
