"""``make fuzz``: the simulator's property tests under seeds that nobody has tried yet, for as long as it is given.

A failing seed is printed with the line that repeats it. It becomes a regression test once it is understood.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import islice

import test_swarm_invariants as invariants

PROPERTIES: dict[str, Callable[[int], None]] = {
    "accounted": invariants.test_accounted_every_acknowledged_write_is_current_superseded_or_in_the_history,
    "convergent": invariants.test_convergent_agents_that_saw_the_same_have_the_same_state,
}
ROUND = 16
"""Runs between two looks at the clock."""


def attempt(name: str, seed: int) -> str | None:
    """How a property fails under a seed; None if it holds."""
    try:
        PROPERTIES[name](seed)
    except Exception:  # noqa: BLE001 - whatever it is, it is a finding
        return traceback.format_exc(limit=-3)
    return None


def explore(seconds: float) -> int:
    """Try seeds until time is over; the exit code is 1 if any failed."""
    ends = time.monotonic() + seconds
    runs = failures = 0
    plan = _plan(random.SystemRandom())
    with ProcessPoolExecutor() as pool:
        while time.monotonic() < ends:
            futures = {pool.submit(attempt, *each): each for each in islice(plan, ROUND)}
            for future in as_completed(futures):
                name, seed = futures[future]
                runs += 1
                if (failure := future.result()) is not None:
                    failures += 1
                    print(f"\n{name} fails with seed {seed}:\n{failure}", flush=True)
                    print(f"again with: python tests/fuzz.py --property {name} --seed {seed}")
            print(f"\r{runs} runs, {failures} failures", end="", file=sys.stderr, flush=True)
    print(f"\n{runs} runs of {len(PROPERTIES)} properties, {failures} failures")
    return int(failures > 0)


def _plan(chance: random.Random) -> Iterator[tuple[str, int]]:
    while True:
        seed = chance.randrange(1 << 32)
        for name in PROPERTIES:
            yield name, seed


def main() -> int:
    """Explore, or repeat one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to explore")
    parser.add_argument("--property", choices=sorted(PROPERTIES), default="accounted")
    parser.add_argument("--seed", type=int, help="repeat this run instead")
    options = parser.parse_args()
    if options.seed is None:
        return explore(options.seconds)
    failure = attempt(options.property, options.seed)
    print(failure or f"{options.property} holds with seed {options.seed}")
    return int(failure is not None)


if __name__ == "__main__":
    sys.exit(main())
