"""The same question to many agents, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from gossipctl.backend import Agent
from gossipctl.failures import CommandFailed
from gossipctl.refusals import translate
from gossipswarm_client.errors import GossipSwarmError

AT_ONCE = 8
"""Enough to hide the waiting; the agents share the machine with us."""

Answer = TypeVar("Answer")


def ask(
    agents: Sequence[Agent], question: Callable[[Agent], Answer], *, at_once: int = AT_ONCE
) -> Iterator[tuple[Agent, Answer | CommandFailed]]:
    """Each agent with its answer or why there is none, in the order in which they come."""
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        asked = {pool.submit(_carefully, question, agent): agent for agent in agents}
        try:
            for answered in as_completed(asked):
                yield asked[answered], answered.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _carefully(question: Callable[[Agent], Answer], agent: Agent) -> Answer | CommandFailed:
    try:
        return question(agent)
    except CommandFailed as failure:
        return failure
    except GossipSwarmError as error:
        return translate(error) or CommandFailed(str(error))
