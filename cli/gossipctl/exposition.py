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
                if not name.endswith("_created") and name not in families:
                    # Also one of which nothing has been counted yet.
                    families[name] = Family(name, kind, texts.get(name, ""), {})
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


class Distribution(NamedTuple):
    """One series of a histogram, over all agents."""

    labels: tuple[tuple[str, str], ...]
    buckets: dict[float, float]
    """Upper bound to observations at or below it."""
    total: float
    observed: float

    @property
    def mean(self) -> float | None:
        """None without observations."""
        return self.total / self.observed if self.observed else None

    def quantile(self, share: float) -> float | None:
        """The bound of the bucket that it falls into; None without observations."""
        if not self.observed:
            return None
        return next(
            bound for bound, seen in sorted(self.buckets.items()) if seen >= share * self.observed
        )


def distributions(family: Family) -> list[Distribution]:
    """A histogram's series, each put together from its samples."""
    buckets: dict[tuple[tuple[str, str], ...], dict[float, float]] = {}
    figures: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for (sample, labels), values in family.samples.items():
        bound = dict(labels).get("le")
        if bound is None:
            figures[sample.removeprefix(f"{family.name}_"), labels] = sum(values)
        else:
            rest = tuple(label for label in labels if label[0] != "le")
            buckets.setdefault(rest, {})[float(bound)] = sum(values)
    return [
        Distribution(
            labels, bounds, figures.get(("sum", labels), 0.0), figures.get(("count", labels), 0.0)
        )
        for labels, bounds in buckets.items()
    ]
