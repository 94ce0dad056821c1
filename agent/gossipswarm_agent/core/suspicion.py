"""Suspicion: the time between "I cannot reach it" and "it is dead", as Lifeguard has it (2017, section IV-B).

The first accusation grants the suspect ``MAX_FACTOR`` times the suspicion timeout. Every independent
accuser shortens that, logarithmically, to the timeout itself once ``CONFIRMATIONS`` agree with the first:
one slow accuser cannot have anybody buried in a hurry, while the truly dead are accused by everybody who
tries. Unlike memberlist, the helpers that answered an indirect probe with a nack count as accusers for
whom they answered: they tried the suspect themselves, and their nack proves that the accuser hears.

Nobody is buried on hearsay. An accuser keeps asking the suspect until the end, and one that merely heard
the accusation asks for the last ``suspicion_timeout`` before its own clock runs out. Each question carries
the accusation, so a living suspect refutes; any answer starts the clock again.
"""

from __future__ import annotations

from math import inf, log
from typing import Final

from gossipswarm_agent.core.context import Context

MAX_FACTOR: Final = 3.0
PRECEDENCE: Final = 0.1
"""Seconds that the first accuser has to declare the death before the others would."""
CONFIRMATIONS: Final = 2
ASK_EVERY: Final = 0.1
"""Seconds between two questions to a suspect."""


def timeout(confirmations: int, wanted: int, shortest: float, longest: float) -> float:
    """Lifeguard's suspicion timeout in seconds after ``confirmations`` of the first accusation."""
    if wanted < 1 or confirmations >= wanted:
        return shortest
    return longest - (longest - shortest) * log(confirmations + 1) / log(wanted + 1)


class Suspicion:
    """One member under suspicion in one incarnation."""

    __slots__ = (
        "accusers",
        "ask_at",
        "confirmed",
        "first_hand",
        "grace",
        "incarnation",
        "name",
        "number",
        "opened_here",
        "since",
    )

    def __init__(self, name: str, incarnation: int, number: int, since: float) -> None:
        self.name = name
        self.incarnation = incarnation
        self.number = number
        """Of the pings that ask it: above 32 bits, where no probe's number is."""
        self.since = since
        self.accusers: set[str] = set()
        self.opened_here = False
        """This agent was the first to accuse, as far as it knows."""
        self.first_hand = False
        self.grace = 0.0
        """Seconds by which the suspect was late when it last answered, or the accuser is itself: it may need
        them again."""
        self.confirmed = False
        """Somebody holds it for dead already."""
        self.ask_at = inf


class Suspicions:
    """Every open suspicion, and when something is due about one."""

    __slots__ = ("_ctx", "_number", "deadline", "open")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._number = ctx.rng.getrandbits(32) | 1 << 32
        self.open: dict[str, Suspicion] = {}
        self.deadline = inf
        """Monotonic seconds; may be too early, never too late."""

    def start(self, name: str, incarnation: int) -> Suspicion:
        """Suspect this incarnation; the same suspicion if it is open already."""
        held = self.open.get(name)
        if held is None or held.incarnation != incarnation:
            self._number += 1
            now = self._ctx.now.mono
            held = self.open[name] = Suspicion(name, incarnation, self._number, now)
        return held

    def accuse(self, suspicion: Suspicion, accusers: set[str], *, first_hand: bool) -> bool:
        """Note who accuses; whether that shortens the suspicion."""
        before = len(suspicion.accusers)
        suspicion.accusers |= accusers
        if first_hand and not suspicion.first_hand:
            suspicion.first_hand = True
            suspicion.ask_at = self._ctx.now.mono
        self._wake(suspicion)
        return before <= CONFIRMATIONS and len(suspicion.accusers) > before

    def confirm(self, suspicion: Suspicion) -> None:
        """Somebody holds the suspect for dead: the shortest time remains, and we ask it from now on."""
        now = self._ctx.now.mono
        suspicion.confirmed = True
        if suspicion.ask_at == inf:
            suspicion.since = suspicion.ask_at = now
        self._wake(suspicion)

    def answered(self, name: str, number: int) -> None:
        """The suspect answered: it has all the time again, and no accuser is left."""
        suspicion = self.open.get(name)
        if suspicion is not None and suspicion.number == number:
            suspicion.since = self._ctx.now.mono
            suspicion.accusers.clear()
            suspicion.first_hand = suspicion.confirmed = False
            suspicion.ask_at = self._ctx.now.mono + ASK_EVERY

    def clear(self, name: str) -> None:
        """No longer suspected, for whatever reason."""
        self.open.pop(name, None)
        if not self.open:
            self.deadline = inf

    def expires(self, suspicion: Suspicion, others: int) -> float:
        """When the suspect is to be declared dead; ``others`` = agents that might confirm."""
        shortest = self._ctx.settings.suspicion_timeout / 1000
        confirmations = max(0, len(suspicion.accusers) - 1)
        wanted = 0 if suspicion.confirmed else min(CONFIRMATIONS, others)
        since = suspicion.since + suspicion.grace + (0.0 if suspicion.opened_here else PRECEDENCE)
        return since + timeout(confirmations, wanted, shortest, MAX_FACTOR * shortest)

    def due(self, others: int, factor: float) -> tuple[list[Suspicion], list[Suspicion]]:
        """Suspects to ask now, and suspects whose time is over. ``factor`` stretches the asking (local health)."""
        now = self._ctx.now.mono
        shortest = self._ctx.settings.suspicion_timeout / 1000
        ask, over, deadline = [], [], inf
        for suspicion in self.open.values():
            end = self.expires(suspicion, others)
            if now >= end:
                over.append(suspicion)
                continue
            asks = suspicion.ask_at if suspicion.ask_at < inf else end - shortest
            if now >= asks:
                ask.append(suspicion)
                suspicion.ask_at = asks = now + ASK_EVERY * factor
            deadline = min(deadline, asks, end)
        self.deadline = deadline
        return ask, over

    def postpone(self, seconds: float) -> None:
        """Time during which this agent did not run is nobody's silence."""
        for suspicion in self.open.values():
            suspicion.since += seconds
            suspicion.ask_at += seconds
        self.deadline += seconds

    def _wake(self, suspicion: Suspicion) -> None:
        shortest = self._ctx.settings.suspicion_timeout / 1000
        self.deadline = min(self.deadline, suspicion.ask_at, suspicion.since + shortest)
