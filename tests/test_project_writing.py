"""Projected files are replaced whole, synced, and never taken from somebody else."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from disks import mount, small_disk
from gossipswarm_agent.project import writing
from gossipswarm_agent.project.ownership import NotOurs
from gossipswarm_agent.project.projections import Projection
from gossipswarm_agent.project.writing import Target, target

READER = Path(__file__).with_name("projected_reader.py")
FLIPS = 1000


def make(
    path: Path, format_: Any = "json", *, prefix: str = "app", swarm: str = "s", mode: str = "0644"
) -> Target:
    return target(
        Projection(prefix=prefix, path=str(path), format=format_, mode=mode), swarm, "one"
    )


def shown(directory: Path) -> dict[str, str]:
    """Files of a directory as an application lists them."""
    return {
        path.name: path.read_text()
        for path in directory.iterdir()
        if not path.name.startswith("..") and path.is_file()
    }


def hidden(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if path.name.startswith("..2")}


# --- files ----------------------------------------------------------------------------------------


def test_a_file_has_its_content_and_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    file = tmp_path / "app.json"
    before = os.umask(0o077)
    try:
        assert make(file, mode="0664").replace(b"one")
    finally:
        os.umask(before)
    assert file.read_bytes() == b"one"
    assert stat.S_IMODE(file.stat().st_mode) == 0o664


def test_what_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    file = tmp_path / "app.json"
    first = make(file)
    assert first.replace(b"one")
    before = file.stat()
    assert not first.replace(b"one")
    first.release()
    restarted = make(file)
    assert not restarted.replace(b"one")
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert restarted.replace(b"two")
    assert file.read_bytes() == b"two"


def test_a_changed_mode_is_put_back(tmp_path: Path) -> None:
    file = tmp_path / "app.json"
    ours = make(file)
    ours.replace(b"one")
    file.chmod(0o600)
    assert ours.replace(b"one")
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_the_content_is_on_the_disk_before_it_is_seen_and_the_name_before_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, synced = tmp_path / "app.json", []

    def sync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((path.name, file.read_bytes() if file.exists() else None))

    monkeypatch.setattr(os, "fsync", sync)
    make(file).replace(b"new")
    assert synced == [(".app.json.gossipswarm-new", None), (tmp_path.name, b"new")]


def test_a_write_that_was_interrupted_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    file = tmp_path / "app.json"
    (tmp_path / ".app.json.gossipswarm-new").write_bytes(b"hal")
    assert make(file).replace(b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {"app.json", ".app.json.gossipswarm"}


# --- directories ----------------------------------------------------------------------------------


def test_a_directory_looks_like_the_volume_of_a_configmap(tmp_path: Path) -> None:
    directory = tmp_path / "config"
    make(directory, "dir", mode="0640").replace({"a": b"1", "b": b"2"})
    assert shown(directory) == {"a": "1", "b": "2"}
    assert str((directory / "a").readlink()) == "..data/a"
    version = (directory / "..data").readlink()
    assert str(version).startswith("..2")
    assert stat.S_IMODE((directory / version / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE((directory / version).stat().st_mode) == 0o755


def test_leaves_come_and_go_with_one_change_of_the_link(tmp_path: Path) -> None:
    directory = tmp_path / "config"
    ours = make(directory, "dir")
    assert ours.replace({"a": b"1", "b": b"2"})
    assert ours.replace({"b": b"2", "c": b"3"})
    assert shown(directory) == {"b": "2", "c": "3"}
    assert not os.path.lexists(directory / "a")
    assert not ours.replace({"b": b"2", "c": b"3"})
    assert ours.replace({})
    assert shown(directory) == {}


def test_a_file_that_did_not_change_is_the_same_file(tmp_path: Path) -> None:
    directory = tmp_path / "config"
    ours = make(directory, "dir")
    ours.replace({"a": b"1", "b": b"1"})
    a, b = (directory / "a").stat(), (directory / "b").stat()
    ours.replace({"a": b"1", "b": b"2"})
    assert (directory / "a").stat().st_ino == a.st_ino
    assert (directory / "b").stat().st_ino != b.st_ino


def test_a_version_that_was_replaced_stays_a_moment_and_only_so_many_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_GRACE_SECONDS", 3600.0)  # the moment is not over before the end
    directory = tmp_path / "config"
    ours = make(directory, "dir")
    ours.replace({"a": b"first"})
    first = directory / (directory / "..data").readlink()
    os.utime(first, (0, 0))  # it is old, but was replaced only now
    ours.replace({"a": b"second"})
    assert (first / "a").read_bytes() == b"first"
    for number in range(20):
        ours.replace({"a": b"%d" % number})
    assert len(hidden(directory)) == 9
    for name in hidden(directory):
        os.utime(directory / name, (0, 0))
    assert not ours.replace({"a": b"19"})
    assert hidden(directory) == {str((directory / "..data").readlink())}


def test_half_a_change_is_completed_after_a_crash(tmp_path: Path) -> None:
    directory = tmp_path / "config"
    ours = make(directory, "dir")
    ours.replace({"a": b"1", "b": b"2"})
    ours.release()
    (directory / "b").unlink()  # as if it had not been linked yet
    (directory / "gone").symlink_to("..data/gone")  # as if it had not been unlinked yet
    (directory / "..data_tmp").symlink_to("..nowhere")
    (directory / "..2020_01_01_00_00_00.left").mkdir()
    os.utime(directory / "..2020_01_01_00_00_00.left", (0, 0))
    restarted = make(directory, "dir")
    assert restarted.replace({"a": b"1", "b": b"2"})
    assert shown(directory) == {"a": "1", "b": "2"}
    assert not os.path.lexists(directory / "gone")
    assert "..2020_01_01_00_00_00.left" not in hidden(directory)


def test_thousands_of_leaves_are_as_many_files_and_one_change_writes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "config"
    ours = make(directory, "dir")
    leaves = {f"service-{number}.ttl": b"%d" % number for number in range(5000)}
    ours.replace(leaves)
    assert len(shown(directory)) == 5000
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    ours.replace({**leaves, "service-7.ttl": b"changed"})
    assert len(synced) == 3  # the file, its directory, and the one with the link
    assert (directory / "service-7.ttl").read_bytes() == b"changed"


# --- never torn -----------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["file", "dir"])
def test_a_reader_never_sees_a_torn_or_missing_file(format_: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    ours = make(path, "dir" if format_ == "dir" else "json")

    def replace(number: int) -> None:
        if format_ == "dir":
            said = b"%d" % number
            ours.replace({"a.number": said, "b.number": said})
        else:
            document = {"number": number, "filling": "x" * number}
            ours.replace(json.dumps(document).encode())

    replace(0)
    reader = subprocess.Popen(
        [sys.executable, READER, format_, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"reading\n"
        for number in range(1, FLIPS + 1):
            replace(number)
        output, _ = reader.communicate(b"\n", timeout=120)
    counts = json.loads(output)
    assert (counts["torn"], counts["missing"], counts["backwards"]) == (0, 0, 0)
    assert counts["versions"] > 10, "the reader hardly saw any change"


# --- whose files ----------------------------------------------------------------------------------


def test_a_file_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "nginx.conf"
    file.write_text("precious")
    with pytest.raises(
        NotOurs, match=r"nginx\.conf is there already and is not ours; move it away"
    ):
        make(file).replace(b"new")
    assert file.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["nginx.conf"]


def test_a_file_that_is_given_away_by_hand_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "nginx.conf"
    file.write_text("default")
    (tmp_path / ".nginx.conf.gossipswarm").touch()
    assert make(file).replace(b"new")
    assert file.read_bytes() == b"new"


def test_a_file_that_says_the_same_already_is_taken_over(tmp_path: Path) -> None:
    file = tmp_path / "app.json"
    file.write_text("same")
    file.chmod(0o644)
    ours = make(file)
    assert not ours.replace(b"same")
    assert ours.replace(b"other")


@pytest.mark.parametrize("kind", ["link", "directory"])
def test_what_is_no_file_is_not_replaced(kind: str, tmp_path: Path) -> None:
    path, precious = tmp_path / "app.json", tmp_path / "precious"
    precious.write_text("precious")
    if kind == "link":
        path.symlink_to(precious)
    else:
        path.mkdir()
    with pytest.raises(NotOurs, match=f"is a {kind}, and not a file of ours"):
        make(path).replace(b"new")
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("format_", ["json", "dir"])
def test_two_projectors_of_one_path_do_not_take_it_from_each_other(
    format_: str, tmp_path: Path
) -> None:
    path = tmp_path / "config"
    content: Any = {"a": b"1"} if format_ == "dir" else b"1"
    first, second = make(path, format_), make(path, format_, prefix="other")
    first.replace(content)
    with pytest.raises(NotOurs, match="is being projected to by agent one"):
        second.replace(content)
    first.release()
    assert not second.replace(content)


@pytest.mark.parametrize("format_", ["json", "dir"])
def test_files_of_another_swarm_are_not_replaced(format_: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    content: Any = {"a": b"1"} if format_ == "dir" else b"1"
    theirs = make(path, format_, swarm="blue")
    theirs.replace(content)
    theirs.release()
    with pytest.raises(NotOurs, match="belongs to swarm blue, prefix app; remove it and"):
        make(path, format_, swarm="green").replace(content)


def test_other_files_of_a_directory_stay_and_are_not_replaced(tmp_path: Path) -> None:
    directory = tmp_path / "config"
    directory.mkdir()
    (directory / "mine").write_text("precious")
    ours = make(directory, "dir")
    assert ours.replace({"a": b"1"})
    assert shown(directory) == {"mine": "precious", "a": "1"}
    with pytest.raises(NotOurs, match="mine is there already and is not ours"):
        ours.replace({"a": b"2", "mine": b"theirs"})
    assert shown(directory) == {"mine": "precious", "a": "1"}


def test_the_volume_of_a_configmap_is_not_taken_over(tmp_path: Path) -> None:
    version = tmp_path / "..2026_01_01_00_00_00.1"
    version.mkdir()
    (tmp_path / "..data").symlink_to(version.name)
    with pytest.raises(NotOurs, match="is there already and is not ours"):
        make(tmp_path, "dir").replace({"a": b"1"})


# --- disks that refuse ----------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["json", "dir"])
def test_a_full_disk_leaves_the_version_before_and_no_litter(format_: str, tmp_path: Path) -> None:
    def content(size: int) -> Any:
        return {"a": b"x" * size, "b": b"1"} if format_ == "dir" else b"x" * size

    with small_disk(tmp_path / "disk", 64) as disk:
        path = disk / "config"
        ours = make(path, format_)
        ours.replace(content(1000))
        filling = disk / "filling"
        filling.write_bytes(b"x" * 40_000)
        for _ in range(2):
            with pytest.raises(OSError) as refused:
                ours.replace(content(30_000))
            assert refused.value.errno == errno.ENOSPC
        there = (path / "a" if format_ == "dir" else path).read_bytes()
        assert there == b"x" * 1000
        assert not list(disk.rglob("*gossipswarm-new"))
        assert format_ == "json" or len(hidden(path)) == 1
        filling.unlink()
        assert ours.replace(content(30_000))
        ours.release()


def test_a_read_only_disk_says_so(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        mount("-o", "remount,ro", disk)
        with pytest.raises(OSError) as refused:
            make(disk / "app.json").replace(b"1")
        assert refused.value.errno == errno.EROFS


def test_a_file_in_the_place_of_the_directory_says_so(tmp_path: Path) -> None:
    (tmp_path / "config").touch()
    for path, format_, content in (
        (tmp_path / "config" / "app.json", "json", b"1"),
        (tmp_path / "config", "dir", {"a": b"1"}),
    ):
        with pytest.raises(NotADirectoryError):
            make(path, format_).replace(content)


def test_a_missing_directory_of_a_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        make(tmp_path / "nowhere" / "app.json").replace(b"1")
