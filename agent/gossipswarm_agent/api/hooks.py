"""Seeing an agent's hooks, and carrying out the actions of an event now."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from gossipswarm_agent.api import types
from gossipswarm_agent.api.call import Call, encode_json
from gossipswarm_agent.api.problems import Problem, suggestion
from gossipswarm_agent.runtime.hooks import Outcome
from gossipswarm_agent.runtime.hooks_file import describe

_call: Final = msgspec.json.Decoder(types.HookCall)


async def read_hooks(call: Call) -> web.StreamResponse:
    """GET: the actions of each event in order, and how the last ones ended."""
    runner = call.agent.hooks
    if runner is None:
        return _json(types.Hooks(events={}, outcomes=[]))
    events = {
        event: [describe(each) for each in actions] for event, actions in runner.hooks.items()
    }
    return _json(types.Hooks(events=events, outcomes=list(map(_outcome, runner.outcomes))))


async def call_hooks(call: Call) -> web.StreamResponse:
    """POST: say that an event has happened. Raises Problem 404 where nothing would follow."""
    wanted = await call.document(_call)
    runner = call.agent.hooks
    if runner is None or not runner.hooks.get(wanted.event):
        near = suggestion(wanted.event, runner.hooks) if runner is not None else None
        raise Problem(
            404,
            "no-action",
            f"no action follows {wanted.event!r}",
            suggestions=[near] if near else [],
        )
    outcomes = await runner.run(wanted.event, wanted.detail)
    return _json(types.HookOutcomes(outcomes=list(map(_outcome, outcomes))))


def _outcome(outcome: Outcome) -> types.HookOutcome:
    return msgspec.convert(outcome, types.HookOutcome, from_attributes=True)


def _json(value: object) -> web.Response:
    return web.Response(body=encode_json(value), content_type="application/json")
