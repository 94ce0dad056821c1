"""Load for ``gossip benchmark`` in a cluster: a thread and a connection to the API server for each writer.

The API server passes nothing of an answer on while a request is still being sent, so a writer cannot stream its
updates: it sends as many as it may have outstanding in one request, and the next when all are acknowledged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from time import monotonic

from gossipctl.backend import Agent
from gossipctl.failures import CommandFailed
from gossipctl.load_generator import Load, Plan, writer_key
from gossipctl.refusals import translate
from gossipswarm_client.calls import Line
from gossipswarm_client.errors import GossipSwarmError


def run(agents: Sequence[Agent], plan: Plan, progress: Callable[[int], None]) -> Load:
    """Write everything, one writer at each of the first ``plan.writers`` agents; ``progress`` is told how many more
    were acknowledged.

    Raises:
        Unreachable: an agent does not answer.
        CommandFailed: an agent refuses an update; the message has its reason.
    """
    if plan.writers > len(agents):
        raise ValueError(f"{plan.writers} writers need as many agents, not {len(agents)}")
    load = Load(monotonic(), 0.0, [], [])
    lock = threading.Lock()
    failed = threading.Event()

    def acknowledge(agent: Agent, seconds: float, number: int, traced: Sequence[str]) -> None:
        with lock:
            load.latencies.extend([seconds] * number)
            load.traced.extend((agent, dot) for dot in traced)
            progress(number)

    def write(number: int) -> None:
        try:
            _write(agents[number], plan, number, acknowledge, failed)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(max_workers=plan.writers) as pool:
        writing = [pool.submit(write, number) for number in range(plan.writers)]
        try:
            for each in writing:
                each.result()
        finally:
            failed.set()
    return load._replace(seconds=monotonic() - load.started)


def _write(
    agent: Agent,
    plan: Plan,
    number: int,
    acknowledge: Callable[[Agent, float, int, Sequence[str]], None],
    failed: threading.Event,
) -> None:
    updates = iter(range(number, plan.updates, plan.writers))
    keys = writer_key(plan, number)
    while group := list(islice(updates, plan.pipeline)):
        if failed.is_set():
            return
        lines = [
            Line(f"{keys}.u{update}", update, trace=update % plan.traced_every == 0)
            for update in group
        ]
        sent = monotonic()
        try:
            acks = list(agent.batch(lines))
        except GossipSwarmError as error:
            raise translate(error) or CommandFailed(str(error)) from None
        for ack in acks:
            if ack.error is not None:
                reason = ack.error.get("detail", "it gave no reason")
                raise CommandFailed(f"agent {agent.name} refused an update: {reason}")
        traced = [ack.dot for line, ack in zip(lines, acks, strict=True) if line.trace]
        acknowledge(agent, monotonic() - sent, len(group), traced)
