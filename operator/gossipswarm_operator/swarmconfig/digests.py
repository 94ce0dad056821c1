"""Short hashes of what was delivered, under a secret of the swarm.

They stand in the status, which more people may read than the Secrets that values come from: without the key nobody
can try passwords against them.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

import msgspec

from gossipswarm_operator.swarmconfig.keys import Leaves

_LEAF_BYTES: Final = 4
"""Compared for one key at a time, so that a chance in four billion is small enough."""
_VERSION_BYTES: Final = 5
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON; unlike ``==``, which takes 1, 1.0 and True for one."""
    return type(one) is type(other) and _encode(one) == _encode(other)


class Digests:
    """Hashes under one key; any bytes do."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = blake2b(key).digest()

    def leaf(self, value: Any) -> str:
        """8 hex digits for the value of a leaf."""
        return blake2b(_encode(value), key=self._key, digest_size=_LEAF_BYTES).hexdigest()

    def version(self, leaves: Leaves) -> str:
        """10 hex digits for everything that is delivered; the order of the leaves does not matter."""
        whole = blake2b(key=self._key, digest_size=_VERSION_BYTES)
        for key in sorted(leaves):
            whole.update(_encode([key, leaves[key]]))
        return whole.hexdigest()
