"""Prometheus text exposition, read for people: series of many agents added up."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

PREFIX = "gossipswarm_"
_SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)",?')
_SUFFIXES = ("_bucket", "_sum", "_count", "_total", "_created", "_info")


class Family(NamedTuple):
    """One metric: what it is, and its series by labels and by agent."""

    name: str
    kind: str
    explained: str
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], list[float]]
    """(sample's name, labels) to one value an agent."""


def collect(pages: Iterable[str]) -> dict[str, Family]:
    """All metrics on these pages, by name."""
    families: dict[str, Family] = {}
    kinds: dict[str, str] = {}
    texts: dict[str, str] = {}
    for page in pages:
        for line in page.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ", 3)
                kinds[name] = kind
            elif line.startswith("# HELP "):
                _, _, name, text = (line + " ").split(" ", 3)
                texts[name] = text.strip()
            elif line and line[0] != "#":
                _add(line, families, kinds, texts)
    return families


def _add(
    line: str, families: dict[str, Family], kinds: dict[str, str], texts: dict[str, str]
) -> None:
    found = _SAMPLE.match(line)
    if found is None or found[1].endswith("_created"):
        return
    sample = found[1]
    name = next(
        (
            sample.removesuffix(suffix)
            for suffix in _SUFFIXES
            if sample.endswith(suffix) and sample.removesuffix(suffix) in kinds
        ),
        sample,
    )
    family = families.get(name)
    if family is None:
        family = families[name] = Family(name, kinds.get(name, "untyped"), texts.get(name, ""), {})
    labels = tuple(_LABEL.findall(found[2] or ""))
    family.samples.setdefault((sample, labels), []).append(float(found[3]))


def resolve(wanted: str, known: Iterable[str]) -> str | None:
    """The metric's full name: the prefix may be left out, dashes may stand for underscores."""
    name = wanted.replace("-", "_")
    names = set(known)
    for candidate in (name, PREFIX + name):
        for full in (candidate, candidate.removesuffix("_total"), f"{candidate}_total"):
            if full in names:
                return full
    return None


def quantile(family: Family, share: float) -> float | None:
    """A quantile of a histogram over all its series; an upper bound, None without observations."""
    buckets: dict[float, float] = {}
    for (sample, labels), values in family.samples.items():
        bound = dict(labels).get("le")
        if sample.endswith("_bucket") and bound is not None:
            buckets[float(bound)] = buckets.get(float(bound), 0.0) + sum(values)
    total = max(buckets.values(), default=0.0)
    if not total:
        return None
    return next(bound for bound, seen in sorted(buckets.items()) if seen >= share * total)
