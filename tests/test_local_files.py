"""Files of local swarms: where they are, who holds them, and how they survive."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gossipctl.local import client, spec
from gossipctl.local.endpoint import (
    SOCKET_NAME,
    SOCKET_PATH_BYTES,
    private_directory,
    socket_directory,
)
from gossipctl.local.errors import LocalError
from gossipctl.local.layout import Layout, is_locked, take_lock
from gossipctl.local.logs import FILES_KEPT, LogReader
from gossipctl.local.requests import Spawn, decode
from gossipctl.local.spec import AgentRecord, SpecFile, SwarmSpec, timestamp


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("GOSSIPSWARM_SWARM", raising=False)
    return tmp_path / "state" / "gossipswarm"


def declare(root, name):
    (root / name).mkdir(parents=True)
    (root / name / "spec.json").write_text('{"regions": ["us-east"], "agents": {}}')


# --- selection ------------------------------------------------------------------------------------


def test_without_a_swarm_the_error_says_how_to_make_one():
    with pytest.raises(LocalError) as error:
        client.select()
    assert (error.value.reason, error.value.exit) == ("no-swarm", 2)
    assert "swarm init" in error.value.hint
    assert client.list_swarms() == []
    assert not client.has_swarm()


def test_the_only_swarm_is_selected(state):
    declare(state, "demo")
    assert client.select() == "demo"
    assert client.has_swarm()


def test_of_several_swarms_one_must_be_selected(state, monkeypatch):
    declare(state, "demo")
    declare(state, "other")
    with pytest.raises(LocalError, match="2 local swarms: demo, other"):
        client.select()
    client.make_current("other")
    assert client.select() == "other"
    monkeypatch.setenv("GOSSIPSWARM_SWARM", "demo")
    assert client.select() == "demo"
    assert client.select("other") == "other"
    assert [swarm["selected"] for swarm in client.list_swarms()] == [True, False]


def test_a_mistyped_swarm_gets_a_suggestion(state):
    declare(state, "demo")
    with pytest.raises(LocalError) as error:
        client.LocalSwarm("dmeo")
    assert error.value.hint == "did you mean demo?"


def test_a_swarm_that_is_down_says_how_to_start_it(state):
    declare(state, "demo")
    with pytest.raises(LocalError) as error:
        client.LocalSwarm("demo").request("status")
    assert (error.value.reason, error.value.exit) == ("swarm-down", 4)
    assert error.value.hint == "start it with: gossipctl swarm up demo"


def test_a_stale_socket_and_pid_file_mean_nothing(state):
    declare(state, "demo")
    (state / "demo" / "endpoint").write_text(
        json.dumps({"socket": str(state / "gone.sock"), "pid": os.getpid()})
    )
    swarm = client.LocalSwarm("demo")
    assert not swarm.running
    with pytest.raises(LocalError, match="not running"):
        swarm.request("status")


def test_importing_the_client_loads_nothing_slow():
    slow = "asyncio subprocess msgspec yaml rich aiohttp difflib shutil gossipswarm_agent"
    code = f"import sys, gossipctl.local.client; print(*set({slow.split()!r}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# --- locks and sockets ----------------------------------------------------------------------------


def test_a_lock_is_held_by_one_process_until_it_is_closed(tmp_path):
    path = tmp_path / "lock"
    held = take_lock(path)
    assert held is not None
    assert is_locked(path)
    assert take_lock(path) is None
    os.close(held)
    assert not is_locked(path)
    assert not is_locked(tmp_path / "absent")


def test_a_socket_is_in_the_runtime_directory_if_there_is_one(tmp_path, state):
    assert socket_directory(Layout("demo")) == tmp_path / "gossipswarm" / "demo"


def test_without_a_runtime_directory_the_socket_is_in_the_state_directory(monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/tmp")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert socket_directory(Layout("demo")) == Path("/tmp/gossipswarm/demo/run")


def test_a_path_too_long_for_a_socket_gets_a_short_one(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(deep))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    directory = socket_directory(Layout("demo"))
    assert len(os.fsencode(directory / SOCKET_NAME)) < SOCKET_PATH_BYTES
    assert socket_directory(Layout("other")) != directory


def test_the_sockets_directory_is_closed_to_others(tmp_path):
    (tmp_path / "run").mkdir(mode=0o777)
    private_directory(tmp_path / "run")
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["", "Demo", "a/b", "..", "-a", "a" * 64, "a b"])
def test_names_that_could_leave_the_directory_are_refused(name):
    with pytest.raises(LocalError) as error:
        Layout(name)
    assert (error.value.reason, error.value.exit) == ("invalid-swarm", 2)


# --- the spec -------------------------------------------------------------------------------------


def some_spec():
    return SwarmSpec(name="demo", uid="demo-1", regions=["us-east"], created_at=timestamp(0))


async def test_the_spec_comes_back_as_it_was_saved(tmp_path):
    book = SpecFile(tmp_path / "spec.json", some_spec())
    book.spec.agents["a"] = AgentRecord("a", "us-east", 0, capabilities=["x"], gossip_port=7)
    await book.save()
    assert SpecFile.load(book.path).spec == book.spec
    assert stat.S_IMODE(book.path.stat().st_mode) == 0o600


async def test_saves_at_once_share_a_write(tmp_path, monkeypatch):
    writes = []

    def counting(*arguments):
        writes.append(arguments)
        return original(*arguments)

    original = spec.replace_file
    monkeypatch.setattr(spec, "replace_file", counting)
    book = SpecFile(tmp_path / "spec.json", some_spec())
    await asyncio.gather(*(book.save() for _ in range(50)))
    assert len(writes) <= 2


async def test_every_save_holds_what_was_declared_before_it(tmp_path):
    book = SpecFile(tmp_path / "spec.json", some_spec())

    async def declare_and_save(number):
        await asyncio.sleep(number % 7 / 1000)
        book.spec.agents[str(number)] = AgentRecord(str(number), "us-east", 0)
        await book.save()
        assert str(number) in SpecFile.load(book.path).spec.agents

    await asyncio.gather(*map(declare_and_save, range(50)))


async def test_a_save_that_fails_leaves_the_file_and_is_told_to_everyone(tmp_path):
    book = SpecFile(tmp_path / "spec.json", some_spec())
    await book.save()
    before = book.path.read_bytes()
    book.path = tmp_path / "absent" / "spec.json"
    outcomes = await asyncio.gather(book.save(), book.save(), return_exceptions=True)
    assert all(isinstance(outcome, OSError) for outcome in outcomes)
    book.path = tmp_path / "spec.json"
    assert book.path.read_bytes() == before
    await book.save()


# --- requests -------------------------------------------------------------------------------------


def test_a_request_is_typed():
    request = decode(b'{"op": "spawn", "region": "us-east", "count": 5}')
    assert request == Spawn(region="us-east", count=5)


@pytest.mark.parametrize(
    ("line", "reason", "text"),
    [
        (b'{"op": "spwan"}', "unknown-operation", "no operation 'spwan'"),
        (b'{"op": "spawn", "count": 0}', "invalid-request", "spawn: count: expected `int` >= 1"),
        (b'{"op": "spawn", "size": 1}', "invalid-request", "unknown field `size`"),
        (b"[]", "unknown-operation", "no operation None"),
        (b"nonsense", "invalid-request", "not JSON"),
    ],
)
def test_a_malformed_request_is_refused_with_what_is_wrong(line, reason, text):
    with pytest.raises(LocalError) as error:
        decode(line)
    assert (error.value.reason, error.value.exit) == (reason, 2)
    assert text in error.value.message


# --- logs -----------------------------------------------------------------------------------------


def log_line(second, message, **more):
    return json.dumps({"time": f"2026-01-01T00:00:{second:02d}.000Z", "message": message, **more})


@pytest.fixture
def logs(tmp_path):
    (tmp_path / "supervisor.log").write_text(log_line(3, "resumed") + "\n")
    (tmp_path / "worker-1.log.1").write_text(log_line(1, "old", agent="a") + "\n")
    (tmp_path / "worker-1.log").write_text(
        log_line(2, "one", agent="a") + "\n" + log_line(4, "two", agent="b") + "\n"
    )
    assert FILES_KEPT >= 1
    return tmp_path


def messages(lines):
    return [line["message"] for line in lines]


def test_lines_of_all_processes_come_in_the_order_of_time(logs):
    reader = LogReader(logs, None, is_process=False)
    assert messages(reader.last(100)) == ["old", "one", "resumed", "two"]
    assert messages(LogReader(logs, None, is_process=False).last(2)) == ["resumed", "two"]


def test_an_agents_lines_are_found_wherever_they_are(logs):
    lines = LogReader(logs, "a", is_process=False).last(100)
    assert [(line["message"], line["source"]) for line in lines] == [
        ("old", "worker-1"),
        ("one", "worker-1"),
    ]


def test_following_gives_each_line_once_and_waits_for_whole_ones(logs):
    reader = LogReader(logs, "worker-1", is_process=True)
    assert messages(reader.last(1)) == ["two"]
    with (logs / "worker-1.log").open("a") as file:
        file.write(log_line(5, "three")[:10])
        file.flush()
        assert reader.new() == []
        file.write(log_line(5, "three")[10:] + "\n")
    assert messages(reader.new()) == ["three"]
    (logs / "worker-1.log").rename(logs / "worker-1.log.1")
    (logs / "worker-1.log").write_text(log_line(6, "four") + "\n")
    assert messages(reader.new()) == ["four"]
