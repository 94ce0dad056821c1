"""The cut that an agent is born into, as a file that is there while there is such a cut.

Written by whoever cuts the swarm, for agents that start meanwhile: ``links`` are pairs of regions, ``a|b``, that do not
hear each other, the same for every agent; ``until_ms`` is when that ends by itself.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from gossipswarm_agent.runtime.config import ConfigError


class BirthCut(msgspec.Struct, frozen=True):
    """What one agent starts with."""

    regions: list[str] = []
    """It hears none of these, and is not heard there."""
    until_ms: int | None = None
    """Wall clock in ms; None = until somebody lifts it."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    links: list[str]
    until_ms: int | None = None


def read_birth_cut(path: Path, region: str) -> BirthCut:
    """The cut in a file for agents of this region; none if there is no file. Raises ConfigError."""
    try:
        found = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), _File)
    except FileNotFoundError:
        return BirthCut()
    except OSError as error:
        raise ConfigError(f"cut_file: cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigError(f"cut_file: {path}: {' '.join(str(error).split())}") from None
    beyond = set()
    for link in found.links:
        a, bar, b = link.partition("|")
        if not (a and bar and b) or "|" in b:
            raise ConfigError(f"cut_file: {path}: {link!r} is no pair of regions such as a|b")
        if region in (a, b):
            beyond.add(b if a == region else a)
    return BirthCut(sorted(beyond - {region}), found.until_ms)
