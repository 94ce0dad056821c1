"""From what the core and the runtime know to what the API says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from gossipswarm_agent.api import types
from gossipswarm_agent.api.limits import MAX_WAIT_MS
from gossipswarm_agent.api.problems import Problem
from gossipswarm_agent.api.times import timestamp
from gossipswarm_agent.core import clock
from gossipswarm_agent.core.members import STATES
from gossipswarm_agent.core.messages import Loss
from gossipswarm_agent.core.versions import agent_of
from gossipswarm_agent.runtime.clocks import read_clocks
from gossipswarm_agent.runtime.metrics import program_version

if TYPE_CHECKING:
    from gossipswarm_agent.core.receipts import Convergence
    from gossipswarm_agent.runtime.agent import Agent

_VERSION: Final = program_version()


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def agent_info(agent: Agent) -> types.AgentInfo:
    """What one agent says of itself."""
    node, state, config = agent.node, agent.node.state, agent.config
    me = node.membership.me
    journal = agent.journal_status
    newest = node.receipts.newest()
    return types.AgentInfo(
        name=config.name,
        region=config.region,
        swarm=config.swarm,
        status=STATES[me.status],
        ready=agent.ready,
        incarnation=me.incarnation,
        origin=state.origin,
        gossip=agent.gossip_address,
        api=me.api,
        state_hash=f"{state.state_hash:016x}",
        losses_hash=f"{state.losses_hash:016x}",
        vector_hash=f"{state.vector.hash:016x}",
        leaves=state.leaf_count,
        tombstones=state.tombstone_count,
        held=state.held_count,
        sequence=state.sequence,
        members_alive=node.membership.size,
        groups=[list(group) for group in node.regions.groups()],
        cut_by=(agent.drops.by or "somebody") if agent.drops else None,
        degraded=node.parameters.degraded,
        settings_version=node.parameters.version,
        newest_trace=types.NewestTrace(newest[0], newest[1], timestamp(newest[2]))
        if newest
        else None,
        started_at=timestamp(agent.started_ms),
        labels=config.labels,
        version=_VERSION,
        pid=os.getpid(),
        clock_skew_ms=float(node.skew.ahead_ms),
        loop_lag_ms=round(agent.loop_lag_seconds * 1000, 3),
        journal=types.JournalInfo(
            bytes=journal.bytes,
            records=journal.records,
            fsync_p99_ms=round(journal.fsync_p99_ms, 3),
            trouble=journal.trouble,
        ),
    )


def members(agent: Agent) -> types.Members:
    """Everyone this agent knows, itself included, by name."""
    membership, config = agent.node.membership, agent.config
    now = read_clocks()
    own = membership.me
    found = [
        types.MemberInfo(
            name=own.name,
            region=own.region,
            status="left" if STATES[own.status] == "left" else "alive",
            incarnation=own.incarnation,
            gossip=_address(own.host, own.port),
            api=own.api,
            labels=config.labels,
            since=timestamp(agent.started_ms),
        )
    ]
    for member in membership.members.values():
        alive = STATES[member.status] in ("alive", "suspect")
        beyond = alive and not membership.reachable(member.region)
        found.append(
            types.MemberInfo(
                name=member.name,
                region=member.region,
                status="unreachable" if beyond else STATES[member.status],
                incarnation=member.incarnation,
                gossip=_address(member.host, member.port),
                api=member.api,
                labels=member.labels,
                since=timestamp(now.wall - round((now.mono - member.since) * 1000)),
            )
        )
    return types.Members(members=sorted(found, key=lambda member: member.name))


def regions(agent: Agent) -> types.Regions:
    """Every region this agent knows, by name."""
    known = agent.node.regions
    counts = agent.node.membership.counts()
    names = sorted({region for region, _ in counts})
    return types.Regions(
        regions=[
            types.RegionInfo(
                name=name,
                agents=sum(n for (region, _), n in counts.items() if region == name),
                alive=counts.get((name, "alive"), 0),
                unreachable=counts.get((name, "unreachable"), 0),
                relays=[relay.name for relay in known.relays(name)],
                reachable=known.reachable(name),
                links={other: _up(known.linked(name, other)) for other in names if other != name},
            )
            for name in names
        ]
    )


def _up(linked: bool) -> Literal["up", "down"]:
    return "up" if linked else "down"


def partition(agent: Agent) -> types.Partition:
    """Which regions hear each other, by this agent's knowledge."""
    groups = [list(group) for group in agent.node.regions.groups()]
    status: Literal["healthy", "partitioned", "detection-off"] = "healthy"
    if not agent.node.settings.partition_detection:
        status = "detection-off"
    elif len(groups) > 1:
        status = "partitioned"
    known = agent.partitions
    return types.Partition(
        status=status,
        groups=groups,
        cuts=[
            types.Cut(
                a=cut.a, b=cut.b, since=timestamp(cut.since_ms), detection_ms=cut.detection_ms
            )
            for cut in known.cuts
        ],
        history=[
            types.PastPartition(
                partition_start=timestamp(past.start_ms),
                partition_end=timestamp(past.end_ms) if past.end_ms is not None else None,
                affected_regions=past.regions,
                groups=past.groups,
                conflicts_resolved=past.conflicts,
                healing_time_ms=past.healing_ms,
                detection_ms=past.detection_ms,
            )
            for past in reversed(known.history)
        ],
    )


def conflicts(agent: Agent, limit: int) -> types.Conflicts:
    """Concurrent writes that lost, the latest ``limit`` of them first."""
    still_open, history = agent.node.state.conflicts()
    agents = agent.node.membership.size
    return types.Conflicts(
        open=[_conflict(loss, agents) for loss in still_open[:limit]],
        history=[_conflict(loss, agents) for loss in history[:limit]],
    )


def _conflict(loss: Loss, agents: int) -> types.Conflict:
    return types.Conflict(
        key=loss.key,
        conflict_detected=True,
        resolution_strategy=loss.resolution,
        winning_value=_value(loss.winning_value, loss.winning_deleted),
        winning_timestamp=timestamp(clock.milliseconds(loss.winning_clock)),
        winning_origin=agent_of(loss.winning_origin),
        losing_value=_value(loss.value, loss.deleted),
        losing_timestamp=timestamp(clock.milliseconds(loss.clock)),
        losing_origin=agent_of(loss.origin),
        affected_agents=agents,
    )


def _value(raw: msgspec.Raw, deleted: bool) -> Any:
    return None if deleted else msgspec.msgpack.decode(raw)


def convergence(known: Convergence) -> types.Convergence:
    """How far one write has come."""
    return types.Convergence(
        dot=known.dot,
        key=known.key,
        origin=known.origin,
        started_at=timestamp(known.started_ms),
        agents=known.agents,
        received=known.received,
        share=known.share,
        threshold=known.threshold,
        converged=known.converged,
        duration_ms=_rounded(known.duration_ms),
        full_ms=_rounded(known.full_ms),
        mode=known.mode,
        rounds=[
            types.Round(
                round=each.round,
                agents=each.agents,
                share=each.share,
                duration_ms=round(each.duration_ms, 3),
            )
            for each in known.rounds
        ],
        missing=known.missing,
    )


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 3)


def convergence_stats(agent: Agent) -> types.ConvergenceStats:
    """Convergence times over the recent traced writes."""
    known = agent.node.receipts.statistics()
    if not known.samples:
        return types.ConvergenceStats(
            samples=0, avg_ms=None, p50_ms=None, p95_ms=None, p99_ms=None, max_ms=None
        )
    return types.ConvergenceStats(
        samples=known.samples,
        avg_ms=round(known.avg_ms, 3),
        p50_ms=round(known.p50_ms, 3),
        p95_ms=round(known.p95_ms, 3),
        p99_ms=round(known.p99_ms, 3),
        max_ms=round(known.max_ms, 3),
    )


async def converged(
    agent: Agent, dot: str, threshold: float | None, timeout_ms: int
) -> types.Convergence:
    """Wait until the share of agents has the write.

    Raises:
        Problem: 504 at the timeout, carrying how far it came; the write stands.
        WriteRefused: 404 for a write that is not known here.
    """
    seconds = min(timeout_ms, MAX_WAIT_MS) / 1000
    reached = convergence(await agent.wait_converged(dot, threshold, seconds))
    if reached.converged:
        return reached
    raise Problem(
        504,
        "not-converged",
        f"{reached.received} of {reached.agents} agents confirmed within {seconds:g} s; "
        f"{reached.threshold:.0%} were waited for. The write stands and goes on spreading",
        convergence=reached,
    )
