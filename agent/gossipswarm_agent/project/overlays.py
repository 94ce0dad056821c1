"""The value that a reader of configuration sees: the prefix, and the trial of its region on top of it.

A version on trial stands at ``canary.<region>.<prefix>`` as a JSON merge patch (RFC 7396) of the prefix; see decision 14.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from msgspec.structs import replace

from gossipswarm_agent.core import paths
from gossipswarm_agent.core.results import Reading


class Reads(Protocol):
    """Whoever holds state: an agent, or an edge."""

    def read(self, key: str) -> Reading | None:
        """The visible value of a key; None if there is nothing at or below it."""


class View(NamedTuple):
    """What there is to see at a prefix, from one region."""

    value: Any
    """None where there is nothing: ``null`` as a value is no configuration either."""
    version: int
    """Of the prefix; 0 = nothing is there."""
    etag: str
    """Of the prefix, and of what is on trial after a ``+``."""
    on_trial: bool
    updated_ms: int
    """Wall clock of the newest write that is visible, at its origin; 0 = nothing is there."""
    dot: str
    """``origin:sequence`` of that write."""


def trial_key(region: str, prefix: str) -> str:
    """Where versions on trial stand for this region."""
    return f"canary.{paths.escape(region)}.{prefix}"


def view(state: Reads, region: str, prefix: str) -> View:
    """What a reader in ``region`` sees at ``prefix``."""
    base, trial = state.read(prefix), _trial(state, region, prefix)
    newest = max(
        (found for found in (base, trial) if found is not None),
        key=lambda found: found.updated_ms,
        default=None,
    )
    if newest is None:
        return View(None, 0, "", False, 0, "")
    value = None if base is None else base.value
    etag = "" if base is None else base.etag
    if trial is not None:
        value, etag = merge_patch(value, trial.value), f"{etag}+{trial.etag}"
    return View(
        value,
        0 if base is None else base.version,
        etag,
        trial is not None,
        newest.updated_ms,
        newest.dot,
    )


def _trial(state: Reads, region: str, prefix: str) -> Reading | None:
    """The patch on trial. One that takes away or replaces what the prefix is part of concerns it too."""
    found = state.read(trial_key(region, prefix))
    if found is not None:
        return found
    for above in paths.ancestors(prefix):
        outer = state.read(trial_key(region, above))
        if outer is not None:
            # An object without this member leaves the prefix as it is.
            return None if isinstance(outer.value, dict) else replace(outer, value=None)
    return None


def merge_patch(target: Any, patch: Any) -> Any:
    """``target`` with an RFC 7396 merge patch applied; neither is changed."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged
