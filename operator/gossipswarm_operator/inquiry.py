"""Asking agents, and remembering what cannot have changed without a sign that every look shows.

Every look asks every agent for what it says of itself, and nothing else by itself:

- Which keys an agent holds is asked again when its process or pod is another one, when the Secret holds other keys, when it did
  not hold just those, and after ten minutes, for keys that somebody changed by hand.
- The parameters are part of the replicated state, so they are asked again only when the state of the agent that said them is
  another one.

Nothing of this is written down: an operator that starts asks for everything once.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from gossipswarm_operator.agent_documents import AgentAddress, AgentError, AgentInfo
from gossipswarm_operator.agents_api import AgentsApi, ask_all
from gossipswarm_operator.agreement import ARRIVED_SECONDS, Agreement
from gossipswarm_operator.keyring import Ring
from gossipswarm_operator.model import Swarm
from gossipswarm_operator.observed import Pod

KEYS_SECONDS: Final = 600.0
"""After which an agent is asked for its keys though nothing hints at a change; each at a time of its own."""
RECEIPTS_ASKED: Final = 32
"""Agents asked in one look how far a traced write of theirs has come; of more, so many at random."""

Process = tuple[str, str]
"""Uid of a pod and start of the agent in it."""


class _Keys(msgspec.Struct, frozen=True):
    process: Process
    ring: tuple[str, ...]
    """Ids that the Secret held when the agent was asked."""
    held: tuple[str, ...]
    due: float


class _Settings(msgspec.Struct, frozen=True):
    agent: str
    process: Process
    state: str
    settings: Mapping[str, Any]


class Answers(msgspec.Struct, frozen=True):
    """What agents said, by name."""

    infos: Mapping[str, AgentInfo]
    silent: Mapping[str, str]
    """Those who did not answer, and why."""
    keys: Mapping[str, tuple[str, ...]]
    settings: Mapping[str, Any] | None
    delivered: bool | None
    """See ``agreement``; None also while all agents hold the same."""


class Inquiry:
    """Asks the agents of one swarm. ``clock`` gives seconds and never goes back."""

    def __init__(self, agents: AgentsApi, clock: Callable[[], float]) -> None:
        self._agents = agents
        self._clock = clock
        self._keys: dict[str, _Keys] = {}
        self._settings: _Settings | None = None
        self._agreement = Agreement()

    async def ask(
        self,
        swarm: Swarm,
        addresses: Sequence[AgentAddress],
        pods: Sequence[Pod],
        ring: Ring | None,
    ) -> Answers:
        """Ask whoever can be asked. ``ring``: the keys of the swarm's Secret, if it has them."""
        found = await ask_all(addresses, self._agents.info)
        infos, silent = {}, {}
        for name, info in found.items():
            if isinstance(info, AgentError):
                silent[name] = info.detail
            elif info.swarm != swarm.uid:
                silent[name] = "it is an agent of another swarm"
            else:
                infos[name] = info
        uids = {pod.name: pod.uid for pod in pods}
        processes = {name: (uids[name], info.started_at) for name, info in infos.items()}
        there = [agent for agent in addresses if agent.name in infos]
        return Answers(
            infos,
            silent,
            await self._keys_of(there, processes, ring) if swarm.encrypted else {},
            await self._settings_of(there, processes, infos),
            await self._delivered(there, infos),
        )

    # --- keys -------------------------------------------------------------------------------------

    async def _keys_of(
        self,
        agents: Sequence[AgentAddress],
        processes: Mapping[str, Process],
        ring: Ring | None,
    ) -> dict[str, tuple[str, ...]]:
        wanted = ring.ids if ring is not None else ()
        now = self._clock()
        known = {
            name: keys
            for name, keys in self._keys.items()
            if processes.get(name) == keys.process
            and keys.held == keys.ring == wanted
            and now < keys.due
        }
        asked = await ask_all(
            [agent for agent in agents if agent.name not in known], self._agents.keyring
        )
        for name, held in asked.items():
            if not isinstance(held, AgentError):
                process = processes[name]
                due = now + KEYS_SECONDS * _share(process[0])
                known[name] = _Keys(process, wanted, tuple(held), due)
        self._keys = known
        return {name: keys.held for name, keys in known.items()}

    # --- parameters -------------------------------------------------------------------------------

    async def _settings_of(
        self,
        agents: Sequence[AgentAddress],
        processes: Mapping[str, Process],
        infos: Mapping[str, AgentInfo],
    ) -> Mapping[str, Any] | None:
        """The parameters as one ready agent applies them: the one that said them last, if it can."""
        known = self._settings
        said_by = known.agent if known is not None else ""
        for agent in sorted(agents, key=lambda agent: agent.name != said_by):
            info, process = infos[agent.name], processes[agent.name]
            if not info.ready:
                continue
            if known is not None and (known.agent, known.process, known.state) == (
                agent.name,
                process,
                info.state_hash,
            ):
                return known.settings
            try:
                settings = (await self._agents.config(agent)).settings
            except AgentError:
                continue
            self._settings = _Settings(agent.name, process, info.state_hash, settings)
            return settings
        return None

    # --- delivery ---------------------------------------------------------------------------------

    async def _delivered(
        self, agents: Sequence[AgentAddress], infos: Mapping[str, AgentInfo]
    ) -> bool | None:
        """Whether writes that are some seconds old are everywhere, where agents hold different states."""
        if not self._agreement.look(infos, self._clock()):
            return None
        due = self._agreement.due(self._clock())
        asked = [agent for agent in agents if agent.name in due]
        if len(asked) > RECEIPTS_ASKED:
            asked = random.sample(asked, RECEIPTS_ASKED)

        async def arrived(agent: AgentAddress) -> bool | None:
            found = await self._agents.receipts(agent, due[agent.name])
            if found is None:
                return None
            return found.full_ms is not None and found.full_ms <= ARRIVED_SECONDS * 1000

        answers = await ask_all(asked, arrived)
        known = [answer for answer in answers.values() if isinstance(answer, bool)]
        return self._agreement.judge(known, self._clock())


def _share(uid: str) -> float:
    """Between a half and one, always the same for one uid."""
    return 0.5 + zlib.crc32(uid.encode()) / (1 << 33)
