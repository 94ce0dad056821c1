"""Hashes over the current rows, for comparing two agents without sending the rows.

The hash of a set is the sum of the hashes of its members modulo 2^64, so it does not depend on any order
and a member is taken out by subtraction. Rows are grouped in buckets by key, so that two agents that
differ find out where.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from zlib import crc32

from gossipswarm_agent.core.versions import salt_of

BUCKETS: Final = 256
MASK: Final = (1 << 64) - 1


def bucket_of(key: str) -> int:
    """Bucket of a key, the same on every agent."""
    return crc32(key.encode()) % BUCKETS


class HashTree:
    """One level of buckets under one root.

    The hash of a row is CPython's hash of the tuple (CRC of the key, salt of the origin, sequence): integers
    hash the same in every process, and mapping it over columns costs a quarter of any hash written in
    Python. It guards against differences, not against malice.
    """

    __slots__ = ("_salts", "_sums")

    def __init__(self) -> None:
        self._sums = [0] * BUCKETS
        """Reduced modulo 2^64 only when they are read."""
        self._salts: dict[str, int] = {}

    @property
    def root(self) -> int:
        """Hash of everything, 64 bits."""
        return sum(self._sums) & MASK

    @property
    def buckets(self) -> list[int]:
        """Hash of each bucket, 64 bits."""
        self._sums = [total & MASK for total in self._sums]
        return list(self._sums)

    def row_hash(self, key: str, origin: str, sequence: int) -> int:
        """Hash of one row, 64 bits."""
        return hash((crc32(key.encode()), self._salt(origin), sequence)) & MASK

    def add(self, keys: Sequence[str], origins: Sequence[str], sequences: Sequence[int]) -> None:
        """Count rows in."""
        for origin in set(origins):
            self._salt(origin)
        checks = list(map(crc32, map(str.encode, keys)))
        sums = self._sums
        rows = zip(checks, map(self._salts.__getitem__, origins), sequences, strict=True)
        for check, value in zip(checks, map(hash, rows), strict=True):
            sums[check % BUCKETS] += value

    def insert(self, key: str, origin: str, sequence: int) -> None:
        """Count one row in."""
        self._sums[bucket_of(key)] += self.row_hash(key, origin, sequence)

    def remove(self, key: str, origin: str, sequence: int) -> None:
        """Count one row out."""
        self._sums[bucket_of(key)] -= self.row_hash(key, origin, sequence)

    def _salt(self, origin: str) -> int:
        salt = self._salts.get(origin)
        if salt is None:
            salt = self._salts[origin] = salt_of(origin)
        return salt
