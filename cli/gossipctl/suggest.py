"""What the user probably meant."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like ``word``, or None when nothing is close enough to be worth saying."""
    from difflib import get_close_matches

    by_folded = {candidate.lower().replace("_", "-"): candidate for candidate in known}
    folded = word.lower().replace("_", "-")
    if folded in by_folded:
        return by_folded[folded]
    near = get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    return by_folded[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str], *, otherwise: str | None = None) -> str | None:
    """A hint naming the nearest known word; ``otherwise`` when there is none."""
    near = nearest(word, known)
    return f"did you mean {near}?" if near else otherwise


def listing(words: Iterable[str], *, last: str = "and", limit: int = 12) -> str:
    """``a, b and c``; long lists are cut short and say so."""
    known = list(words)
    if len(known) > limit:
        return f"{', '.join(known[:limit])} and {len(known) - limit} more"
    return f" {last} ".join(part for part in (", ".join(known[:-1]), *known[-1:]) if part)
