"""What ``examples/sidecar/measure.py`` asks of kubectl, answered without a cluster: pods see each release at once.

What was applied and deleted, and what pods have seen, is in the directory ``PRETENDED``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

PLACE = Path(os.environ["PRETENDED"])
PODS = 3


def main(arguments: list[str]) -> str:
    """What kubectl prints."""
    while arguments[0] in ("--context", "--namespace"):
        arguments = arguments[2:]
    match arguments:
        case ["kustomize", _]:
            return "image: python:3.12-alpine\nlabel: {gossipswarm.io/inject: quickstart}\nname: quickstart\n"
        case ["apply" | "delete" as verb, *_]:
            (PLACE / f"{verb}.yaml").write_text(sys.stdin.read())
            return ""
        case ["rollout", "status", *_]:
            return ""
        case ["config", "view", *_]:
            return "team"
        case ["get", "pods", *_]:
            pods = [{"metadata": {"name": f"shop-{number}"}} for number in range(PODS)]
            return json.dumps({"items": pods})
        case ["get", "--raw", path]:
            assert path.startswith("/api/v1/namespaces/") and path.endswith(":8080/proxy/seen"), (
                path
            )
            seen = PLACE / "seen.json"
            return seen.read_text() if seen.exists() else "{}"
        case ["exec", *_, value]:
            return see("/config/flags.json", json.loads(value)["release"])
        case ["patch", "swarmconfig", *_, patch]:
            return see("/config/settings.json", json.loads(patch)["spec"]["data"]["release"])
        case ["patch", "configmap", *_, patch]:
            flags = json.loads(json.loads(patch)["data"]["flags.json"])
            return see("/configmap/flags.json", flags["release"])
    raise SystemExit(f"unexpected: {arguments}")


def see(file: str, release: str) -> str:
    """All pods see it now; the time."""
    path, now = PLACE / "seen.json", time.time()
    seen = json.loads(path.read_text()) if path.exists() else {}
    seen.setdefault(file, {})[release] = now + 0.01
    path.write_text(json.dumps(seen))
    return str(now)


if __name__ == "__main__":
    print(main(sys.argv[1:]), end="")
