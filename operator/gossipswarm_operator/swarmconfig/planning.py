"""What has to be written so that the leaves below a prefix are the wanted ones: pure.

``live`` is what one agent holds below the prefix, which others may write as well. A leaf is *ours* if the ledger says
that we delivered the value it has. Under KeepLive whatever is not ours stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from gossipswarm_operator.swarmconfig import keys
from gossipswarm_operator.swarmconfig import ledger as ledgers
from gossipswarm_operator.swarmconfig.digests import Digests, same
from gossipswarm_operator.swarmconfig.keys import Leaves
from gossipswarm_operator.swarmconfig.ledger import Ledger


class Delta(msgspec.Struct, frozen=True):
    """The difference between what is wanted and what is there."""

    sets: dict[str, Any]
    """Leaves to be written, by relative key."""
    deletes: tuple[str, ...]
    """Leaves to be deleted."""
    drifted: tuple[str, ...]
    """Leaves that were delivered, and that somebody else changed or deleted since."""
    kept: tuple[str, ...]
    """Leaves that stay other than wanted, because KeepLive says so."""
    gone: tuple[str, ...]
    """Leaves that no agent is to have any more, once the deletions have reached all."""
    ahead: dict[str, tuple[str, ...]]
    """The ledger to be recorded before anything is written."""

    @property
    def after(self) -> dict[str, tuple[str, ...]]:
        """The ledger once every agent has everything."""
        return ledgers.settled(ledgers.without(self.ahead, self.gone))

    @property
    def is_empty(self) -> bool:
        """Nothing has to be written."""
        return not self.sets and not self.deletes

    def is_done(self, live: Leaves, wanted: Leaves) -> bool:
        """Whether an agent that holds ``live`` has everything that it is to have."""
        kept = set(self.kept)
        return all(key in kept for key in missing(live, wanted)) and not any(
            key in live for key in self.gone
        )


class _Live:
    """Leaves, and what lies above and below them."""

    def __init__(self, leaves: Leaves) -> None:
        self.leaves = leaves
        self._inner: dict[str, list[str]] = {}
        """Key -> the leaves strictly below it."""
        for key in leaves:
            for above in keys.ancestors(key):
                self._inner.setdefault(above, []).append(key)

    def below(self, key: str) -> list[str]:
        return self._inner.get(key, [])

    def above(self, key: str) -> list[str]:
        """Leaves above a key that are values, so that nothing can stand below them. Empty objects are none."""
        return [
            above
            for above in keys.ancestors(key)
            if above in self.leaves and self.leaves[above] != {}
        ]


def missing(live: Leaves, wanted: Leaves) -> list[str]:
    """Wanted leaves that are not there, or are there with another value."""
    view: _Live | None = None
    found = []
    for key, value in wanted.items():
        if key in live and same(live[key], value):
            continue
        if value == {} and key not in live:
            # An object that has members is there, without a leaf of its own.
            view = view or _Live(live)
            if view.below(key):
                continue
        found.append(key)
    return found


def plan(
    wanted: Leaves,
    live: Leaves,
    ledger: Ledger,
    digests: Digests,
    *,
    override: bool,
    prune: bool,
    delivered: bool,
    foreign: Iterable[str] = (),
) -> Delta:
    """What to write at the agent that holds ``live``.

    Args:
        wanted: leaves to stand below the prefix.
        delivered: this version was written before, so that a leaf that is to be gone, and is there with another
            value than ours, was made since.
        foreign: relative keys that other SwarmConfigs own: they are never deleted.
    """
    owners = set(foreign)
    view = _Live(live)

    def ours(key: str) -> bool:
        return key in ledger and digests.leaf(live[key]) in ledger[key]

    def is_known(key: str) -> bool:
        """Whether every agent has had the leaf, so that somebody deleted it if it is not there."""
        return key in ledger and ledgers.ABSENT not in ledger[key]

    deletes: list[str] = []
    gone: list[str] = []
    drifted: list[str] = []
    disowned: list[str] = []
    for key in ledger:
        if key in wanted:
            continue
        is_live = key in live
        left_alone = is_live and (delivered or not override) and not ours(key)
        if key in owners or left_alone or not (is_live or prune):
            disowned.append(key)
        elif prune:
            gone.append(key)
            if is_live:
                deletes.append(key)
    going = set(deletes)
    remaining = {key: value for key, value in live.items() if key not in going}
    sets: dict[str, Any] = {}
    kept: list[str] = []
    for key in missing(remaining, wanted):
        touched = [*([key] if key in remaining else []), *view.above(key)]
        if wanted[key] != {}:
            touched += [leaf for leaf in view.below(key) if leaf in remaining]
        others = not all(map(ours, touched)) if touched else is_known(key)
        if others and key in ledger:
            drifted.append(key)
        if others and not override:
            kept.append(key)
        else:
            sets[key] = wanted[key]
    written = {key: digests.leaf(value) for key, value in sets.items()}
    # What stands there already is ours from now on, even if it never needed writing.
    written |= {
        key: digests.leaf(value)
        for key, value in wanted.items()
        if key not in sets and key not in kept
    }
    replaced = {key: digests.leaf(live[key]) if key in live else ledgers.ABSENT for key in sets}
    ahead = ledgers.with_written(ledgers.without(ledger, disowned), written, replaced)
    return Delta(sets, tuple(deletes), tuple(drifted), tuple(kept), tuple(gone), ahead)


def overlay(delta: Delta) -> dict[str, Any]:
    """A plan as the leaves of a merge patch (RFC 7396) over what is there; None deletes.

    What the patch does by itself is left out: a value replaces what was above and below it, and an object that loses
    all its members stays as an empty one.
    """
    sets, deletes = delta.sets, set(delta.deletes)
    for key in sets:
        deletes.difference_update(keys.ancestors(key))
    deletes = {
        key for key in deletes if all(sets.get(above, {}) == {} for above in keys.ancestors(key))
    }
    emptied = {above for key in deletes for above in keys.ancestors(key)}
    return {
        **dict.fromkeys(sorted(deletes)),
        **{key: value for key, value in sets.items() if value != {} or key not in emptied},
    }
