"""Spread trees: whom an agent forwards a frame to, as a pure function of who is alive.

Every agent computes the same trees from the same view, so a frame needs no routing data beyond its
sender and the index of the tree. In each region the live members are put into an order drawn from
(root, tree) and read as a heap: position p forwards to its ``fanout`` children. Trees of one root with
different indices use different orders, so an agent that is a leaf in one is likely to be inside another.

    home region:    the root is the sender; its first ``fanout`` positions are its children
    other regions:  the first ``cross_region_fanout`` positions are entries, fed from outside

Agents whose views differ for a moment compute different trees; what is missed then is found by repair.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import gcd
from zlib import crc32


class Order:
    """A pseudo-random order of ``size`` places, computable in both directions in constant time.

    An affine map ``place = (a * position + b) mod size`` with ``a`` coprime to the size. Far from
    uniform over all permutations, but spread trees only need different roots to load different agents.
    """

    __slots__ = ("_inverse", "_multiplier", "_offset", "size")

    def __init__(self, seed: str, size: int) -> None:
        self.size = size
        digest = crc32(seed.encode())
        multiplier = 1 + digest % size
        while gcd(multiplier, size) != 1:
            multiplier += 1
        self._multiplier = multiplier
        self._inverse = pow(multiplier, -1, size) if size > 1 else 0
        self._offset = (digest >> 8) % size

    def place(self, position: int) -> int:
        """Index of the member at this position."""
        return (self._multiplier * position + self._offset) % self.size

    def position(self, place: int) -> int:
        """Position of the member with this index."""
        return ((place - self._offset) * self._inverse) % self.size


def children(position: int, roots: int, fanout: int, size: int) -> range:
    """Positions that ``position`` forwards to, in a forest of ``roots`` heaps over ``size`` positions."""
    first = roots + position * fanout
    return range(min(first, size), min(first + fanout, size))


def home_children(names: Sequence[str], root: str, me: str, tree: int, fanout: int) -> list[str]:
    """Members of the root's own region that ``me`` forwards to; ``names`` is sorted and holds the root."""
    size = len(names) - 1
    if size < 1:
        return []
    order = Order(f"{root}/{tree}", size)
    gap = bisect_left(names, root)  # places are counted without the root
    if me == root:
        below = range(min(fanout, size))
    else:
        index = bisect_left(names, me)
        if index > size or names[index] != me:
            return []
        below = children(order.position(index - (index > gap)), fanout, fanout, size)
    places = [order.place(position) for position in below]
    return [names[place + (place >= gap)] for place in places]


def entries(names: Sequence[str], root: str, tree: int, count: int) -> list[str]:
    """Members of another region that take the root's frames in from outside."""
    if not names:
        return []
    order = Order(f"{root}/{tree}", len(names))
    return [names[order.place(p)] for p in range(min(count, len(names)))]


def away_children(
    names: Sequence[str], root: str, me: str, tree: int, fanout: int, count: int
) -> list[str]:
    """Members of a region other than the root's that ``me``, one of them, forwards to; ``names`` is sorted."""
    size = len(names)
    index = bisect_left(names, me)
    if index >= size or names[index] != me:
        return []
    order = Order(f"{root}/{tree}", size)
    below = children(order.position(index), min(count, size), fanout, size)
    return [names[order.place(position)] for position in below]
