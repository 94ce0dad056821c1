"""From objects of a cluster to the CLI's terms: refusals, rosters, edits, cuts, log lines, manifests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gossipctl.kubernetes import install, partitions, pod_logs
from gossipctl.kubernetes.portforward import Tunnel, frame
from gossipctl.kubernetes.refusal import Refusal
from gossipctl.kubernetes.roster import Roster, describe, in_order, status
from gossipctl.kubernetes.scaling import set_replicas


def refusal(status: int, **document: Any) -> Refusal:
    return Refusal.of(status, json.dumps({"kind": "Status", **document}).encode())


def test_a_missing_right_is_named_with_how_to_check_it():
    text = (
        'secrets "gossip-tokens" is forbidden: User "ann" cannot get resource "secrets" '
        'in API group "" in the namespace "prod"'
    )
    found = refusal(403, message=text, reason="Forbidden")
    assert found.message == "ann may not get secrets in namespace prod"
    assert "kubectl auth can-i get secrets -n prod" in (found.hint or "")
    text = 'User "ann" cannot get resource "pods/proxy" in API group "" in the namespace "prod"'
    assert "--subresource=proxy" in (refusal(403, message=text).hint or "")


def test_a_missing_kind_says_how_to_install_it():
    found = Refusal.of(404, b"404 page not found\n")
    assert (found.exit_code, found.is_absent) == (4, False)
    assert "gossipctl install" in (found.hint or "")
    absent = refusal(404, message='x "a" not found', details={"name": "a"})
    assert (absent.exit_code, absent.is_absent) == (2, True)


def test_an_invalid_field_is_named_without_the_object_around_it():
    cause = {
        "field": "spec.gossip.fanout",
        "message": "Invalid value: 99: spec.gossip.fanout in body should be less than or equal to 16",
    }
    found = refusal(422, message="...", details={"name": "a", "causes": [cause]})
    assert found.message == "spec.gossip.fanout: should be less than or equal to 16"


ROSTER = Roster(
    {
        "metadata": {"name": "gossip", "namespace": "n"},
        "spec": {
            "replicasPerRegion": 2,
            "regions": [{"name": "us-east"}, {"name": "us", "replicas": 11}],
        },
    }
)


def pod(name: str, region: str, *, ready: bool = True, **status: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {"name": name, "labels": {"gossipswarm.io/region": region}},
        "spec": {},
        "status": {"conditions": conditions, **status},
    }


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("gossip-us-east-1", ("gossip-us-east-1", "us-east", 1)),
        ("us-east-1", ("gossip-us-east-1", "us-east", 1)),
        ("gossip-us-10", ("gossip-us-10", "us", 10)),
        ("gossip-us-east-x", None),
        ("gossip-mars-1", None),
        ("other", None),
    ],
)
def test_agents_are_known_by_their_names_in_long_and_short(name, place):
    assert ROSTER.place(name) == place


def test_pods_are_in_the_order_of_regions_and_numbers():
    names = ["gossip-us-10", "gossip-us-2", "gossip-us-east-0"]
    found = in_order(ROSTER, [pod(name, "") for name in names])
    assert [each["metadata"]["name"] for each in found] == names[::-1]


def test_a_swarm_is_degraded_while_agents_are_missing():
    found = status(ROSTER, [pod("gossip-us-0", "us")], partitioned=False)
    assert found["status"] == "degraded"
    assert found["agent_counts"] == {
        "us-east": {"declared": 2, "active": 0},
        "us": {"declared": 11, "active": 1},
    }
    assert status(ROSTER, [], partitioned=False)["status"] == "initializing"
    assert status(ROSTER, [], partitioned=True)["status"] == "partitioned"


def test_what_keeps_a_pod_is_told():
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    found = describe(pod("a", "us", ready=False, containerStatuses=[waiting]))
    assert (found["status"], found["error"]) == ("failed", "ImagePullBackOff: no such image")


def test_an_edit_of_replicas_tests_what_it_was_planned_on():
    assert set_replicas(ROSTER, "us-east", 3) == [
        {"op": "test", "path": "/spec/regions/0", "value": {"name": "us-east"}},
        {"op": "test", "path": "/spec/replicasPerRegion", "value": 2},
        {"op": "add", "path": "/spec/regions/0/replicas", "value": 3},
    ]
    assert len(set_replicas(ROSTER, "us", 3)) == 2


def cut(*groups: list[str], transit: str = "Disabled") -> dict[str, Any]:
    return {"spec": {"groups": list(groups), "transit": transit}}


def test_regions_that_a_cut_does_not_name_are_one_more_side():
    regions = ["a", "b", "c", "d"]
    assert partitions.components([cut(["a"], ["b"])], regions) == [["a"], ["b"], ["c", "d"]]
    assert partitions.components([cut(["a"], ["b"], transit="Enabled")], regions) == [regions]
    two = [cut(["a", "b"]), cut(["a", "c"])]
    assert partitions.components(two, regions) == [["a"], ["b"], ["c"], ["d"]]


def test_log_lines_are_those_of_the_agent_or_the_kubelets():
    line = b'2026-01-01T00:00:00Z {"time": "t", "level": "error", "message": "m", "agent": "x"}'
    assert pod_logs.parse(line, "p") == {
        "time": "t", "level": "error", "message": "m", "agent": "p", "source": "p",
    }  # fmt: skip
    plain = pod_logs.parse(b"2026-01-01T00:00:00Z Killed", "p")
    assert (plain["time"], plain["message"]) == ("2026-01-01T00:00:00Z", "Killed")


class Wire:
    """The API server's side of a port-forward."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.sent = b""

    def sendall(self, data: bytes, /) -> None:
        self.sent += data

    def recv(self, limit: int, /) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def settimeout(self, seconds: float | None, /) -> None:
        pass

    def close(self) -> None:
        pass


def message(payload: bytes, opcode: int = 2) -> bytes:
    """As a server sends it: without a mask."""
    size = len(payload)
    length = bytes((size,)) if size < 126 else bytes((126,)) + size.to_bytes(2, "big")
    return bytes((0x80 | opcode,)) + length + payload


def test_a_port_forward_carries_bytes_in_pieces_of_any_size():
    port = (7601).to_bytes(2, "little")
    stream = message(b"\0" + port) + message(b"\1" + port) + message(b"\0" + b"x" * 300)
    stream += message(b"ping", 9) + message(b"\0end") + message(b"", 8)
    wire = Wire(*(stream[index : index + 7] for index in range(0, len(stream), 7)))
    tunnel = Tunnel(wire, b"")

    received = b""
    while data := tunnel.recv(100):
        received += data

    assert received == b"x" * 300 + b"end"
    assert wire.sent[:1] == bytes((0x80 | 10,))  # the pong


def test_a_port_forward_that_fails_says_why():
    port = (7601).to_bytes(2, "little")
    tunnel = Tunnel(Wire(message(b"\1" + port) + message(b"\1connection refused")), b"")
    with pytest.raises(ConnectionError, match="connection refused"):
        tunnel.recv(10)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_messages_to_the_server_are_masked(size):
    payload = b"ab" * (size // 2) + b"c" * (size % 2)
    data = frame(2, payload)
    head = 2 + (0 if size < 126 else 2 if size < 65_536 else 8)
    mask, masked = data[head : head + 4], data[head + 4 :]
    assert data[1] & 0x80
    assert bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked)) == payload


def test_the_manifests_are_adapted_as_text():
    text = install.manifests()
    changed = install.adapted(
        text,
        namespace="ops",
        swarm_namespaces=["prod", "staging"],
        operator_image="registry/operator:2",
        agent_image="registry/agent:2",
    )
    assert "gossipswarm-system" not in changed
    assert "image: registry/operator:2" in changed
    assert "value: registry/agent:2" in changed
    assert changed.count("\n  namespace: prod\n") == changed.count("\n  namespace: staging\n") == 1
    assert install.adapted(text) == text
    only = install.adapted(text, crds_only=True)
    assert only.count("kind: CustomResourceDefinition\n") == 3
    assert "kind: Deployment" not in only
