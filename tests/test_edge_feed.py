"""What an agent sends its edges makes them hold what it holds, whatever happens in between. No sockets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gossipswarm_agent.core.batch import Row
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.core.messages import Batch
from gossipswarm_agent.core.state import State
from gossipswarm_agent.core.versions import VersionVector
from gossipswarm_agent.edge import frames
from gossipswarm_agent.edge.feed import Feed, Prefixes, add, copied
from gossipswarm_agent.edge.replica import Replica, held_prefixes
from state_swarm import START_MS, at, exchange, mutations, new_state, put


def deliver(replica: Replica, piece: bytes) -> set[str]:
    """What an edge does with a frame; the leaves that it says have changed."""
    frame = frames.decode_from_agent(piece)
    match frame:
        case frames.Rows():
            return set(replica.take(frame))
        case frames.Begin():
            replica.begin()
        case frames.End():
            return set(replica.end(frame))
        case _:
            raise AssertionError(frame)
    return set()


class Stream:
    """One edge at one agent, as the agent sees it."""

    def __init__(self, replica: Replica, feed: Feed) -> None:
        replica.interrupted()
        self.replica = replica
        self.feed = feed
        self.vector: VersionVector | None = VersionVector()
        add(self.vector, replica.vector.ranges())
        self.needs_all = feed.must_begin_again(replica.vector.seen)
        self.sent: list[bytes] = []
        """All that was sent."""

    def pieces(self) -> Iterable[bytes]:
        """What the edge lacks, until it is level."""
        while self.vector is not None:
            lacking = self.feed.lacking(self.vector)
            if not lacking and not self.needs_all:
                self.vector = None
                return
            found = None if self.needs_all else self.feed.rows(lacking, self.replica.prefixes)
            if found is None:
                self.needs_all = False
                self.vector, whole = self.feed.everything(self.replica.prefixes)
                yield from whole
            else:
                yield from found
                add(self.vector, lacking)

    def bring_level(self, limit: int | None = None) -> None:
        """Deliver some of these pieces, or all."""
        for count, piece in enumerate(self.pieces()):
            if count == limit:
                return
            self.push(piece)

    def push(self, piece: bytes) -> None:
        self.sent.append(piece)
        deliver(self.replica, piece)


def send_round(feed: Feed, streams: list[Stream]) -> None:
    """What the agent does when something changed."""
    if feed.begin_again():
        for stream in streams:
            stream.needs_all = True
            stream.vector = stream.vector or copied(feed.sent)
    while new := feed.upcoming():
        level = [stream for stream in streams if stream.vector is None]
        groups: set[Prefixes] = {stream.replica.prefixes for stream in level}
        for prefixes, pieces in feed.round(new, groups):
            for stream in level:
                if stream.replica.prefixes == prefixes:
                    for piece in pieces:
                        stream.push(piece)
        feed.was_sent(new)


def send_beat(feed: Feed, streams: list[Stream]) -> None:
    """What the agent does a few times a second."""
    for prefixes, claims in feed.debts():
        for stream in streams:
            if stream.vector is None and stream.replica.prefixes == prefixes:
                stream.push(claims)


def level_edge(state: State, prefixes: Prefixes = None) -> Stream:
    stream = Stream(Replica(prefixes), Feed(state))
    stream.bring_level()
    return stream


def rows_sent(stream: Stream) -> int:
    found = map(frames.decode_from_agent, stream.sent)
    return sum(len(frame.batches) for frame in found if isinstance(frame, frames.Rows))


# --- examples -------------------------------------------------------------------------------------


def test_an_edge_holds_everything_once_it_is_level():
    state = new_state("a")
    put(state, "app.config", {"ttl": 1, "flags": {"x": True}})

    edge = level_edge(state).replica

    assert edge.read("app.config").value == {"ttl": 1, "flags": {"x": True}}
    assert edge.complete
    assert edge.state.state_hash == state.state_hash


def test_what_is_new_reaches_a_level_edge_in_one_frame_and_says_what_changed():
    state = new_state("a")
    stream = level_edge(state)
    put(state, "k", 1)
    new = stream.feed.upcoming()
    [(_, [piece])] = stream.feed.round(new, [None])

    assert deliver(stream.replica, piece) == {"k"}
    assert stream.replica.read("k").value == 1
    assert stream.replica.number == stream.feed.number == 1


def test_an_edge_resumes_with_nothing_but_what_it_lacks():
    state = new_state("a")
    for number in range(500):
        put(state, f"k{number}", number)
    replica = level_edge(state).replica
    put(state, "late", 1)

    resumed = Stream(replica, Feed(state))
    resumed.bring_level()

    [frame] = map(frames.decode_from_agent, resumed.sent)
    assert isinstance(frame, frames.Rows)
    [batch] = frame.batches
    assert b"late" in batch
    assert len(batch) < 200
    assert replica.wholes == 1


def test_another_agent_goes_on_from_the_same_vector():
    one, other = new_state("one"), new_state("other")
    put(one, "k", 1)
    exchange(one, other)
    replica = level_edge(one).replica
    put(other, "k", 2)

    Stream(replica, Feed(other)).bring_level()

    assert replica.read("k").value == 2
    assert replica.wholes == 1


def test_an_agent_that_is_behind_takes_nothing_back():
    ahead, behind = new_state("ahead"), new_state("behind")
    put(ahead, "k", 1)
    exchange(ahead, behind)
    put(ahead, "k", 2)
    replica = level_edge(ahead).replica

    for needs_all in (False, True):
        stream = Stream(replica, Feed(behind))
        stream.needs_all = needs_all
        stream.bring_level()

        assert replica.read("k").value == 2
        assert replica.vector.covers("ahead/1", 2)


def test_an_edge_that_was_away_while_a_deletion_was_collected_loses_what_was_deleted():
    state = new_state("a")
    put(state, "gone", 1)
    put(state, "kept", 1)
    replica = level_edge(state).replica
    state.write([Mutation("delete", "gone")])
    state.collect(state.vector.seen)
    assert state.tombstone_count == 0

    resumed = Stream(replica, Feed(state))
    resumed.bring_level()

    assert replica.read("gone") is None
    assert replica.read("kept").value == 1
    assert replica.wholes == 2


def test_half_a_whole_is_not_shown():
    state = new_state("a")
    for number in range(300):
        put(state, f"k{number:03}", "x" * 1000)
    stream = Stream(Replica(None), Feed(state))

    stream.bring_level(limit=3)

    assert stream.replica.list_keys("", 10) == []
    assert not stream.replica.complete
    again = Stream(stream.replica, Feed(state))
    again.bring_level()
    assert stream.replica.state.state_hash == state.state_hash


def test_an_edge_of_some_prefixes_holds_these_alone_and_knows_of_every_write():
    state = new_state("a")
    for key in (
        "app.config.x",
        "app.configuration",
        "app.config",
        "other",
        "canary.r.app.config.x",
    ):
        put(state, f"{key}.leaf", 1)
    prefixes = held_prefixes(["app.config"], "r")
    stream = level_edge(state, prefixes)
    put(state, "other.leaf", 2)
    put(state, "app.config.y", 3)
    send_round(stream.feed, [stream])

    assert stream.replica.list_keys("", 10) == [
        "app.config.leaf", "app.config.x.leaf", "app.config.y", "canary.r.app.config.x.leaf",
    ]  # fmt: skip
    assert stream.replica.vector.seen == state.vector.seen
    assert stream.replica.holds("app.config.x")
    assert not stream.replica.holds("app.configuration")


def test_writes_elsewhere_cost_an_edge_of_some_prefixes_one_frame_a_beat():
    state = new_state("a")
    one, other = (level_edge(state, prefixes) for prefixes in (("app",), ("web",)))
    other.feed = one.feed
    at_start = len(one.sent)
    for number in range(100):
        put(state, "elsewhere", number)
        send_round(one.feed, [one, other])

    assert len(one.sent) == at_start
    send_beat(one.feed, [one, other])
    send_beat(one.feed, [one, other])
    assert len(one.sent) == at_start + 1
    assert one.replica.vector.seen == other.replica.vector.seen == state.vector.seen
    assert one.replica.number == one.feed.number


def test_a_row_brings_the_claims_that_its_edge_was_owed():
    state = new_state("a")
    stream = level_edge(state, ("app",))
    put(state, "elsewhere", 1)
    send_round(stream.feed, [stream])
    put(state, "app.x", 1)
    send_round(stream.feed, [stream])

    assert stream.replica.read("app.x").value == 1
    assert stream.replica.vector.seen == state.vector.seen
    assert list(stream.feed.debts()) == []


def test_an_edge_that_falls_behind_is_told_what_it_was_owed():
    state = new_state("a")
    stream = level_edge(state, ("app",))
    put(state, "elsewhere", 1)
    send_round(stream.feed, [stream])
    stream.vector = stream.feed.told(("app",))
    send_beat(stream.feed, [])

    stream.bring_level()

    assert stream.replica.vector.seen == state.vector.seen


def test_a_write_that_the_disk_may_still_refuse_is_not_sent():
    state = new_state("a", durability="fsync")
    first, _, _ = state.write([Mutation("put", "k", 1)])
    state.confirm(first)
    second, _, _ = state.write([Mutation("put", "k", 2)])
    stream = level_edge(state)

    assert state.read("k").value == 2
    assert stream.replica.read("k").value == 1
    state.confirm(second)
    send_round(stream.feed, [stream])
    assert stream.replica.read("k").value == 2


def test_all_begin_again_when_an_agent_repairs_what_no_vector_tells():
    damaged, sound = new_state("damaged"), new_state("sound")
    put(sound, "k", 1)
    put(sound, "l", 1)
    exchange(sound, damaged)
    stream = level_edge(damaged)
    # A peer has seen the same and no longer holds the row: so it is dropped here, without a new write.
    held = {("l", "sound/1", 2)}
    damaged.reconcile(range(256), sound.vector.seen, held)
    assert damaged.read("k") is None

    send_round(stream.feed, [stream])
    stream.bring_level()

    assert stream.replica.read("k") is None
    assert stream.replica.read("l").value == 1


def test_hashes_tell_an_edge_that_holds_something_else():
    state = new_state("a")
    put(state, "k", 1)
    replica = level_edge(state).replica
    hashes = state.vector.hash, state.state_hash

    assert replica.agrees(*hashes)
    replica.state._store.remove("k", [("a/1", 1)])
    assert not replica.agrees(*hashes)
    put(state, "k", 2)
    assert replica.agrees(state.vector.hash, state.state_hash), "it is merely not as far"


def test_parameters_of_a_newer_agent_are_taken_as_far_as_they_are_known():
    replica = Replica(None)
    replica.agree(frames.Terms({"conflict_resolution": "max", "of_tomorrow": 1}, 3, False))
    assert replica.settings.conflict_resolution == "max"
    replica.agree(frames.Terms({"conflict_resolution": "of-tomorrow"}, 4, True))
    assert replica.settings.conflict_resolution == "max"
    assert (replica.settings_version, replica.degraded) == (4, True)


# --- any schedule ---------------------------------------------------------------------------------

AGENTS, EDGES = 3, 3
PREFIXES: tuple[Prefixes, ...] = (None, ("a",), ("e", r"f\.g"))
agents = st.integers(0, AGENTS - 1)
edges = st.integers(0, EDGES - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), agents, st.lists(mutations, min_size=1, max_size=3)),
        st.tuples(st.just("settle"), agents, st.booleans()),
        st.tuples(st.just("gossip"), agents, agents),
        st.tuples(st.just("round"), agents, st.none()),
        st.tuples(st.just("beat"), agents, st.none()),
        st.tuples(st.just("connect"), edges, agents),
        st.tuples(st.just("level"), edges, st.sampled_from([1, 2, None])),
        st.tuples(st.just("behind"), edges, st.none()),
        st.tuples(st.just("collect"), st.none(), st.none()),
    ),
    max_size=30,
)


class World:
    """A few agents, a few edges, and everything that may happen to them."""

    def __init__(self) -> None:
        self.states = [
            new_state(f"agent-{number}", START_MS + 7 * number, durability="fsync")
            for number in range(AGENTS)
        ]
        self.feeds = [Feed(state) for state in self.states]
        self.pending: list[list[Batch]] = [[] for _ in range(AGENTS)]
        self.replicas = [Replica(prefixes) for prefixes in PREFIXES]
        self.streams = [Stream(replica, self.feeds[0]) for replica in self.replicas]
        self.homes = [0] * EDGES

    def act(self, turn: int, action: str, who: Any, what: Any) -> None:
        if action == "write":
            state = self.states[who]
            at(state, START_MS + 10 * turn + 7 * who)
            batch, _, _ = state.write(what, system=True)
            if batch is not None:
                self.pending[who].append(batch)
        elif action == "settle" and self.pending[who]:
            batch = self.pending[who].pop(0)
            if what:
                self.states[who].confirm(batch)
            else:
                self.states[who].retract(batch)
        elif action == "gossip":
            exchange(self.states[who], self.states[what])
        elif action == "round":
            send_round(self.feeds[who], self.at_home(who))
        elif action == "beat":
            send_beat(self.feeds[who], self.at_home(who))
        elif action == "connect":
            self.homes[who] = what
            self.streams[who] = Stream(self.replicas[who], self.feeds[what])
        elif action == "level":
            self.streams[who].bring_level(what)
            if what is not None:
                self.act(turn, "connect", who, self.homes[who])
        elif action == "behind":
            stream = self.streams[who]
            stream.vector = stream.vector or stream.feed.told(stream.replica.prefixes)
        elif action == "collect":
            self.collect()

    def at_home(self, agent: int) -> list[Stream]:
        return [each for each, home in zip(self.streams, self.homes, strict=True) if home == agent]

    def collect(self) -> None:
        """Everybody has this: deletions among it are forgotten, at agents and at edges that are level."""
        vectors = [state.vector.seen for state in self.states]
        floor = {origin: min(vector.get(origin, 0) for vector in vectors) for origin in vectors[0]}
        for state in self.states:
            state.collect(floor)
        for stream in self.streams:
            if stream.vector is None:
                stream.replica.collect(frames.Collect(floor))
                stream.replica.tidy()

    def settle_down(self) -> None:
        for number in range(AGENTS):
            while self.pending[number]:
                self.act(0, "settle", number, True)
        exchange(*self.states)
        for number in range(AGENTS):
            self.act(0, "round", number, None)
            self.act(0, "beat", number, None)
        for stream in self.streams:
            stream.bring_level()


def shown(replica: Replica) -> dict[str, tuple[Row, ...]]:
    store = replica.state._store
    return {key: store.rows(key) for key in store.leaves}


@settings(max_examples=120)
@given(steps)
def test_an_edge_ends_with_what_its_agent_holds_and_never_goes_back(story):
    world = World()
    before = [shown(replica) for replica in world.replicas]
    for turn, (action, who, what) in enumerate(story):
        world.act(turn, action, who, what)
        for number, replica in enumerate(world.replicas):
            after = shown(replica)
            for key, rows in after.items():
                for former in before[number].get(key, ()):
                    assert not any(former.covers(row) for row in rows), "an older value came back"
            before[number] = after

    world.settle_down()

    agent = world.states[0]
    whole = world.replicas[0]
    assert whole.state.state_hash == agent.state_hash
    assert whole.read("") == agent.read("")
    assert whole.read("$swarm") == agent.read("$swarm")
    assert whole.state.read_leaves("") == agent.read_leaves("")
    for replica in world.replicas[1:]:
        assert replica.vector.hash == agent.vector.hash
        for prefix in replica.prefixes or ():
            assert replica.state.read_leaves(prefix) == agent.read_leaves(prefix)
