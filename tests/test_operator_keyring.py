"""Key rotation: a state machine over what the Secret holds and what agents report."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossipswarm_agent.runtime.keyring import key_id
from gossipswarm_operator import keyring
from gossipswarm_operator.actions import InstallKeys, RemoveKeys, UseKey
from gossipswarm_operator.keyring import Key, Ring, decide
from operator_world import OperatorStopped, keys, ready_world

OLD, NEW, OTHER = (key for _, key in zip(range(3), keys(), strict=False))


def secret(**data: str) -> dict:
    encoded = {name: base64.b64encode(text.encode()).decode() for name, text in data.items()}
    return {"metadata": {}, "data": encoded}


def steps(world) -> list[str]:
    told = (InstallKeys, UseKey, RemoveKeys)
    return [type(action).__name__ for action in world.actions if isinstance(action, told)]


def test_a_rotation_installs_everywhere_then_uses_everywhere_then_removes():
    world = ready_world()
    old = world.observe().ring.primary
    world.change(encryption={"rotation": {"generation": 1}})
    seen = []

    def note() -> None:
        step = world.source["status"]["keyring"]["step"]
        if seen[-1:] != [step]:
            seen.append(step)

    world.settle(check=note)
    assert steps(world) == ["InstallKeys"] * 6 + ["UseKey"] * 6 + ["RemoveKeys"] * 6
    assert seen[-4:] == ["Install", "Use", "Remove", "Idle"]
    ring = world.observe().ring
    assert ring.primary != old
    assert ring.ids == (ring.primary,)
    assert ring.generation == 1


def test_nothing_is_rotated_until_it_is_asked_for():
    world = ready_world(encryption={"rotation": {"generation": 3}})
    assert world.observe().ring.generation == 3
    assert len(world.observe().ring.keys) == 1
    assert world.plan().settled


def test_a_rotation_waits_for_an_agent_that_does_not_answer():
    world = ready_world()
    world.agents["demo-us-east-1"].broken = True
    world.change(encryption={"rotation": {"generation": 1}})
    for _ in range(5):
        made = world.reconcile()
    assert steps(world) == []
    assert any("demo-us-east-1" in wait.message for wait in made.waits)
    world.agents["demo-us-east-1"].broken = False
    world.settle()
    assert world.observe().ring.generation == 1


@pytest.mark.parametrize("after", range(1, 20))
def test_a_rotation_waits_during_a_partition_wherever_it_is(after):
    world = ready_world()
    world.change(encryption={"rotation": {"generation": 1}})
    world.stop_after = after
    with pytest.raises(OperatorStopped):
        world.settle()
    world.stop_after = None
    world.groups = [["us-east"], ["eu-west"]]
    for _ in range(4):
        world.reconcile()
    before = world.observe().ring
    for _ in range(4):
        world.reconcile()
    assert world.observe().ring == before, "the Secret must not change while regions are cut off"
    world.groups = None
    world.settle()
    assert world.observe().ring.generation == 1
    assert len(world.observe().ring.keys) == 1


def test_two_rotations_follow_one_another():
    world = ready_world()
    world.change(encryption={"rotation": {"generation": 1}})
    world.reconcile()
    world.reconcile()
    world.change(encryption={"rotation": {"generation": 2}})
    world.settle()
    assert world.observe().ring.generation == 2
    assert len(world.observe().ring.keys) == 1


def test_an_agent_that_restarts_with_what_the_secret_held_before_is_put_right():
    world = ready_world()
    old = world.observe().ring.primary
    world.change(encryption={"rotation": {"generation": 1}})
    world.settle()
    new = world.observe().ring.primary
    # The mounted Secret is a minute behind, at most: two steps back at worst.
    world.agents["demo-us-east-0"].keys = [old, new]
    world.settle()
    assert world.agents["demo-us-east-0"].keys == [new]


def test_a_deleted_keyring_is_replaced_at_every_agent_before_any_restarts_with_it():
    world = ready_world()
    old = world.observe().ring.primary
    del world.objects["Secret", "demo-keyring"]
    world.settle()
    ring = world.observe().ring
    assert ring.primary != old
    assert {tuple(agent.keys) for agent in world.agents.values()} == {(ring.primary,)}


def test_something_else_among_the_keys_is_cleared_away():
    world = ready_world()
    data = world.objects["Secret", "demo-keyring"]["data"]
    data["note.txt"] = base64.b64encode(b"hello").decode()
    world.settle()
    assert "note.txt" not in world.objects["Secret", "demo-keyring"]["data"]


def test_keys_of_somebodys_own_secret_are_followed_and_never_written():
    ring = Ring((NEW, OTHER))
    held = {"a": (OLD.id,), "b": (OLD.id,)}
    first = decide(ring, 5, held, held, fresh=None, partitioned=False)
    assert first.install == {"a": (NEW, OTHER), "b": (NEW, OTHER)}
    held = dict.fromkeys(held, (OLD.id, NEW.id, OTHER.id))
    second = decide(ring, 5, held, held, fresh=None, partitioned=False)
    assert (second.use, second.ring) == (("a", "b"), ring)
    held = dict.fromkeys(held, (NEW.id, OLD.id, OTHER.id))
    third = decide(ring, 5, held, held, fresh=None, partitioned=False)
    assert third.remove == {"a": (OLD.id,), "b": (OLD.id,)}
    held = dict.fromkeys(held, (NEW.id, OTHER.id))
    assert decide(ring, 5, held, held, fresh=None, partitioned=False).in_sync


def test_a_missing_secret_of_somebodys_own_is_waited_for():
    decision = decide(None, 0, {"a": (OLD.id,)}, ["a"], fresh=None, partitioned=False)
    assert decision.ring is None
    assert decision.waiting == "the Secret with the keys is missing"


def test_the_key_to_seal_with_is_the_first_file():
    assert sorted(Ring((NEW, OLD)).data()) == [f"primary-{NEW.id}", f"secondary-{OLD.id}"]


def test_a_ring_survives_its_secret():
    ring = Ring((NEW, OLD), 4, OLD.id)
    found = {
        "metadata": {"annotations": ring.annotations()},
        "data": {name: base64.b64encode(text).decode() for name, text in ring.data().items()},
    }
    assert keyring.read_ring(found) == ring


@pytest.mark.parametrize(
    "data",
    [{}, {"key": "short"}, {"key": "!!!"}, {"key": OLD.material, "note": "hello"}],
)
def test_a_secret_without_keys_is_refused(data):
    with pytest.raises(keyring.InvalidKeyring):
        keyring.read_ring(secret(**data))


def test_key_ids_are_those_of_the_agent():
    assert OLD.id == key_id(base64.b64decode(OLD.material)).hex()


@settings(max_examples=300)
@given(st.data())
def test_nobody_is_ever_deaf_whatever_fails_on_the_way(data):
    """Agents miss orders, restart with any Secret of the last steps, the network parts: all can still hear all."""
    fresh = keys()
    ring = Ring((next(fresh),))
    names = ["a", "b", "c"]
    held: dict[str, list[str]] = {name: [ring.primary] for name in names}
    wanted = 0
    for _ in range(40):
        wanted += data.draw(st.booleans())
        cut = data.draw(st.booleans())
        silent = data.draw(st.sets(st.sampled_from(names)))
        reported = {name: tuple(held[name]) for name in names if name not in silent}
        decision = decide(ring, wanted, reported, names, fresh=next(fresh), partitioned=cut)
        assert decision.ring is not None
        ring = decision.ring
        for name, lacking in decision.install.items():
            if data.draw(st.booleans()):
                held[name] += [key.id for key in lacking]
        for name in decision.use:
            if data.draw(st.booleans()):
                held[name].sort(key=lambda held_id: held_id != ring.primary)
        for name, ids in decision.remove.items():
            if data.draw(st.booleans()):
                held[name] = [found for found in held[name] if found not in ids]
        restarted = data.draw(st.one_of(st.none(), st.sampled_from(names)))
        if restarted is not None:
            held[restarted] = list(ring.ids)
        for sender in held.values():
            for receiver in held.values():
                assert sender[0] in receiver


def test_a_key_is_named_by_its_hash():
    assert Key(base64.b64encode(bytes(32)).decode()).id == "66687aad"
