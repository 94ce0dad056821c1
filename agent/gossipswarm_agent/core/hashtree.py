"""Hashes over the current rows, for comparing two agents without sending the rows.

The hash of a set is the sum of the hashes of its members modulo 2^64, so it does not depend on any order
and a member is taken out by subtraction. Rows are grouped in buckets by key, so that two agents that
differ find out where.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final
from zlib import crc32

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

    __slots__ = ("_salts", "buckets")

    def __init__(self) -> None:
        self.buckets = [0] * BUCKETS
        self._salts: dict[str, int] = {}

    @property
    def root(self) -> int:
        """Hash of everything, 64 bits."""
        return sum(self.buckets) & MASK

    def row_hash(self, key: str, origin: str, sequence: int) -> int:
        """Hash of one row, 64 bits."""
        return hash((crc32(key.encode()), self._salt(origin), sequence)) & MASK

    def add(self, keys: Sequence[str], origins: Iterable[str], sequences: Iterable[int]) -> None:
        """Count rows in."""
        checks = list(map(crc32, map(str.encode, keys)))
        buckets = self.buckets
        rows = zip(checks, map(self._salt, origins), sequences, strict=True)
        for check, value in zip(checks, map(hash, rows), strict=True):
            buckets[check % BUCKETS] += value
        # Sums are reduced now and then rather than at each row; in between they are a little longer.
        self.buckets = [bucket & MASK for bucket in buckets]

    def remove(self, key: str, origin: str, sequence: int) -> None:
        """Count a row out."""
        bucket = bucket_of(key)
        self.buckets[bucket] = (self.buckets[bucket] - self.row_hash(key, origin, sequence)) & MASK

    def _salt(self, origin: str) -> int:
        salt = self._salts.get(origin)
        if salt is None:
            digest = blake2b(origin.encode(), digest_size=8).digest()
            salt = self._salts[origin] = int.from_bytes(digest, "big")
        return salt
