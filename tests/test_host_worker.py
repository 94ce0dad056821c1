"""A worker process, driven over its control socket as a supervisor drives it."""

from __future__ import annotations

import base64
import itertools
import json
import logging
import socket
import subprocess
import sys

import pytest

from gossipswarm_agent.core.effects import Notify
from gossipswarm_agent.host import cutwatch
from gossipswarm_agent.host.cutwatch import CutWatch
from gossipswarm_agent.host.logs import JsonLines
from gossipswarm_agent.runtime.drops import DropList
from gossipswarm_client.sync import Client
from local_swarms import eventually

ANSWER_SECONDS = 120.0


class Driven:
    """A worker process and the supervisor's end of its socket."""

    def __init__(self, directory):
        self.directory = directory
        ours, theirs = socket.socketpair()
        self.log = directory / "worker.log"
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gossipswarm_agent.host", "--name", "worker-1"),
                *("--control-fd", str(theirs.fileno()), "--log", str(self.log)),
            ],
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        ours.settimeout(ANSWER_SECONDS)
        self.control = ours
        self._lines = ours.makefile("rb")
        self._ids = itertools.count(1)

    def send(self, **order):
        number = next(self._ids)
        self.control.sendall(json.dumps({"id": number, **order}).encode() + b"\n")
        return number

    def answer(self):
        return json.loads(self._lines.readline())

    def __call__(self, op, **order):
        number = self.send(op=op, **order)
        answer = self.answer()
        assert answer["id"] == number
        assert "error" not in answer, answer
        return answer["result"]

    def refusal(self, op, **order):
        self.send(op=op, **order)
        return self.answer()["error"]

    def configure(self, **more):
        return self(
            "configure",
            **{
                "swarm": "demo-1",
                "host": "127.0.0.1",
                "keys": [base64.b64encode(bytes(32)).decode()],
                "read_token": "r",
                "write_token": "w",
                "settings": {},
                "agents_dir": str(self.directory / "agents"),
                "hooks": None,
                "declared": {},
                **more,
            },
        )

    def start(self, name, **more):
        return self("start", **self.start_order(name, **more))

    @staticmethod
    def start_order(name, **more):
        return {
            "name": name,
            "region": "us-east",
            "labels": {"host": "worker-1"},
            "gossip_port": 0,
            "api_port": 0,
            "seeds": [],
            "drops": {},
            "join_seconds": 0,
            **more,
        }

    def close(self):
        self._lines.close()
        self.control.close()

    def exit_code(self):
        return self.process.wait(ANSWER_SECONDS)


@pytest.fixture
def worker(tmp_path):
    driven = Driven(tmp_path)
    yield driven
    driven.close()
    driven.exit_code()


def http(port, token="w"):
    return Client(f"http://127.0.0.1:{port}", token=token, timeout=120)


def test_a_worker_hosts_agents_with_stores_and_ports_of_their_own(worker):
    worker.configure()
    one = worker.start("one")
    seed = ["127.0.0.1", one["gossip_port"], "us-east"]
    two = worker.start("two", seeds=[seed], join_seconds=100)
    assert two["joined"]
    assert len({*one.values(), *two.values()} - {True, False}) == 4
    with http(one["api_port"]) as first, http(two["api_port"]) as second:
        eventually(lambda: first.agent().members_alive == 2)
        first.set("key", 1, wait=True, threshold=1.0)
        assert second.get("key").value == 1
        assert (first.agent().name, second.agent().name) == ("one", "two")
    eventually(lambda: len(set(worker("hashes")["hashes"].values())) == 1)
    # The swarm's record of how the write spread comes a second later.
    eventually(lambda: len({agent["leaves"] for agent in worker("stats")["agents"]}) == 1)
    stats = worker("stats")["agents"]
    assert {agent["name"]: agent["members_alive"] for agent in stats} == {"one": 1, "two": 1}
    assert all(agent["leaves"] >= 1 for agent in stats)
    assert worker("usage")["agents_running"] == 2


def test_an_agent_started_twice_is_one(worker):
    worker.configure()
    assert worker.start("one") == worker.start("one")
    assert worker("usage")["agents_running"] == 1


def test_a_stopped_agent_keeps_its_data_and_its_ports_if_they_are_free(worker):
    worker.configure()
    before = worker.start("one")
    with http(before["api_port"]) as client:
        client.set("key", 1)
    worker("stop", name="one", leave=True, heirs=[])
    ports = {name: before[name] for name in ("gossip_port", "api_port")}
    assert worker.start("one", **ports) == before
    with http(before["api_port"]) as client:
        assert client.get("key").value == 1


def test_ports_in_use_are_replaced(worker):
    worker.configure()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        agent = worker.start("one", gossip_port=port, api_port=port)
    assert port not in (agent["gossip_port"], agent["api_port"])


def test_orders_are_carried_out_side_by_side(worker):
    worker.configure()
    nowhere = ["127.0.0.1", 9, "us-west"]
    worker.send(op="start", **worker.start_order("one", seeds=[nowhere], join_seconds=3600))
    fast = worker.send(op="usage")
    assert worker.answer()["id"] == fast


def test_what_a_worker_cannot_do_is_refused_with_a_reason(worker):
    assert worker.refusal("start", **worker.start_order("one"))["reason"] == "not-configured"
    error = worker.refusal("settings", changes={"fanuot": 3})
    assert error["reason"] == "not-configured"
    worker.configure()
    error = worker.refusal("settings", changes={"fanuot": 3})
    assert (error["reason"], error["exit"]) == ("invalid-setting", 2)
    assert "did you mean fanout?" in error["message"]
    assert worker.refusal("nonsense")["reason"] == "invalid-order"
    assert worker("settings", changes={"fanout": 5})["settings"]["fanout"] == 5
    assert worker("settings", changes={})["settings"]["fanout"] == 3


def test_a_data_directory_in_use_is_refused(worker, tmp_path):
    worker.configure()
    worker.start("one")
    other = Driven(tmp_path)
    other.configure()
    assert other.refusal("start", **other.start_order("one"))["reason"] == "journal-locked"
    other.close()
    other.exit_code()


def test_a_change_is_written_by_the_agent_named_if_it_is_here(worker):
    worker.configure()
    worker.start("one")
    assert worker("change", agent="two", changes={"fanout": 5}) == {"applied": False}
    assert worker("change", agent="one", changes={"fanout": 5}) == {"applied": True}
    assert worker("settings", changes={})["before"]["fanout"] == 5


def test_the_end_of_the_socket_is_the_end_of_the_worker(worker):
    worker.configure()
    agent = worker.start("one")
    worker.close()
    assert worker.exit_code() == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", agent["api_port"]))


def test_a_worker_ends_in_order_on_sigterm(worker):
    worker.configure()
    worker.start("one")
    worker.process.terminate()
    assert worker.exit_code() == 0
    assert "is done" in worker.log.read_text()


def test_a_worker_whose_event_loop_hangs_ends_with_its_supervisor():
    ours, theirs = socket.socketpair()
    hang = (
        "import socket, sys\n"
        "from gossipswarm_agent.host import control\n"
        "control.ORPHAN_SECONDS = 0.1\n"
        "control.die_with_supervisor(socket.socket(fileno=int(sys.argv[1])))\n"
        "print('hanging', flush=True)\n"
        "while True: pass\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", hang, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdout=subprocess.PIPE,
    )
    theirs.close()
    with process.stdout as output:
        assert output.readline() == b"hanging\n"
        assert process.poll() is None
        ours.close()
        assert process.wait(ANSWER_SECONDS) == 70


def test_each_line_of_the_log_names_the_agent_it_is_about(worker):
    worker.configure()
    worker.start("one")
    lines = [json.loads(line) for line in worker.log.read_text().splitlines()]
    started = next(line for line in lines if line["message"] == "agent started")
    assert (started["agent"], started["level"]) == ("one", "info")


def test_an_error_is_logged_with_its_traceback_in_one_line():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.getLogger("x").makeRecord(
            "x", logging.ERROR, "f", 1, "failed: %s", ("why",), sys.exc_info(), extra={"agent": "a"}
        )
    line = JsonLines().format(record)
    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["message"], fields["agent"]) == ("failed: why", "a")
    assert fields["error"].startswith("Traceback")


# --- when a cut is noticed ------------------------------------------------------------------------

EAST = DropList(frozenset({"us-east"}), frozenset({"us-east"}))


class Clock:
    """The wall clock that cuts are timed by, in milliseconds."""

    now = 1_000_000


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(cutwatch, "_now_ms", lambda: made.now)
    return made


LINK = {"a": "us-east", "b": "us-west"}


def test_detection_counts_from_the_first_dropped_packet(clock):
    watch = CutWatch()
    watch.notice(Notify("region-cut", LINK))
    watch.notice(Notify("region-healed", LINK))
    assert watch.detected_ms is None
    watch.cut(EAST)
    assert (watch.detected_ms, watch.healed_ms) == (None, None)
    clock.now += 320
    watch.notice(Notify("region-cut", LINK))
    assert watch.detected_ms == 320
    clock.now += 50
    watch.notice(Notify("partition-detected", {}))
    assert watch.detected_ms == 320


def test_a_link_that_is_held_for_cut_already_is_not_waited_for():
    watch = CutWatch()
    watch.notice(Notify("region-cut", LINK))
    watch.cut(EAST)
    assert watch.detected_ms == 0
    watch.notice(Notify("region-healed", LINK))
    assert watch.detected_ms is None
    watch.notice(Notify("region-cut", LINK))
    assert watch.detected_ms is not None


def test_healing_counts_from_the_end_of_the_cut(clock):
    watch = CutWatch()
    watch.cut(EAST)
    watch.notice(Notify("region-healed", {}))
    assert watch.healed_ms is None
    clock.now += 1000
    watch.cut(DropList())
    clock.now += 70
    watch.notice(Notify("partition-healed", {}))
    assert watch.healed_ms == 70


def test_a_cut_that_ran_out_by_itself_ended_at_its_time(clock):
    watch = CutWatch()
    watch.cut(DropList(EAST.inbound, EAST.outbound, clock.now + 1000))
    clock.now += 6000
    watch.notice(Notify("partition-healed", {}))
    assert watch.healed_ms == 5000


def test_a_new_cut_forgets_what_was_noticed_of_the_last():
    watch = CutWatch()
    watch.cut(EAST)
    watch.notice(Notify("region-cut", LINK))
    watch.cut(DropList())
    watch.notice(Notify("region-healed", LINK))
    assert watch.healed_ms is not None
    watch.cut(EAST)
    assert (watch.detected_ms, watch.healed_ms) == (None, None)
