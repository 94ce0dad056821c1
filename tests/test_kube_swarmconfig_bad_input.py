"""Values that cannot be delivered, on a real API server: said once, looked at again now and then, delivered once mended."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kube import Cluster
from swarmconfig_world import World, world

pytestmark = pytest.mark.kube

MEGABYTE = {f"k{n}": "x" * 1000 for n in range(240)}


@pytest.fixture
async def demo(cluster: Cluster, namespace: str) -> AsyncIterator[World]:
    async with world(cluster, namespace, "east") as made:
        yield made


async def is_said_once(demo: World, reason: str, words: str) -> None:
    """The condition and a warning say it, and looking again changes nothing."""
    await demo.until(lambda: demo.condition("settings", "Synced")[1] == reason)
    status, _, message = demo.condition("settings", "Synced")
    assert status == "False"
    assert words in message
    assert ("Warning", reason) in demo.events("settings")
    before = (demo.get("settings"), demo.events("settings"))
    wait = await demo.reconcile()
    assert wait is not None
    assert wait >= 1
    assert (demo.get("settings"), demo.events("settings")) == before
    assert demo.agents[0].holds("app") in (None, {"a": 1})


async def test_a_source_that_cannot_be_read_until_it_can(demo: World) -> None:
    demo.apply("settings", data={"a": 1})
    await demo.converged()
    sources = [{"configMapRef": {"name": "base", "key": "values.yaml"}}]
    demo.apply("settings", valuesFrom=sources)
    await is_said_once(demo, "SourceNotFound", "base")
    demo.config_map("base", {"values.yaml": "{"})
    demo.reconciler.notice((demo.namespace, "settings"))
    await is_said_once(demo, "SourceUnreadable", "values.yaml")
    demo.config_map("base", {"values.yaml": "b: 2"})
    demo.reconciler.notice((demo.namespace, "settings"))
    await demo.converged()
    assert demo.agents[0].holds("app") == {"b": 2}


async def test_more_than_a_megabyte_until_it_is_less(demo: World) -> None:
    demo.apply("settings", data={"a": 1})
    await demo.converged()
    for part in range(5):
        demo.config_map(f"part{part}", {f"{part}-{name}": v for name, v in MEGABYTE.items()})
    sources = [{"configMapRef": {"name": f"part{part}"}} for part in range(5)]
    demo.apply("settings", valuesFrom=sources)
    await is_said_once(demo, "TooLarge", "bytes; give parts of it to SwarmConfigs")
    demo.apply("settings", valuesFrom=sources[:4])
    await demo.converged()
    assert len(demo.agents[0].holds("app")) == 4 * len(MEGABYTE)
