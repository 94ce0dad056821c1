"""The conflict history: every write that lost against a concurrent one, with what beat it.

A write is recorded under (key, origin, sequence), once on every agent. Two records of one write join to
the one with the later winner, and of too many records the latest are kept, so the history is a function of
the set of records that were ever added: agents that exchange theirs end up with the same one.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final, TypeAlias

import msgspec

from gossipswarm_agent.core.hashtree import MASK
from gossipswarm_agent.core.messages import Loss

HISTORY_LIMIT: Final = 10_000

Identity: TypeAlias = tuple[str, str, int]


def identity(loss: Loss) -> Identity:
    """What makes two records speak of the same lost write."""
    return (loss.key, loss.origin, loss.sequence)


class History:
    """Lost writes, the latest ``limit`` of them."""

    def __init__(self, limit: int = HISTORY_LIMIT) -> None:
        self._limit = limit
        self._records: dict[Identity, Loss] = {}
        self._oldest: list[tuple[int, Identity]] = []
        """Heap over the records by clock."""
        self.hash = 0
        """Order-independent hash of the records, 64 bits."""
        self.forgotten = 0
        """Records that made room for later ones."""

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, lost: Identity) -> bool:
        return lost in self._records

    def get(self, lost: Identity) -> Loss | None:
        """The record of a lost write."""
        return self._records.get(lost)

    def __iter__(self) -> Iterator[Loss]:
        return iter(self._records.values())

    def latest_first(self) -> list[Loss]:
        """Every record."""
        return sorted(self._records.values(), key=lambda loss: (-loss.clock, identity(loss)))

    def add(self, losses: Iterable[Loss]) -> list[Loss]:
        """Join records in; those that were new, or had a later winner than was known."""
        return [loss for loss in losses if self._add(loss)]

    def _add(self, loss: Loss) -> bool:
        lost = identity(loss)
        known = self._records.get(lost)
        if known is not None:
            if _winner(loss) <= _winner(known):
                return False
            self.hash -= _hash(known)
        elif len(self._records) >= self._limit:
            if (loss.clock, lost) <= self._oldest[0]:
                return False
            _, oldest = heapq.heapreplace(self._oldest, (loss.clock, lost))
            self.hash -= _hash(self._records.pop(oldest))
            self.forgotten += 1
        else:
            heapq.heappush(self._oldest, (loss.clock, lost))
        self._records[lost] = _detached(loss)
        self.hash = (self.hash + _hash(loss)) & MASK
        return True


def _detached(loss: Loss) -> Loss:
    """The record without a hold on the messages that its values came in."""
    return msgspec.structs.replace(
        loss, value=loss.value.copy(), winning_value=loss.winning_value.copy()
    )


def _winner(loss: Loss) -> tuple[int, str, int, str]:
    return (loss.winning_clock, loss.winning_origin, loss.winning_sequence, loss.resolution)


def _hash(loss: Loss) -> int:
    digest = blake2b(msgspec.msgpack.encode((identity(loss), _winner(loss))), digest_size=8)
    return int.from_bytes(digest.digest(), "big")
