"""What it costs to import the client: every call of the CLI pays it."""

from __future__ import annotations

import subprocess
import sys

import gossipswarm_client

HEAVY = ("aiohttp", "msgspec", "asyncio", "ssl", "http.client", "email", "urllib", "dataclasses")


def _loaded(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_none_of_its_modules():
    loaded = _loaded("import gossipswarm_client")

    assert [name for name in loaded if name.startswith("gossipswarm_client.")] == []


def test_the_blocking_client_imports_nothing_heavy():
    loaded = _loaded("import gossipswarm_client\ngossipswarm_client.Client('http://localhost')")

    assert [name for name in HEAVY if name in loaded] == []


def _cpu_seconds(statement: str) -> float:
    code = (
        "import time, json, socket, typing\n"  # which any program of this kind has
        "started = time.process_time()\n"
        f"{statement}\n"
        "print(time.process_time() - started)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_the_blocking_client_is_cheap_to_import():
    client, known = [], []
    for _ in range(7):
        client.append(_cpu_seconds("from gossipswarm_client import Client"))
        known.append(_cpu_seconds("import asyncio"))

    # 30 ms, where asyncio takes as much: a machine that is slow, or busy, is so for both.
    assert min(client) < min(known)


def test_every_exported_name_is_there():
    for name in gossipswarm_client.__all__:
        assert getattr(gossipswarm_client, name).__name__ == name
    assert set(gossipswarm_client.__all__) == set(gossipswarm_client._HOMES)
    assert set(gossipswarm_client.__all__) <= set(dir(gossipswarm_client))
