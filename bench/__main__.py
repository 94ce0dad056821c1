"""``python -m bench``: run benchmarks by name, all of them by default."""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

from bench.report import Result

NAMES = (
    "write_latency",
    "throughput",
    "partition",
    "rounds",
    "projection",
    "idle",
    "edges",
    "cli_cost",
    "restart",
    "scaling",
    "memberlist",
    "kube_reconcile",
)
RESULTS = Path(__file__).parent.parent / "docs" / "results"


def main(arguments: list[str] | None = None) -> int:
    """Run, print and write; the exit code is 1 if a benchmark could not be run to its end."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="small and short; writes no results")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where results are written")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(NAMES)}")
    failed = []
    for name in options.names or NAMES:
        print(f"--- {name}", file=sys.stderr, flush=True)
        begun = time.monotonic()
        try:
            result: Result = import_module(f"bench.{name}").run(quick=options.quick)
        except (OSError, RuntimeError, AssertionError) as error:
            failed.append(name)
            print(f"{name} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        print(result.markdown(), flush=True)
        if not options.quick:
            result.write(options.output)
        print(f"--- {name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
