"""The stories' ledger finds what an agent lacks: a check that finds nothing proves nothing otherwise."""

from __future__ import annotations

import pytest
from e2e import ledger
from e2e.cluster import Failed
from e2e.disturbances import agreed


class Agent:
    def __init__(self, name: str, region: str, held: dict, state_hash: str = "same") -> None:
        self.name, self.region, self.held, self.state_hash = name, region, held, state_hash

    def set(self, key: str, value: int, timeout: float) -> None:
        _, writer, number = key.split(".")
        self.held.setdefault(writer, {})[number] = value

    def agent(self) -> Agent:
        return self


class Swarm:
    """Agents that hold what they are given."""

    def __init__(self, *agents: Agent) -> None:
        self._agents = list(agents)

    def agents(self) -> list[Agent]:
        return self._agents

    def everywhere(self, key: str) -> dict[str, dict]:
        return {agent.name: agent.held for agent in self._agents}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(ledger, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(ledger, "PAUSE", 0.0)


def written(*agents: Agent) -> ledger.Ledger:
    with ledger.Ledger(Swarm(*agents)) as kept:
        while len(kept.by_region()) < len({agent.region for agent in agents}):
            pass
    return kept


def test_a_ledger_whose_lines_all_agents_hold_is_complete():
    held = {}
    east, west = Agent("a", "east", held), Agent("b", "west", held)
    kept = written(east, west)
    assert kept.by_region().keys() == {"east", "west"}
    assert kept.by_region().total() == len(kept.lines)
    kept.check(agents=2)
    with pytest.raises(Failed, match="at 3 agents"):
        kept.check(agents=3)


@pytest.mark.parametrize("change", ["forgotten", "older"])
def test_a_line_that_one_agent_lacks_is_named(change):
    held = {}
    agent = Agent("a", "east", held)
    kept = written(agent)
    line = next(iter(kept.lines))
    writer, number = line.split(".")
    if change == "forgotten":
        del held[writer][number]
    else:
        held[writer][number] = 0
    with pytest.raises(Failed, match=rf"'a': \(1, \['{line}'\]\)"):
        kept.check(agents=1)


def test_agents_with_two_states_do_not_agree():
    same, other = Agent("a", "east", {}), Agent("b", "west", {}, "other")
    agreed(Swarm(same), 1, 0.0)
    with pytest.raises(Failed, match="'b': 'other'"):
        agreed(Swarm(same, other), 2, 0.0)
