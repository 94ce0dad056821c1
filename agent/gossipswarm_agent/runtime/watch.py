"""Watchers of keys: what changed, in order, bounded, and resumable for a while.

Every change of a leaf gets a number. A watcher remembers keys, not values: a key that changes again before
it was taken is reported once, with its latest value and number, so a slow watcher of a busy key falls behind
in steps and not in memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Self

import msgspec

from gossipswarm_agent.core.errors import WriteRefused
from gossipswarm_agent.core.results import Change, Reset

RECENT_KEPT: Final = 4096
"""Changes that a watcher can resume across."""
PENDING_LIMIT: Final = 4096
"""Different keys that may wait for a watcher; beyond that it is dropped, and may resume."""
WATCHERS_LIMIT: Final = 512
NOT_RESUMABLE: Final = -1


def covers(prefix: str, key: str) -> bool:
    """Whether a key is at or below a prefix; ``""`` is above all but the swarm's own keys."""
    if not prefix:
        return not key.startswith("$")
    return key.startswith(prefix) and (len(key) == len(prefix) or key[len(prefix)] == ".")


class Watcher:
    """An asynchronous iterator of changes. Ends when closed, or dropped for being too slow."""

    def __init__(self, prefix: str, hub: Watchers) -> None:
        self.prefix = prefix
        self.dropped = False
        """More changed than may wait: resume from the last id that was seen."""
        self._hub = hub
        self._pending: dict[str, int] = {}
        self._limit = PENDING_LIMIT
        self._reset: int | None = None
        self._ready = asyncio.Event()
        self._closed = False

    def offer(self, key: str, number: int) -> bool:
        """A key changed; False once the watcher was dropped."""
        pending = self._pending
        # Taken out first, so that what is taken next always has the lowest number.
        if pending.pop(key, None) is None and len(pending) >= self._limit:
            self.dropped = True
            pending.clear()
            self._ready.set()
            return False
        pending[key] = number
        self._ready.set()
        return True

    def begin_again(self, number: int, keys: Sequence[str]) -> None:
        """Everything below the prefix follows, as it is now."""
        # Only the last of them may be resumed from: before it, some were not seen.
        self._pending = dict.fromkeys(keys, NOT_RESUMABLE)
        if keys:
            self._pending[keys[-1]] = number
        self._reset = NOT_RESUMABLE if keys else number
        self._limit = PENDING_LIMIT + len(keys)
        self._ready.set()

    @property
    def position(self) -> str | None:
        """The id to resume from, also after changes elsewhere; None while something waits or was lost."""
        if self._pending or self._reset is not None or self.dropped:
            return None
        return self._hub.newest

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change | Reset:
        while not (self._closed or self.dropped):
            if self._reset is not None:
                number, self._reset = self._reset, None
                return Reset(self._hub.identify(number))
            for key, number in self._pending.items():
                del self._pending[key]
                return self._hub.describe(key, number)
            self._ready.clear()
            await self._ready.wait()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop watching."""
        self._closed = True
        self._pending.clear()
        self._ready.set()
        self._hub.forget(self)


class Watchers:
    """All watchers of one agent, and the changes that they may resume from.

    ``change`` tells a leaf's visible value; ``leaves`` the keys below a prefix. ``stream`` names this run of the
    agent: an id of another run, or another agent, cannot be resumed from.
    """

    def __init__(
        self,
        stream: str,
        change: Callable[[str], Change],
        leaves: Callable[[str], Sequence[str]],
    ) -> None:
        self.dropped = 0
        """Watchers that were too slow."""
        self._stream = stream
        self._change = change
        self._leaves = leaves
        self._recent: deque[str] = deque(maxlen=RECENT_KEPT)
        self._last = 0
        self._watchers: set[Watcher] = set()
        self._followers: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._watchers)

    @property
    def newest(self) -> str:
        """The id of the latest change."""
        return self.identify(self._last)

    def identify(self, number: int) -> str:
        """The id of a change, as it is given to clients."""
        return f"{self._stream}-{'reset' if number == NOT_RESUMABLE else number}"

    def describe(self, key: str, number: int) -> Change:
        """The change of ``key``, as of now."""
        return msgspec.structs.replace(self._change(key), id=self.identify(number))

    def watch(self, prefix: str, since: str | None) -> Watcher:
        """Watch from now on (None), or from the change with the id ``since`` on.

        If that is too old or not of this agent, a Reset comes first and the full state follows as changes.

        Raises:
            WriteRefused: 429, there are too many watchers.
        """
        if len(self._watchers) >= WATCHERS_LIMIT:
            raise WriteRefused(
                429, "too-many-watchers", f"this agent has {WATCHERS_LIMIT} watchers already", 5.0
            )
        watcher = Watcher(prefix, self)
        if since is not None:
            self._resume(watcher, since)
        self._watchers.add(watcher)
        return watcher

    def _resume(self, watcher: Watcher, since: str) -> None:
        stream, _, digits = since.rpartition("-")
        known = stream == self._stream and digits.isascii() and digits.isdigit()
        seen = int(digits) if known and len(digits) < 20 else -1
        oldest = self._last - len(self._recent)
        if not oldest <= seen <= self._last:
            watcher.begin_again(self._last, self._leaves(watcher.prefix))
            return
        for number, key in enumerate(self._recent, oldest + 1):
            if number > seen and covers(watcher.prefix, key):
                watcher.offer(key, number)

    def publish(self, keys: tuple[str, ...]) -> None:
        """The visible values of these leaves changed."""
        number = self._last
        self._last += len(keys)
        self._recent.extend(keys)
        for follower in self._followers:
            follower()
        if not self._watchers:
            return
        for watcher in list(self._watchers):
            prefix = watcher.prefix
            for position, key in enumerate(keys, number + 1):
                if covers(prefix, key) and not watcher.offer(key, position):
                    self.dropped += 1
                    self._watchers.discard(watcher)
                    break

    def follow(self, callback: Callable[[], None]) -> None:
        """Call this whenever something has changed, for as long as there are watchers."""
        self._followers.append(callback)

    def forget(self, watcher: Watcher) -> None:
        """A watcher was closed."""
        self._watchers.discard(watcher)

    async def close(self) -> None:
        """End every watcher."""
        for watcher in list(self._watchers):
            await watcher.aclose()
