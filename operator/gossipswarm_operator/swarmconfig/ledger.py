"""What a SwarmConfig has delivered: the keys that it owns, and hashes by which its values are known again.

It is kept in the status, and written there *before* values are written, so that no key can be delivered and then
forgotten. Until every agent holds a version, a key is known by what it replaced as well as by its new value: an agent
that has not received it yet shows nobody's change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

Ledger: TypeAlias = Mapping[str, tuple[str, ...]]
"""Key relative to the prefix -> hashes of what may stand there without anybody else's doing, the latest last."""

ABSENT: Final = "-"
"""Instead of a hash: there may be nothing."""

MAX_BYTES: Final = 400 << 10
"""As it is stored; what it belongs to has to fit into one object of 1.5 MiB beside it."""
MAX_KEYS: Final = 10_000
_KEPT: Final = 4
"""Values by which one key may be known: versions can follow each other faster than they arrive."""


def read(status: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The ledger in the status of a SwarmConfig."""
    return {
        str(entry["key"]): tuple(str(entry.get("digest") or "").split())
        for entry in status.get("keysOwned") or ()
    }


def stored(ledger: Ledger) -> list[dict[str, str]]:
    """The ledger as it stands in the status."""
    return [{"key": key, "digest": " ".join(ledger[key])} for key in sorted(ledger)]


def size(ledger: Ledger) -> int:
    """Bytes of the ledger as JSON, about."""
    return sum(len(key.encode()) + 9 * len(digests) + 26 for key, digests in ledger.items())


def with_written(
    ledger: Ledger, digests: Mapping[str, str], replaced: Mapping[str, str] | None = None
) -> dict[str, tuple[str, ...]]:
    """The ledger once these values are, or may have been, written over the ``replaced`` ones."""
    found = dict(ledger)
    for key, digest in digests.items():
        before = (replaced or {}).get(key, digest)
        known = [held for held in found.get(key, ()) if held not in (before, digest)]
        found[key] = tuple(dict.fromkeys((*known, before, digest)))[-_KEPT:]
    return found


def without(ledger: Ledger, keys: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The ledger without these keys."""
    gone = set(keys)
    return {key: digests for key, digests in ledger.items() if key not in gone}


def settled(ledger: Ledger) -> dict[str, tuple[str, ...]]:
    """The ledger once every agent holds what was written last."""
    return {key: digests[-1:] for key, digests in ledger.items()}
