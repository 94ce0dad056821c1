"""What an agent knows of itself and of its swarm."""

from __future__ import annotations

from aiohttp import web

from gossipswarm_agent.api import shapes, types
from gossipswarm_agent.api.call import Call, encode_json
from gossipswarm_agent.api.problems import Problem
from gossipswarm_agent.api.times import milliseconds

_LATEST = 20
"""Traced writes that are listed."""


async def agent(call: Call) -> web.StreamResponse:
    """GET: this agent."""
    return _json(shapes.agent_info(call.agent))


async def members(call: Call) -> web.StreamResponse:
    """GET: everyone this agent knows, by name."""
    return _json(shapes.members(call.agent))


async def regions(call: Call) -> web.StreamResponse:
    """GET: every region this agent knows."""
    return _json(shapes.regions(call.agent))


async def partition(call: Call) -> web.StreamResponse:
    """GET: which regions hear each other."""
    return _json(shapes.partition(call.agent))


async def conflicts(call: Call) -> web.StreamResponse:
    """GET: concurrent writes that lost, latest first."""
    wanted = call.parameters(types.ConflictParameters)
    return _json(shapes.conflicts(call.agent, wanted.limit))


async def recent_convergence(call: Call) -> web.StreamResponse:
    """GET: traced writes of this agent, latest first."""
    receipts = call.agent.node.receipts
    reports = [receipts.report(dot) for dot in receipts.latest(_LATEST)]
    writes = [shapes.convergence(report) for report in reports if report is not None]
    return _json(types.ConvergenceList(writes=writes))


async def convergence(call: Call) -> web.StreamResponse:
    """GET: one write, at once or when the share has it.

    Raises Problem 404 for a write that is not known here, 504 at the timeout.
    """
    dot = call.key()
    wanted = call.parameters(types.ConvergenceParameters)
    if wanted.wait:
        timeout = milliseconds(wanted.timeout)
        return _json(await shapes.converged(call.agent, dot, wanted.threshold, timeout))
    origin, _, digits = dot.rpartition(":")
    sequence = int(digits) if digits.isascii() and digits.isdigit() else 0
    report = call.agent.node.receipts.report((origin, sequence), wanted.threshold)
    if report is None:
        raise Problem(
            404,
            "unknown-write",
            f"{dot!r} is no recent traced write of agent {call.agent.config.name}; ask its origin",
        )
    return _json(shapes.convergence(report))


async def convergence_stats(call: Call) -> web.StreamResponse:
    """GET: convergence times over the recent traced writes."""
    return _json(shapes.convergence_stats(call.agent))


def _json(value: object) -> web.Response:
    return web.Response(body=encode_json(value), content_type="application/json")
