"""Watchers see what changes, in order, within bounds, and can go on where they were."""

from __future__ import annotations

import asyncio

import pytest

from gossipswarm_agent.core.errors import WriteRefused
from gossipswarm_agent.core.results import Change, Reset
from gossipswarm_agent.runtime import watch
from gossipswarm_agent.runtime.watch import Watcher, Watchers, covers


class Leaves:
    """Leaves with values, and the watchers of them."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.watchers = Watchers("run", self.change, self.below)

    def change(self, key: str) -> Change:
        return Change("", key, self.values.get(key), key not in self.values, 1, 0, "a")

    def below(self, prefix: str) -> list[str]:
        return [key for key in self.values if covers(prefix, key)]

    def put(self, *keys: str, value: object = 1) -> None:
        self.values.update(dict.fromkeys(keys, value))
        self.watchers.publish(keys)


@pytest.fixture
def leaves() -> Leaves:
    return Leaves()


async def taken(watcher: Watcher) -> list[Change | Reset]:
    """All that is there to take now."""
    found: list[Change | Reset] = []
    while True:
        upcoming = asyncio.ensure_future(anext(watcher))
        await asyncio.sleep(0)
        if not upcoming.done():
            upcoming.cancel()
            await asyncio.wait([upcoming])
            return found
        try:
            found.append(upcoming.result())
        except StopAsyncIteration:
            return found


def keys_of(events: list[Change | Reset]) -> list[str]:
    return ["reset" if isinstance(event, Reset) else event.key for event in events]


@pytest.mark.parametrize(
    ("prefix", "key", "covered"),
    [
        ("", "app.config", True),
        ("", "$swarm.config.fanout", False),
        ("$swarm", "$swarm.config.fanout", True),
        ("app", "app", True),
        ("app", "app.config", True),
        ("app", "apple", False),
        ("app.config", "app", False),
    ],
)
def test_a_prefix_covers_itself_and_what_is_below(prefix: str, key: str, covered: bool) -> None:
    assert covers(prefix, key) is covered


async def test_changes_below_the_prefix_come_in_order(leaves: Leaves) -> None:
    watcher = leaves.watchers.watch("app", None)
    leaves.put("app.b", "other", "app.a")
    leaves.put("app.c", value=2)
    events = await taken(watcher)
    assert keys_of(events) == ["app.b", "app.a", "app.c"]
    assert [event.id for event in events] == ["run-1", "run-3", "run-4"]


async def test_a_watcher_waits_for_the_next_change(leaves: Leaves) -> None:
    watcher = leaves.watchers.watch("app", None)
    upcoming = asyncio.ensure_future(anext(watcher))
    await asyncio.sleep(0)
    assert not upcoming.done()
    leaves.put("app.a")
    assert (await upcoming).key == "app.a"


async def test_a_key_that_changes_again_is_reported_once_with_its_latest_value(
    leaves: Leaves,
) -> None:
    watcher = leaves.watchers.watch("", None)
    leaves.put("a", "b", value=1)
    leaves.put("a", value=2)
    events = await taken(watcher)
    assert [(event.key, event.value, event.id) for event in events] == [
        ("b", 1, "run-2"),
        ("a", 2, "run-3"),
    ]


async def test_going_on_from_an_id_misses_nothing_and_repeats_nothing(leaves: Leaves) -> None:
    leaves.put("a", "b", "c", "d")
    watcher = leaves.watchers.watch("", "run-2")
    leaves.put("e")
    assert keys_of(await taken(watcher)) == ["c", "d", "e"]


@pytest.mark.parametrize("since", ["", "run-", "run-x", "run-99", "other-2", "run-reset", "run-²"])
async def test_an_id_of_no_use_starts_again_with_everything(leaves: Leaves, since: str) -> None:
    leaves.put("a", "b")
    events = await taken(leaves.watchers.watch("", since))
    assert keys_of(events) == ["reset", "a", "b"]


async def test_an_id_that_is_too_old_starts_again(leaves: Leaves, monkeypatch) -> None:
    leaves.put("a")
    leaves.put(*[f"k{number}" for number in range(watch.RECENT_KEPT)])
    assert keys_of(await taken(leaves.watchers.watch("a", "run-0"))) == ["reset", "a"]
    assert keys_of(await taken(leaves.watchers.watch("a", "run-1"))) == []


async def test_who_leaves_in_the_middle_of_everything_starts_again(leaves: Leaves) -> None:
    leaves.put("a", "b", "c")
    watcher = leaves.watchers.watch("", "")
    seen = [await anext(watcher) for _ in range(3)]
    assert keys_of(seen) == ["reset", "a", "b"]
    again = await taken(leaves.watchers.watch("", seen[-1].id))
    assert keys_of(again) == ["reset", "a", "b", "c"]
    assert keys_of(await taken(leaves.watchers.watch("", again[-1].id))) == []


async def test_a_change_during_everything_is_seen_too(leaves: Leaves) -> None:
    leaves.put("a", "b")
    watcher = leaves.watchers.watch("", "")
    await anext(watcher)
    leaves.put("a", "c", value=2)
    events = await taken(watcher)
    assert [(event.key, event.value) for event in events] == [("b", 1), ("a", 2), ("c", 2)]


async def test_a_large_state_is_no_backlog(leaves: Leaves, monkeypatch) -> None:
    monkeypatch.setattr(watch, "PENDING_LIMIT", 10)
    leaves.put(*[f"k{number}" for number in range(100)])
    watcher = leaves.watchers.watch("", "")
    leaves.put("new")
    assert len(await taken(watcher)) == 102


async def test_a_watcher_that_is_too_slow_is_dropped_and_may_go_on(
    leaves: Leaves, monkeypatch
) -> None:
    monkeypatch.setattr(watch, "PENDING_LIMIT", 10)
    watcher = leaves.watchers.watch("", None)
    leaves.put("first")
    first = await anext(watcher)
    leaves.put(*[f"k{number}" for number in range(11)])
    assert watcher.dropped
    assert [event async for event in watcher] == []
    assert leaves.watchers.dropped == 1
    assert len(leaves.watchers) == 0
    resumed = leaves.watchers.watch("k3", first.id)
    assert keys_of(await taken(resumed)) == ["k3"]


async def test_closing_ends_the_iteration(leaves: Leaves) -> None:
    watcher = leaves.watchers.watch("", None)
    upcoming = asyncio.ensure_future(anext(watcher))
    await asyncio.sleep(0)
    await leaves.watchers.close()
    with pytest.raises(StopAsyncIteration):
        await upcoming
    assert len(leaves.watchers) == 0


async def test_watchers_are_bounded(leaves: Leaves, monkeypatch) -> None:
    monkeypatch.setattr(watch, "WATCHERS_LIMIT", 1)
    first = leaves.watchers.watch("", None)
    with pytest.raises(WriteRefused) as refused:
        leaves.watchers.watch("", None)
    assert refused.value.status == 429
    await first.aclose()
    leaves.watchers.watch("", None)
