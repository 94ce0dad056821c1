"""Proof of delivery: every agent tells a traced write's origin when, and after how many hops, it held it.

The origin keeps who answered. A round is a hop of the eager trees or, with ``eager: false``, an interval
of the clock; round 1 is the origin alone.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from math import ceil
from typing import Final

import msgspec

from gossipswarm_agent.core.batch import Dot
from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.effects import Notify, Reply
from gossipswarm_agent.core.membership import Membership
from gossipswarm_agent.core.messages import Batch, Ranges, Receipt, ReceiptRequest
from gossipswarm_agent.core.versions import VersionVector, agent_of

WRITES_KEPT: Final = 4096
"""Traced writes whose receipts are kept; the oldest go first."""
ASK_AFTER: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds after which agents that have not answered are asked."""
ASK_AT_MOST: Final = 64
SAMPLES_KEPT: Final = 4096
ANSWERS_REMEMBERED: Final = 1024
"""Receipts that can be given again, as they were, to an origin that missed them."""
REPAIRS_REMEMBERED: Final = 64
"""Repairs whose time is kept, for origins that ask about what came by them."""
REPAIRED: Final = 0
"""Hop of a row that came by repair."""


class Round(msgspec.Struct, frozen=True):
    """Agents that held the write by the end of a round, counted from its start."""

    round: int
    agents: int
    share: float
    duration_ms: float


class Convergence(msgspec.Struct, frozen=True):
    """How far one traced write has come."""

    dot: str
    key: str
    origin: str
    started_ms: int
    agents: int
    received: int
    share: float
    threshold: float
    converged: bool
    duration_ms: float | None
    """Until the threshold was reached."""
    full_ms: float | None
    """Until every agent held it."""
    mode: str
    rounds: list[Round]
    missing: list[str]
    """Up to 20 agents that have not answered."""


class Statistics(msgspec.Struct, frozen=True):
    """Over the recent traced writes that every agent holds."""

    samples: int
    avg_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class _Traced:
    __slots__ = (
        "answers", "asked", "audience", "converged_at", "eager", "full_at", "interval", "key", "origin",
        "sequence", "started_mono", "started_wall",
    )  # fmt: skip

    def __init__(self, origin: str, sequence: int, key: str) -> None:
        self.origin = origin
        self.sequence = sequence
        self.key = key
        self.started_wall = 0
        self.started_mono = 0.0
        self.answers: dict[str, tuple[int, float]] = {}
        """Agent to (hop, milliseconds since the start)."""
        self.audience = 1
        self.converged_at: float | None = None
        self.full_at: float | None = None
        self.asked = 0
        self.eager = True
        self.interval = 100


class _Waiter(msgspec.Struct):
    token: int
    dot: tuple[str, int]
    threshold: float | None


class Receipts:
    """Answers others' traced writes, collects the answers to own ones."""

    def __init__(self, ctx: Context, membership: Membership, vector: VersionVector) -> None:
        self._ctx = ctx
        self._membership = membership
        self._vector = vector
        self._writes: OrderedDict[tuple[str, int], _Traced] = OrderedDict()
        self._open: deque[tuple[float, tuple[str, int]]] = deque()
        self._owed: dict[str, list[tuple[str, int, int, int]]] = {}
        self._waiters: list[_Waiter] = []
        self._held: OrderedDict[tuple[str, int], tuple[int, int]] = OrderedDict()
        self._repaired: deque[tuple[Ranges, int]] = deque(maxlen=REPAIRS_REMEMBERED)
        self.samples: deque[float] = deque(maxlen=SAMPLES_KEPT)
        """Milliseconds until every agent held a traced write, newest last."""
        self.on_converged: Callable[[float, float], None] = _unnoticed

    # --- the origin's side ------------------------------------------------------------------------

    def start(self, origin: str, sequence: int, key: str) -> None:
        """An own traced write leaves now."""
        traced = _Traced(origin, sequence, key)
        settings = self._ctx.settings
        traced.eager, traced.interval = settings.eager, settings.interval
        traced.started_mono = self._ctx.now.mono
        traced.started_wall = self._ctx.now.wall
        traced.answers[self._ctx.name] = (0, 0.0)
        dot = (origin, sequence)
        self._writes[dot] = traced
        self._open.append((self._ctx.now.mono + ASK_AFTER[0], dot))
        if len(self._writes) > WRITES_KEPT:
            self._writes.popitem(last=False)
        self._progress(traced)

    def wait(self, token: int, dot: tuple[str, int], threshold: float | None) -> None:
        """Answer ``token`` with the convergence once the share is reached (None: the threshold in force)."""
        self._waiters.append(_Waiter(token, dot, threshold))
        traced = self._writes.get(dot)
        if traced is not None:
            self._progress(traced)

    def cancel(self, token: int) -> None:
        """Nobody waits for this token any more."""
        self._waiters = [waiter for waiter in self._waiters if waiter.token != token]

    def handle_receipt(self, message: Receipt) -> None:
        """Note who holds what."""
        now = self._ctx.now
        for origin, sequence, hop, wall in message.dots:
            traced = self._writes.get((origin, sequence))
            if traced is None or message.sender in traced.answers:
                continue
            arrived = (now.mono - traced.started_mono) * 1000
            claimed = float(wall - traced.started_wall)
            # The other clock may be off: its claim counts where it is plausible, else the round trip.
            elapsed = claimed if 0 <= claimed < arrived else arrived
            traced.answers[message.sender] = (hop, elapsed)
            self._progress(traced)

    def _audience(self) -> set[str]:
        names = {member.name for member in self._membership.members.values() if member.status <= 1}
        names.add(self._ctx.name)
        return names

    def _progress(self, traced: _Traced) -> None:
        # Counting the audience at every receipt would make n receipts cost n².
        answered = len(traced.answers)
        if answered >= traced.audience or answered % 16 == 0 or self._waiters:
            traced.audience = self._membership.size
        share = answered / max(traced.audience, 1)
        latest = (self._ctx.now.mono - traced.started_mono) * 1000
        if traced.converged_at is None and share >= self._ctx.settings.convergence_threshold:
            traced.converged_at = latest
            self.on_converged(self._ctx.settings.convergence_threshold, latest / 1000)
            self._ctx.effects.append(
                Notify(
                    "convergence-reached",
                    {
                        "dot": f"{traced.origin}:{traced.sequence}",
                        "key": traced.key,
                        "share": share,
                        "agents": traced.audience,
                        "duration_ms": round(latest, 3),
                    },
                )
            )
        if traced.full_at is None and answered >= traced.audience:
            traced.full_at = max((ms for _, ms in traced.answers.values()), default=latest)
            self.samples.append(traced.full_at)
            self.on_converged(1.0, latest / 1000)
        if self._waiters:
            self._answer_waiters(traced, share)

    def _answer_waiters(self, traced: _Traced, share: float) -> None:
        dot = (traced.origin, traced.sequence)
        left = []
        for waiter in self._waiters:
            wanted = waiter.threshold
            if wanted is None:
                wanted = self._ctx.settings.convergence_threshold
            if waiter.dot == dot and share >= wanted:
                self._ctx.effects.append(Reply(waiter.token, self.report(dot, waiter.threshold)))
            else:
                left.append(waiter)
        self._waiters = left

    # --- everybody's side -------------------------------------------------------------------------

    def owe(self, dots: Iterable[Dot], hop: int, fresh: Batch | None) -> None:
        """Traced writes came down a tree: their origins get a receipt when the event is done.

        Also for those that are not among the ``fresh`` because repair, which does not say what is traced,
        had brought them a moment earlier.
        """
        now = self._ctx.now.wall
        new: frozenset[Dot] = frozenset(() if fresh is None else fresh.traced)
        for dot in dots:
            origin, sequence = dot
            agent = agent_of(origin)
            if agent == self._ctx.name:
                continue
            wall: int | None = now
            if dot not in new:
                if dot in self._held or not self._vector.covers(origin, sequence):
                    continue
                wall = self._repaired_at(origin, sequence)
            answer = hop, wall or now
            self._held[dot] = answer
            if len(self._held) > ANSWERS_REMEMBERED:
                self._held.popitem(last=False)
            self._owed.setdefault(agent, []).append((*dot, *answer))

    def flush(self) -> None:
        """Send the receipts owed, one message an origin."""
        if not self._owed:
            return
        owed, self._owed = self._owed, {}
        for agent, dots in owed.items():
            member = self._membership.members.get(agent)
            if member is not None:
                for first in range(0, len(dots), 24):
                    receipt = Receipt(self._ctx.name, dots[first : first + 24])
                    self._ctx.send([member.address], receipt)

    def repaired(self, fresh: Ranges) -> None:
        """These dots came by repair, which does not say which of them are traced."""
        self._repaired.append((fresh, self._ctx.now.wall))

    def _repaired_at(self, origin: str, sequence: int) -> int | None:
        for fresh, at in self._repaired:
            if any(low <= sequence <= high for low, high in fresh.get(origin, ())):
                return at
        return None

    def handle_request(self, message: ReceiptRequest) -> None:
        """Somebody asks whether we hold a dot."""
        origin, sequence = message.origin, message.sequence
        if not self._vector.covers(origin, sequence):
            return
        held = self._held.get((origin, sequence))
        if held is None:
            held = REPAIRED, self._repaired_at(origin, sequence) or self._ctx.now.wall
        self._owed.setdefault(agent_of(origin), []).append((origin, sequence, *held))

    # --- time -------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When ``tick`` is next needed."""
        return self._open[0][0] if self._open else float("inf")

    def tick(self) -> None:
        """Ask those who have not answered."""
        now = self._ctx.now.mono
        while self._open and self._open[0][0] <= now:
            _, dot = self._open.popleft()
            traced = self._writes.get(dot)
            if traced is None or traced.full_at is not None:
                continue
            self._progress(traced)
            if traced.full_at is not None:
                continue
            self._ask(traced)
            traced.asked += 1
            if traced.asked < len(ASK_AFTER):
                due = now + ASK_AFTER[traced.asked]
                # Kept in order of time: the schedule of a later write may come due earlier.
                self._insert(due, dot)

    def _insert(self, due: float, dot: tuple[str, int]) -> None:
        later = []
        while self._open and self._open[-1][0] > due:
            later.append(self._open.pop())
        self._open.append((due, dot))
        self._open.extend(reversed(later))

    def _ask(self, traced: _Traced) -> None:
        missing = sorted(self._audience() - traced.answers.keys())
        asked = self._ctx.rng.sample(missing, min(len(missing), ASK_AT_MOST))
        addresses = [self._membership.members[name].address for name in asked]
        self._ctx.send(addresses, ReceiptRequest(self._ctx.name, traced.origin, traced.sequence))

    # --- reading ----------------------------------------------------------------------------------

    def latest(self, limit: int = 20) -> list[tuple[str, int]]:
        """Dots of the newest traced writes, newest first."""
        return [dot for dot, _ in zip(reversed(self._writes), range(limit), strict=False)]

    def newest(self) -> tuple[str, str, int] | None:
        """Dot, key and start (wall ms) of the newest traced write that is not the swarm's own; None if none."""
        for (origin, sequence), traced in reversed(self._writes.items()):
            if not traced.key.startswith("$"):
                return f"{origin}:{sequence}", traced.key, traced.started_wall
        return None

    def report(self, dot: tuple[str, int], threshold: float | None = None) -> Convergence | None:
        """How far a traced write has come; None if it is not known here."""
        traced = self._writes.get(dot)
        if traced is None:
            return None
        wanted = self._ctx.settings.convergence_threshold if threshold is None else threshold
        audience = max(self._membership.size, 1)
        times = sorted(ms for _, ms in traced.answers.values())
        needed = max(1, ceil(wanted * audience - 1e-9))
        converged = len(times) >= needed
        missing = []
        if len(times) < audience:
            missing = sorted(self._audience() - traced.answers.keys())[:20]
        return Convergence(
            dot=f"{traced.origin}:{traced.sequence}",
            key=traced.key,
            origin=self._ctx.name,
            started_ms=traced.started_wall,
            agents=audience,
            received=len(times),
            share=len(times) / audience,
            threshold=wanted,
            converged=converged,
            duration_ms=times[needed - 1] if converged else None,
            full_ms=times[-1] if len(times) >= audience else None,
            mode="eager" if traced.eager else "rounds",
            rounds=_rounds(traced, audience),
            missing=missing,
        )

    def statistics(self) -> Statistics:
        """Convergence times of the recent traced writes."""
        ordered = sorted(self.samples)
        if not ordered:
            return Statistics(0, 0.0, 0.0, 0.0, 0.0, 0.0)

        def percentile(share: float) -> float:
            return ordered[min(len(ordered) - 1, ceil(share * len(ordered)) - 1)]

        return Statistics(
            samples=len(ordered),
            avg_ms=sum(ordered) / len(ordered),
            p50_ms=percentile(0.5),
            p95_ms=percentile(0.95),
            p99_ms=percentile(0.99),
            max_ms=ordered[-1],
        )


def _unnoticed(threshold: float, seconds: float) -> None:
    """What convergence tells before somebody listens."""
    del threshold, seconds


def _rounds(traced: _Traced, audience: int) -> list[Round]:
    by_round: dict[int, list[float]] = {}
    deepest = max(hop for hop, _ in traced.answers.values())
    for hop, ms in traced.answers.values():
        if not traced.eager:
            begun = traced.started_wall // traced.interval
            number = 1 + int(traced.started_wall + ms) // traced.interval - begun
        elif hop == REPAIRED and ms > 0:
            number = deepest + 2
        else:
            number = hop + 1
        by_round.setdefault(number, []).append(ms)
    rounds, held, elapsed = [], 0, 0.0
    for number in range(1, max(by_round) + 1):
        times = by_round.get(number, [])
        held += len(times)
        end = max(times, default=elapsed)
        if not traced.eager:
            end = float((number - 1) * traced.interval)
        rounds.append(Round(number, held, held / audience, max(0.0, end - elapsed)))
        elapsed = max(elapsed, end)
    return rounds
