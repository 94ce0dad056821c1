"""The swarm's key is changed while regions are cut off from each other: it waits where that is needed, and nobody is locked out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from e2e.cluster import Cluster, Failed, until
from e2e.cut import Cut
from e2e.swarm import REGIONS, Swarm, bound
from gossipswarm_operator.keyring import read_ring

WEST: Final = ["us-west", "eu-central"]
PRIMARY: Final = "gossipswarm.io/primary"
SAME_PRIMARY: Final = (
    f"object.metadata.annotations['{PRIMARY}'] == oldObject.metadata.annotations['{PRIMARY}']"
)
NONE_LESS: Final = "size(object.data) >= size(oldObject.data)"
METADATA_NAME: Final = "kubernetes.io/metadata.name"
KEPT: Final = "the story keeps the keyring as it is"
WAITS: Final = "waits until the partition is over"


@pytest.fixture
def swarm(swarm: Swarm) -> Swarm:
    """Six agents in three regions."""
    swarm.apply(regions=bound(), replicasPerRegion=2)
    swarm.settled(6)
    return swarm


def test_a_rotation_that_is_ordered_during_a_cut_begins_when_it_is_over(swarm: Swarm) -> None:
    (old,) = ring(swarm)
    cut = Cut(swarm)
    cut.make(["us-east"], WEST)
    cut.wait("Enforced")
    cut.wait("Detected")

    rotate(swarm)
    said(swarm, WAITS)
    write_on_both_sides(swarm, "during")
    looked_over(swarm)
    assert ring(swarm) == (old,)
    assert held(swarm) == {(old,)}

    cut.delete()
    swarm.whole(6)
    agree_with_both_sides(swarm, "during")
    rotated(swarm, old)
    nobody_was_refused(swarm)


def test_a_cut_in_the_midst_of_a_rotation_holds_it_at_each_gate(
    cluster: Cluster, swarm: Swarm
) -> None:
    (old,) = ring(swarm)
    cut = Cut(swarm)
    with keyring_kept(cluster, swarm, SAME_PRIMARY):
        rotate(swarm)
        until("the API server has refused the next step", lambda: refused(swarm), 60)
        cut.make(["us-east"], WEST)
        cut.wait("Enforced")
    new = next(key for key in ring(swarm) if key != old)
    stands(swarm, (old, new))
    write_on_both_sides(swarm, "installed")
    born_again(cluster, swarm, "us-east-1")
    stands(swarm, (old, new))

    with keyring_kept(cluster, swarm, NONE_LESS):
        cut.delete()
        swarm.whole(6)
        until("the API server has refused the last step", lambda: refused(swarm), 60)
        cut.make(["us-east"], WEST)
        cut.wait("Enforced")
    stands(swarm, (new, old))
    write_on_both_sides(swarm, "used")
    born_again(cluster, swarm, "us-west-1")
    stands(swarm, (new, old))

    cut.delete()
    swarm.whole(6)
    agree_with_both_sides(swarm, "installed")
    agree_with_both_sides(swarm, "used")
    rotated(swarm, old)
    nobody_was_refused(swarm)


# --- what is done -------------------------------------------------------------------------------------------------------


def rotate(swarm: Swarm) -> None:
    """Order the first change of the key."""
    swarm.patch(encryption={"rotation": {"generation": 1}})


def write_on_both_sides(swarm: Swarm, key: str) -> None:
    """Each side writes, and all of it hears what was written."""
    for region, near in (("us-east", "us-east-1"), ("us-west", "eu-central-1")):
        swarm.write(f"{key}.{region}", "there", at=f"{region}-0")
        swarm.arrives(f"{key}.{region}", "there", at=near)


def born_again(cluster: Cluster, swarm: Swarm, agent: str) -> None:
    """An agent loses its pod and its disk, and knows what its side knows once it is back."""
    pod = swarm.pod(agent)
    before = swarm.lives()[pod]
    for each in (f"pvc/data-{pod}", f"pod/{pod}"):
        cluster.kubectl("-n", swarm.namespace, "delete", each, "--wait=false")
    until("a new pod is there", lambda: swarm.lives().get(pod, before) != before or None, 60)
    cluster.wait(swarm.namespace, f"pod/{pod}", "Ready", 120)
    swarm.write("born", agent, at=agent)
    swarm.arrives("born", agent, at=agent.replace("-1", "-0"))


def looked_over(swarm: Swarm) -> None:
    """Wait until the operator has looked twice at what is to be done, and so done all that it found the first time."""
    kubectl, namespace = swarm.cluster.kubectl, swarm.namespace
    for region in ("us-east", "us-west"):
        name = f"poddisruptionbudget/{swarm.pod(region)}"
        kubectl("-n", namespace, "delete", name, "--wait")
        kubectl("-n", namespace, "wait", "--for=create", name, "--timeout=60s")


@contextmanager
def keyring_kept(cluster: Cluster, swarm: Swarm, rule: str) -> Iterator[None]:
    """The API server admits changes of the swarm's keyring only where this CEL expression holds."""
    name = f"{swarm.namespace}-keyring"
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {METADATA_NAME: swarm.namespace}},
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["UPDATE"],
                        "resources": ["secrets"],
                        "resourceNames": [keyring(swarm)],
                    }
                ],
            },
            "validations": [{"expression": rule, "message": KEPT}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    cluster.apply(swarm.namespace, policy, binding)
    try:
        until("the API server keeps the keyring", lambda: _kept(swarm), 30)
        yield
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            cluster.kubectl("delete", kind, name)


def _kept(swarm: Swarm) -> bool | None:
    """Whether a change is refused that no rule admits."""
    patch = [
        {"op": "replace", "path": "/metadata/annotations", "value": {PRIMARY: "none"}},
        {"op": "replace", "path": "/data", "value": {"none": ""}},
    ]
    try:
        swarm.cluster.kubectl(
            "-n", swarm.namespace, "patch", f"secret/{keyring(swarm)}", "--type=json",
            f"--patch={json.dumps(patch)}", "--dry-run=server",
        )  # fmt: skip
    except Failed as failed:
        return KEPT in str(failed) or None
    return None


# --- what is seen -------------------------------------------------------------------------------------------------------


def keyring(swarm: Swarm) -> str:
    """Name of the Secret that holds the keys."""
    return f"{swarm.name}-keyring"


def ring(swarm: Swarm) -> tuple[str, ...]:
    """Ids of the keys that the Secret holds, the one that seals first."""
    return read_ring(swarm.cluster.get(swarm.namespace, "secret", keyring(swarm))).ids


def held(swarm: Swarm) -> set[tuple[str, ...]]:
    """Ids of the keys that agents hold, the one that seals first: one entry if all six hold the same."""
    agents = swarm.agents()
    assert len(agents) == 6
    return {tuple(agent.keyring()) for agent in agents}


def stands(swarm: Swarm, keys: tuple[str, ...]) -> None:
    """The rotation waits for the end of the cut, with these keys in the Secret and at every agent, however often it is looked at."""
    said(swarm, WAITS)
    looked_over(swarm)
    assert ring(swarm) == keys
    assert held(swarm) == {keys}


def said(swarm: Swarm, what: str) -> None:
    """Wait until the swarm says so of its keys."""

    def told() -> bool | None:
        return what in swarm.condition("KeyringInSync").get("message", "") or None

    until(f"KeyringInSync says {what!r}", told, 60)


def refused(swarm: Swarm) -> bool | None:
    """Whether the API server has refused a change to the operator, and it says so."""
    return KEPT in swarm.condition("Progressing").get("message", "") or None


def agree_with_both_sides(swarm: Swarm, key: str) -> None:
    """Wait until everybody has what each side wrote."""
    swarm.agree(key, {"us-east": "there", "us-west": "there"}, agents=6)


def rotated(swarm: Swarm, old: str) -> None:
    """Wait until every agent has one key, which is another than the old one."""
    swarm.cluster.wait(swarm.namespace, f"gossipswarm/{swarm.name}", "KeyringInSync", 120)
    assert swarm.get()["status"]["keyring"]["generation"] == 1
    (new,) = ring(swarm)
    assert new != old
    assert held(swarm) == {(new,)}
    for number, region in enumerate(REGIONS):
        swarm.write("after", number, at=f"{region}-1")
        swarm.agree("after", number, agents=6)
    swarm.settled(6)


def nobody_was_refused(swarm: Swarm) -> None:
    """No agent has got anything that was sealed with a key it does not hold."""
    refused = swarm.counted("dropped_packets", reason="key")
    assert refused == dict.fromkeys(refused, 0)
    swarm.whole(6)
