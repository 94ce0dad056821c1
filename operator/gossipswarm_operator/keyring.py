"""How a swarm comes to other keys while it runs: a state machine without state of its own.

What is wanted is in the keyring Secret, what is so is what agents report; from the two follows what may be done now,
so that an operator that stops anywhere is continued by the next one::

    Secret [old]                  generation raised  ->  [old, new], next=new
    Install  [old, new] next=new  every agent holds both, seals with old  ->  [new, old]
    Use      [new, old]           every agent seals with new              ->  [new]
    Remove   [new]                agents that still hold old are told to remove it

Why it is safe: a frame is refused only by an agent that lacks the key that it is sealed with. Nobody seals with *new*
before everyone holds it (the gate before Use), and nobody drops *old* while anyone seals with it (the gate before
Remove). An agent that restarts reads the Secret, in which the key to seal with comes first, so it is never ahead of the
others. To install a key is safe at any time; the other steps wait until every agent that ought to exist has reported,
and while the swarm is partitioned: an agent that cannot be heard may be anywhere between two steps.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from gossipswarm_operator.names import GENERATION_ANNOTATION, GROUP, PRIMARY_ANNOTATION

Step = Literal["Idle", "Install", "Use", "Remove"]

NEXT_ANNOTATION: Final = f"{GROUP}/next-key"
"""On the keyring Secret: id of the key that is being installed and will seal later."""
KEY_BYTES: Final = 32


class InvalidKeyring(ValueError):
    """The Secret holds no keys, or something else; the message says what."""


class Key(msgspec.Struct, frozen=True):
    """A key of 32 bytes, in base64."""

    material: str

    @property
    def id(self) -> str:
        """Public name of the key: the first four bytes of its SHA-256 in hex."""
        return hashlib.sha256(base64.b64decode(self.material)).hexdigest()[:8]


class Ring(msgspec.Struct, frozen=True):
    """Keys as a Secret holds them: the first one seals."""

    keys: tuple[Key, ...]
    generation: int = 0
    next: str | None = None
    """Id of the key that is to seal once every agent holds it."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the keys, in order."""
        return tuple(key.id for key in self.keys)

    @property
    def primary(self) -> str:
        """Id of the key that seals."""
        return self.keys[0].id

    def data(self) -> dict[str, bytes]:
        """The Secret's data. Agents read files in the order of their names."""
        return {
            f"{'secondary' if index else 'primary'}-{key.id}": (key.material + "\n").encode()
            for index, key in enumerate(self.keys)
        }

    def annotations(self) -> dict[str, str]:
        """The Secret's annotations."""
        found = {PRIMARY_ANNOTATION: self.primary, GENERATION_ANNOTATION: str(self.generation)}
        return found | ({NEXT_ANNOTATION: self.next} if self.next is not None else {})


def read_ring(secret: Mapping[str, Any]) -> Ring:
    """The ring of a Secret, ours or somebody's own. Raises InvalidKeyring."""
    keys = []
    for name, content in sorted((secret.get("data") or {}).items()):
        try:
            lines = base64.b64decode(content, validate=True).decode("ascii").split()
            if any(len(base64.b64decode(line, validate=True)) != KEY_BYTES for line in lines):
                raise ValueError
        except (ValueError, binascii.Error):
            raise InvalidKeyring(f"{name} is not a key: {KEY_BYTES} bytes in base64") from None
        keys += [Key(line) for line in lines]
    if not keys:
        raise InvalidKeyring("it holds no key")
    annotations = secret["metadata"].get("annotations") or {}
    generation = annotations.get(GENERATION_ANNOTATION, "0")
    return Ring(
        tuple(keys),
        int(generation) if generation.isdigit() else 0,
        annotations.get(NEXT_ANNOTATION),
    )


class Decision(msgspec.Struct, frozen=True):
    """What may be done now. ``ring`` is what the Secret ought to hold; None = it is not there and not ours."""

    ring: Ring | None
    step: Step
    install: Mapping[str, tuple[Key, ...]] = {}
    """By agent: keys that it lacks."""
    use: tuple[str, ...] = ()
    """Agents that seal with another key than the first."""
    remove: Mapping[str, tuple[str, ...]] = {}
    """By agent: ids of keys that nobody wants any more."""
    before_secret: bool = False
    """Agents have to hold the keys before the Secret says so."""
    waiting: str | None = None
    """What the next step waits for."""
    silent: tuple[str, ...] = ()
    """Agents that ought to exist and did not say what they hold."""
    in_sync: bool = False
    """Every agent holds just what the Secret does."""


def decide(
    ring: Ring | None,
    wanted_generation: int,
    held: Mapping[str, Sequence[str] | None],
    expected: Collection[str],
    *,
    fresh: Key | None,
    partitioned: bool,
) -> Decision:
    """The next step.

    ``held`` is what each agent holds, the key that it seals with first; None or absent = it did not say.
    ``expected`` are the agents that ought to exist. ``fresh`` is a new random key, or None for a Secret that is
    somebody's own: then its keys are what is wanted, and it is never written.
    """
    if ring is None:
        return _lost(wanted_generation, held, fresh)
    silent = tuple(sorted(name for name in expected if held.get(name) is None))
    known = {name: tuple(keys) for name, keys in held.items() if keys is not None}
    install = {
        name: lacking
        for name, keys in known.items()
        if (lacking := tuple(key for key in ring.keys if key.id not in keys))
    }
    use = tuple(sorted(name for name, keys in known.items() if keys[:1] != (ring.primary,)))
    remove = {
        name: extra
        for name, keys in known.items()
        if (extra := tuple(key for key in keys if key not in ring.ids))
    }
    step = _step(ring, install, use, remove)
    waiting = _waiting(silent, partitioned)
    if install:
        return Decision(ring, step, install=install, waiting=waiting, silent=silent)
    following = _following(ring, wanted_generation, fresh)
    if waiting is not None:
        pending = use or remove or following != ring
        in_sync = not pending and not silent
        return Decision(
            ring, step, waiting=waiting if pending else None, silent=silent, in_sync=in_sync
        )
    if use:
        return Decision(ring, step, use=use)
    if remove:
        return Decision(ring, step, remove=remove)
    return Decision(following, step, in_sync=following == ring)


def _lost(
    wanted_generation: int, held: Mapping[str, Sequence[str] | None], fresh: Key | None
) -> Decision:
    """There is no Secret: a new swarm, or somebody deleted it under running agents."""
    if fresh is None:
        return Decision(None, "Idle", waiting="the Secret with the keys is missing")
    ring = Ring((fresh,), wanted_generation)
    running = {name: (fresh,) for name, keys in held.items() if keys}
    # Agents still seal with a key that no Secret holds: whoever starts with the new one alone would be deaf.
    return Decision(ring, "Install" if running else "Idle", install=running, before_secret=True)


def _following(ring: Ring, wanted_generation: int, fresh: Key | None) -> Ring:
    """The Secret's next content, now that every agent is where the present one wants it."""
    if fresh is None:
        return ring
    if ring.next is not None and ring.next in ring.ids:
        ordered = sorted(ring.keys, key=lambda key: key.id != ring.next)
        return Ring(tuple(ordered), ring.generation)
    if len(ring.keys) > 1 or ring.next is not None:
        return Ring(ring.keys[:1], ring.generation)
    if ring.generation < wanted_generation:
        return Ring((*ring.keys, fresh), wanted_generation, fresh.id)
    return ring


def _step(
    ring: Ring,
    install: Mapping[str, tuple[Key, ...]],
    use: Sequence[str],
    remove: Mapping[str, tuple[str, ...]],
) -> Step:
    if ring.next is not None or install:
        return "Install"
    if use or (len(ring.keys) > 1 and ring.generation > 0):
        return "Use"
    return "Remove" if remove else "Idle"


def _waiting(silent: Sequence[str], partitioned: bool) -> str | None:
    if silent:
        rest = f" and {len(silent) - 3} more" if len(silent) > 3 else ""
        return f"waits for {', '.join(silent[:3])}{rest}"
    return "waits until the partition is over" if partitioned else None
