"""What the user probably meant."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like ``word``, or None when nothing is close enough to be worth saying."""
    wanted = _folded(word)
    best, least = None, len(wanted) // 3 + 1
    for candidate in known:
        folded = _folded(candidate)
        if abs(len(folded) - len(wanted)) <= least:
            mistakes = distance(wanted, folded)
            if mistakes < least or (mistakes == least and best is None):
                best, least = candidate, mistakes
    return best


def _folded(word: str) -> str:
    return word.lower().replace("_", "-")


def distance(first: str, second: str) -> int:
    """Typing mistakes between two words: letters left out, put in, wrong, or two swapped.

    Optimal string alignment. difflib, which knows nothing of swapped letters, takes us-esat for us-west.
    """
    before: list[int] = []
    above = list(range(len(second) + 1))
    for row, letter in enumerate(first, 1):
        current = [row]
        for column, other in enumerate(second, 1):
            cost = min(
                above[column] + 1, current[column - 1] + 1, above[column - 1] + (letter != other)
            )
            if row > 1 and column > 1 and (letter, first[row - 2]) == (second[column - 2], other):
                cost = min(cost, before[column - 2] + 1)
            current.append(cost)
        before, above = above, current
    return above[-1]


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
