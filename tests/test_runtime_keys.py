"""Keys that come from a mounted Secret: every agent may restart at every point of a rotation and is let in again."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agents import config_of, put, running, seed_of
from gossipswarm_agent.runtime.agent import Agent
from gossipswarm_agent.runtime.config import AgentConfig
from gossipswarm_agent.runtime.configuration import read_keys
from gossipswarm_agent.runtime.keyring import key_id
from loopback import until

OLD, NEW = (os.urandom(32) for _ in range(2))


def id_of(key: bytes) -> str:
    return key_id(key).hex()


def text_of(key: bytes) -> str:
    return base64.b64encode(key).decode()


class Secret:
    """A Secret as a kubelet mounts it: hidden entries, and links that flip."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "keys"
        self.path.mkdir()
        self._revision = 0

    def holds(self, primary: bytes, *secondary: bytes) -> None:
        self._revision += 1
        real = self.path / f"..revision-{self._revision}"
        real.mkdir()
        names = [f"primary-{id_of(primary)}", *(f"secondary-{id_of(key)}" for key in secondary)]
        for name, key in zip(names, (primary, *secondary), strict=True):
            (real / name).write_text(text_of(key))
        flip = self.path / "..data_tmp"
        flip.symlink_to(real.name)
        flip.replace(self.path / "..data")
        for link in self.path.iterdir():
            if link.name[0] != "." and link.name not in names:
                link.unlink()
        for name in names:
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")

    def keys(self) -> list[bytes]:
        return read_keys(self.path)


class Pods:
    """Agents that start again with what the Secret holds at that moment."""

    def __init__(self, secret: Secret, directory: Path, keeps: bool) -> None:
        self._secret = secret
        self._directory = directory
        self._keeps = keeps
        self.agents: list[Agent] = []

    def _config(self, number: int) -> AgentConfig:
        return config_of(
            f"pod-{number}",
            data_dir=self._directory / f"pod-{number}" if self._keeps else None,
            keys=self._secret.keys(),
            seeds=[seed_of(agent) for agent in self.agents],
        )

    async def add(self) -> None:
        agent = await Agent.start(self._config(len(self.agents)))
        self.agents.append(agent)

    async def restart(self, number: int) -> None:
        await self.agents[number].stop()
        self.agents[number] = await Agent.start(self._config(number))
        await self.together()

    async def together(self) -> None:
        """All have met, and a write of each reaches all."""
        others = len(self.agents) - 1
        await until(
            lambda: all(a.ready and len(a.node.membership.live()) == others for a in self.agents),
            60,
        )
        for agent in self.agents:
            stamp = os.urandom(4).hex()
            await agent.write(put(f"from.{agent.config.name}", stamp))
            await until(lambda: self._all_hold(agent, stamp), 40)  # noqa: B023 - it is over before the next

    def _all_hold(self, writer: Agent, stamp: str) -> bool:
        found = [agent.read(f"from.{writer.config.name}") for agent in self.agents]
        return all(reading is not None and reading.value == stamp for reading in found)

    async def stop(self) -> None:
        for agent in self.agents:
            await agent.stop()
            assert agent.driver.defects == 0


def held_by(agents: Sequence[Agent]) -> list[list[str]]:
    return [agent.keys() for agent in agents]


@pytest.mark.parametrize("keeps", [True, False], ids=["volumes kept", "volumes lost"])
async def test_a_pod_restarts_at_every_point_of_a_rotation(tmp_path: Path, keeps: bool) -> None:
    secret = Secret(tmp_path)
    secret.holds(OLD)
    async with AsyncExitStack() as stack:
        pods = Pods(secret, tmp_path, keeps)
        stack.push_async_callback(pods.stop)
        for _ in range(3):
            await pods.add()
        await pods.together()

        secret.holds(OLD, NEW)
        await pods.restart(0)  # it has the new key before the others
        pods.agents[1].install_key(text_of(NEW))
        await pods.restart(1)
        await pods.restart(2)
        assert held_by(pods.agents) == [[id_of(OLD), id_of(NEW)]] * 3

        secret.holds(NEW, OLD)
        await pods.restart(0)  # it seals with the new key before the others
        pods.agents[1].use_key(id_of(NEW))
        await pods.restart(1)
        await pods.restart(2)
        assert held_by(pods.agents) == [[id_of(NEW), id_of(OLD)]] * 3

        secret.holds(NEW)
        await pods.restart(0)  # it refuses the old key before the others
        pods.agents[1].remove_key(id_of(OLD))
        await pods.restart(1)
        await pods.restart(2)
        assert held_by(pods.agents) == [[id_of(NEW)]] * 3


async def test_a_mount_that_is_behind_brings_no_removed_key_back(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running(config_of("a", data_dir=data, keys=[OLD])) as agent:
        agent.install_key(text_of(NEW))
        agent.use_key(id_of(NEW))
        agent.remove_key(id_of(OLD))
    async with running(config_of("a", data_dir=data, keys=[NEW, OLD])) as agent:
        assert agent.keys() == [id_of(NEW)]
    async with running(config_of("a", data_dir=data, keys=[OLD])) as agent:
        assert agent.keys() == [id_of(NEW)], "as it was configured when the key was removed"


async def test_a_removed_key_counts_again_when_it_is_installed_or_all_that_is_configured(
    tmp_path: Path,
) -> None:
    data, other = tmp_path / "data", os.urandom(32)
    async with running(config_of("a", data_dir=data, keys=[OLD, NEW])) as agent:
        agent.remove_key(id_of(NEW))
    async with running(config_of("a", data_dir=data, keys=[NEW])) as agent:
        assert agent.keys() == [id_of(NEW)]
    async with running(config_of("a", data_dir=data, keys=[other, NEW])) as agent:
        assert agent.keys() == [id_of(other)]
        agent.install_key(text_of(NEW))
    async with running(config_of("a", data_dir=data, keys=[NEW, other, OLD])) as agent:
        assert agent.keys() == [id_of(NEW), id_of(other), id_of(OLD)]


def test_the_file_of_the_primary_comes_first_in_a_mount(tmp_path: Path) -> None:
    secret = Secret(tmp_path)
    for primary, *secondary in ([OLD], [OLD, NEW], [NEW, OLD], [NEW]):
        secret.holds(primary, *secondary)
        assert secret.keys() == [primary, *secondary]
