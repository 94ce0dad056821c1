"""What a journal returned for is there after a crash, whatever of the rest is not."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossipswarm_agent.runtime import journal_format as form
from gossipswarm_agent.runtime.journal import (
    DiskFull,
    Journal,
    JournalError,
    JournalLocked,
    MemoryJournal,
)

RECORDS = [b"record %d " % number + b"x" * (number * 7) for number in range(20)]


def files(directory: Path, kind: str) -> list[Path]:
    return sorted(directory.glob(f"{kind}-*.journal"))


def read_back(directory: Path):
    """What a start would find, leaving the directory as it is."""
    copy = directory.with_name(directory.name + "-copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(directory, copy)
    journal, recovery = Journal.open(copy)
    os.close(journal._lock)
    return recovery


async def written(directory: Path, records=RECORDS, **options) -> Journal:
    journal, _ = Journal.open(directory, **options)
    await journal.sync(journal.append(records))
    return journal


async def test_records_come_back_in_order_after_a_close(tmp_path: Path) -> None:
    journal = await written(tmp_path)
    journal.append([b"unsynced"])
    await journal.close()
    again, recovery = Journal.open(tmp_path)
    assert recovery.records == [*RECORDS, b"unsynced"]
    assert (recovery.torn_bytes, recovery.quarantined, recovery.fresh) == (0, [], False)
    await again.close()


async def test_a_new_directory_is_fresh(tmp_path: Path) -> None:
    journal, recovery = Journal.open(tmp_path / "new" / "deep")
    assert recovery.fresh
    assert recovery.records == []
    await journal.close()


async def test_records_are_spread_over_segments_and_come_back_in_order(tmp_path: Path) -> None:
    journal, _ = Journal.open(tmp_path, segment_bytes=200)
    for record in RECORDS:
        journal.append([record])
    await journal.close()
    assert len(files(tmp_path, "segment")) > 5
    assert read_back(tmp_path).records == RECORDS


async def test_the_directory_has_one_owner(tmp_path: Path) -> None:
    journal = await written(tmp_path)
    with pytest.raises(JournalLocked, match="open elsewhere"):
        Journal.open(tmp_path)
    await journal.close()
    again, _ = Journal.open(tmp_path)
    await again.close()


async def test_those_who_wait_together_share_one_sync(tmp_path: Path) -> None:
    journal, _ = Journal.open(tmp_path)
    heard: list[float] = []
    journal.on_fsync = heard.append
    positions = [journal.append([record]) for record in RECORDS]
    await asyncio.gather(*[journal.sync(position) for position in positions])
    assert len(journal.fsync_seconds) == len(heard) == 1
    assert journal.synced == positions[-1]
    await journal.close()


async def test_a_waiter_that_gives_up_takes_nobody_with_it(tmp_path: Path) -> None:
    journal, _ = Journal.open(tmp_path)
    position = journal.append(RECORDS)
    impatient = asyncio.create_task(journal.sync(position))
    patient = asyncio.create_task(journal.sync(position))
    await asyncio.sleep(0)
    impatient.cancel()
    await patient
    assert journal.synced == position
    await journal.close()


async def test_a_position_that_was_never_given_is_an_error(tmp_path: Path) -> None:
    journal = await written(tmp_path)
    with pytest.raises(ValueError, match="never returned"):
        await journal.sync(10**9)
    await journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.append([b"x"])
    await journal.close()


def whole_segment() -> bytes:
    salt = form.salt_of("segment", 1)
    return form.encode_header("segment", 1) + b"".join(form.encode_records(RECORDS, salt))


SEGMENT = whole_segment()
ENDS = [form.HEADER_BYTES]
for _record in RECORDS:
    ENDS.append(ENDS[-1] + 8 + len(_record))


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.integers(0, len(SEGMENT) - 1))
def test_a_tail_torn_anywhere_costs_only_the_record_it_tore(tmp_path: Path, length: int) -> None:
    shutil.rmtree(tmp_path / "j", ignore_errors=True)
    (tmp_path / "j").mkdir()
    (tmp_path / "j" / form.file_name("segment", 1)).write_bytes(SEGMENT[:length])
    recovery = read_back(tmp_path / "j")
    whole = sum(end <= length for end in ENDS[1:])
    assert recovery.records == RECORDS[:whole]
    if length >= form.HEADER_BYTES:
        assert recovery.quarantined == []
        assert recovery.torn_bytes == length - ENDS[whole]


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.integers(0, len(SEGMENT) - 1), st.integers(1, 255))
def test_a_byte_damaged_anywhere_costs_only_its_record_and_is_reported(
    tmp_path: Path, at: int, change: int
) -> None:
    shutil.rmtree(tmp_path / "j", ignore_errors=True)
    (tmp_path / "j").mkdir()
    damaged = bytearray(SEGMENT)
    damaged[at] ^= change
    (tmp_path / "j" / form.file_name("segment", 1)).write_bytes(damaged)
    recovery = read_back(tmp_path / "j")
    hit = sum(end <= at for end in ENDS) - 1
    expected = RECORDS if at < form.HEADER_BYTES else [r for n, r in enumerate(RECORDS) if n != hit]
    assert recovery.records == expected
    assert recovery.quarantined or recovery.torn_bytes


async def test_damage_is_set_aside_once_and_the_next_start_is_clean(tmp_path: Path) -> None:
    journal = await written(tmp_path)
    await journal.close()
    path = files(tmp_path, "segment")[0]
    content = bytearray(path.read_bytes())
    content[ENDS[5] + 10] ^= 1
    path.write_bytes(content)
    first, recovery = Journal.open(tmp_path)
    [found] = recovery.quarantined
    assert found.kept_records == len(RECORDS) - 1
    assert found.path.read_bytes() == bytes(content)
    await first.close()
    second, again = Journal.open(tmp_path)
    assert again.quarantined == []
    assert again.records == recovery.records
    await second.close()


async def test_a_snapshot_stands_for_everything_before_it(tmp_path: Path) -> None:
    journal = await written(tmp_path)
    done = journal.snapshot([b"the state"])
    journal.append([b"after"])
    await done
    assert len(files(tmp_path, "snapshot")) == 1
    assert read_back(tmp_path).records == [b"the state", b"after"]
    assert journal.segment_bytes < 100
    await journal.close()


async def test_a_crash_at_any_step_of_a_snapshot_loses_nothing(tmp_path: Path) -> None:
    live = tmp_path / "live"
    steps: list[str] = []

    def look(step: str) -> None:
        steps.append(step)
        shutil.copytree(live, tmp_path / f"step-{len(steps)}")

    journal = await written(live, step=look, segment_bytes=200)
    await journal.snapshot([b"state"])
    journal.append([b"between"])
    await journal.snapshot([b"state 2"])
    await journal.close()
    assert {"snapshot created", "snapshot synced", "snapshot renamed"} <= set(steps)
    seen = {
        tuple(read_back(tmp_path / f"step-{number + 1}").records) for number in range(len(steps))
    }
    assert seen <= {tuple(RECORDS), (b"state",), (b"state", b"between"), (b"state 2",)}


async def test_a_damaged_snapshot_falls_back_on_what_is_older(tmp_path: Path) -> None:
    kept: list[Path] = []

    def keep(step: str) -> None:
        if step == "directory synced":
            shutil.copytree(tmp_path / "live", tmp_path / "both", dirs_exist_ok=True)
            kept.append(tmp_path / "both")

    journal = await written(tmp_path / "live", step=keep)
    await journal.snapshot([b"the state", b"and more"])
    await journal.close()
    [snapshot] = files(kept[0], "snapshot")
    content = bytearray(snapshot.read_bytes())
    content[form.HEADER_BYTES + 9] ^= 1
    snapshot.write_bytes(content)
    recovery = read_back(kept[0])
    assert recovery.records == [*RECORDS, b"and more"]
    assert len(recovery.quarantined) == 1


async def test_a_short_snapshot_is_noticed(tmp_path: Path) -> None:
    journal = await written(tmp_path)
    await journal.snapshot([b"one", b"two", b"three"])
    await journal.close()
    [snapshot] = files(tmp_path, "snapshot")
    whole = snapshot.read_bytes()
    snapshot.write_bytes(whole[: -(8 + 16)])
    recovery = read_back(tmp_path)
    assert recovery.records == [b"one", b"two", b"three"]
    assert len(recovery.quarantined) == 1


async def test_two_snapshots_at_a_time_are_refused(tmp_path: Path) -> None:
    journal = await written(tmp_path)
    first = journal.snapshot([b"state"])
    with pytest.raises(JournalError, match="under way"):
        journal.snapshot([b"state"])
    await first
    await journal.close()


async def test_a_full_disk_appends_all_or_nothing_and_works_again(tmp_path: Path) -> None:
    journal = await written(tmp_path, [b"before"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(DiskFull, match="File too large"):
            journal.append([b"fits", b"y" * 500])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await journal.sync(journal.append([b"after"]))
    assert read_back(tmp_path).records == [b"before", b"after"]
    await journal.close()


async def test_after_a_failed_sync_only_a_snapshot_makes_it_whole(
    tmp_path: Path, monkeypatch
) -> None:
    journal = await written(tmp_path, [b"before"])
    real = os.fdatasync

    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    position = journal.append([b"doubtful"])
    with pytest.raises(JournalError, match="Input/output error"):
        await journal.sync(position)
    monkeypatch.setattr(os, "fdatasync", real)
    with pytest.raises(JournalError, match="Input/output error"):
        journal.append([b"refused"])
    await journal.snapshot([b"before", b"doubtful"])
    await journal.sync(journal.append([b"after"]))
    assert read_back(tmp_path).records == [b"before", b"doubtful", b"after"]
    await journal.close()


def test_a_killed_process_loses_nothing_it_appended(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; "
        "from gossipswarm_agent.runtime.journal import Journal; "
        "j, _ = Journal.open(Path(sys.argv[1])); "
        "[j.append([b'%d' % n]) for n in range(100)]; os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=120)
    assert read_back(tmp_path).records == [b"%d" % number for number in range(100)]


async def test_a_format_of_the_future_is_refused_and_left_alone(tmp_path: Path) -> None:
    header = form._HEADER.pack(b"GSWJ", 99, 2, 1)
    path = tmp_path / form.file_name("segment", 1)
    path.write_bytes(header + form.crc32(header).to_bytes(4, "big"))
    with pytest.raises(JournalError, match="format version 99"):
        Journal.open(tmp_path)
    assert path.exists()


async def test_a_journal_in_memory_keeps_nothing_and_promises_nothing() -> None:
    journal, recovery = MemoryJournal.open()
    assert recovery.fresh
    await journal.sync(journal.append(RECORDS))
    await journal.snapshot(RECORDS)
    assert journal.bytes == journal.segment_bytes == 0
    await journal.close()
