"""Changing how an agent and its swarm behave. All of it needs the write token."""

from __future__ import annotations

import ipaddress
import time
from typing import Any, Final, Literal

import msgspec
from aiohttp import web

from gossipswarm_agent.api import types
from gossipswarm_agent.api.call import Call, decode_value, encode_json
from gossipswarm_agent.api.limits import MAX_HOLD_MS, MAX_WAIT_MS
from gossipswarm_agent.api.problems import Problem
from gossipswarm_agent.api.times import milliseconds, timestamp
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.core.frames import Address
from gossipswarm_agent.core.parameters import SETTINGS_KEY
from gossipswarm_agent.core.settings import InvalidSetting, merge
from gossipswarm_agent.runtime.agent import Agent
from gossipswarm_agent.runtime.departure import NotHandedOver
from gossipswarm_agent.runtime.drops import DropList
from gossipswarm_agent.runtime.keyring import KeyringError

_degraded_mode: Final = msgspec.json.Decoder(types.DegradedMode)
_anti_entropy: Final = msgspec.json.Decoder(types.AntiEntropy)
_keyring_action: Final = msgspec.json.Decoder(types.KeyringAction)
_drain: Final = msgspec.json.Decoder(types.Drain)
_drop_request: Final = msgspec.json.Decoder(types.DropRequest)
_probe_request: Final = msgspec.json.Decoder(types.ProbeRequest)
_nothing: Final = msgspec.json.Decoder(types.Nothing)


async def read_config(call: Call) -> web.StreamResponse:
    """GET: the swarm's parameters."""
    return _json(_config(call.agent))


async def change_config(call: Call) -> web.StreamResponse:
    """PATCH: some parameters, whole or not at all. Raises Problem 422 naming the parameter."""
    call.expect_json()
    changes = decode_value(await call.body())
    if not isinstance(changes, dict):
        raise Problem(422, "invalid-field", "an object of parameters and their values was expected")
    await _change_settings(call.agent, changes)
    return _json(_config(call.agent))


async def _change_settings(agent: Agent, changes: dict[str, Any]) -> None:
    try:
        merged = merge(agent.node.settings, changes)
    except InvalidSetting as error:
        raise Problem(422, "invalid-setting", str(error)) from None
    values = msgspec.to_builtins(merged)
    names = [name.replace("-", "_") for name in changes]
    # One write: every agent sees all of the changes or none.
    mutations = [Mutation("leaf", f"{SETTINGS_KEY}.{name}", values[name]) for name in names]
    if mutations:
        await agent.write(mutations, traced=True, system=True)


def _config(agent: Agent) -> types.Config:
    return types.Config(version=agent.node.parameters.version, settings=agent.node.settings)


async def degraded_mode(call: Call) -> web.StreamResponse:
    """POST: read-only on or off."""
    wanted = await call.document(_degraded_mode)
    if wanted.scope == "agent":
        call.agent.degrade(wanted.enabled)
    else:
        await _change_settings(call.agent, {"degraded_mode": wanted.enabled})
    return _json(
        types.DegradedMode(enabled=call.agent.node.parameters.degraded, scope=wanted.scope)
    )


async def anti_entropy(call: Call) -> web.StreamResponse:
    """POST: compare everything with one peer now."""
    wanted = await call.document(_anti_entropy)
    seconds = min(milliseconds(wanted.timeout) / 1000, 600.0)
    report = await call.agent.compare(wanted.peer, seconds)
    return _json(msgspec.convert(report, types.AntiEntropyReport, from_attributes=True))


async def keyring(call: Call) -> web.StreamResponse:
    """POST: one step of a key rotation at this agent. Raises Problem 422 for a key or id of no use."""
    wanted = await call.document(_keyring_action)
    agent = call.agent
    try:
        match wanted.action:
            case "install":
                agent.install_key(_required(wanted.key, "key", "install"))
            case "use":
                agent.use_key(_required(wanted.id, "id", "use"))
            case "remove":
                agent.remove_key(_required(wanted.id, "id", "remove"))
    except KeyringError as error:
        raise Problem(422, "invalid-key-material", str(error)) from None
    return _json(_keyring(agent))


async def read_keyring(call: Call) -> web.StreamResponse:
    """GET: ids of the keys this agent holds."""
    return _json(_keyring(call.agent))


def _keyring(agent: Agent) -> types.Keyring:
    keys = agent.keys()
    return types.Keyring(keys=keys, primary=keys[0] if keys else None)


def _required(value: str | None, field: Literal["key", "id"], action: str) -> str:
    if value is None:
        raise Problem(
            422, "missing-field", f"the field {field!r} is required to {action} a key", field=field
        )
    return value


async def drain(call: Call) -> web.StreamResponse:
    """POST: make sure that others hold everything this agent has, which takes no writes meanwhile.

    Raises Problem 504 naming those that have confirmed when too few have.
    """
    wanted = await call.document(_drain)
    begun = time.monotonic()
    hold = min(milliseconds(wanted.hold), MAX_HOLD_MS)
    try:
        holders = await call.agent.departure.drain(
            copies=wanted.copies,
            leaving=wanted.leaving,
            seconds=min(milliseconds(wanted.timeout), MAX_WAIT_MS) / 1000,
            hold=hold / 1000,
        )
    except NotHandedOver as failed:
        raise Problem(504, "not-drained", str(failed), holders=failed.holders) from None
    return _json(
        types.Drained(
            holders=holders,
            duration_ms=round((time.monotonic() - begun) * 1000, 3),
            until=timestamp(time.time_ns() // 1_000_000 + hold) if hold else None,
        )
    )


async def reset_peers(call: Call) -> web.StreamResponse:
    """POST: a new source port, and every stream closed."""
    await call.document(_nothing)
    return _json(types.ResetPeers(closed=call.agent.reset_peers()))


async def read_drop_list(call: Call) -> web.StreamResponse:
    """GET: regions whose packets are dropped."""
    return _json(_drop_list(call.agent))


async def set_drop_list(call: Call) -> web.StreamResponse:
    """POST: replace the drop list. Regions that this agent has not met yet are welcome."""
    wanted = await call.document(_drop_request)
    agent = call.agent
    now = time.time_ns() // 1_000_000
    until = now + wanted.duration_ms if wanted.duration_ms is not None else None
    inbound, outbound = frozenset(wanted.inbound), frozenset(wanted.outbound)
    agent.set_drops(DropList(inbound, outbound, until, wanted.by))
    return _json(_drop_list(agent))


def _drop_list(agent: Agent) -> types.DropList:
    drops = agent.drops
    return types.DropList(
        inbound=sorted(drops.inbound),
        outbound=sorted(drops.outbound),
        until=timestamp(drops.until_ms) if drops.until_ms is not None else None,
        by=drops.by,
    )


async def probe(call: Call) -> web.StreamResponse:
    """POST: whether packets get to another agent. Raises Problem 422 for what is no address."""
    wanted = await call.document(_probe_request)
    flows = await call.agent.transport.reaching.probe(_address(wanted.address))
    found = [msgspec.convert(flow, types.ProbedFlow, from_attributes=True) for flow in flows]
    return _json(types.Probed(address=wanted.address, flows=found))


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
        number = int(port)
    except ValueError:
        number = 0
    if not 0 < number < 65_536:
        raise Problem(
            422,
            "invalid-field",
            f"address: {text!r} is no numeric address with a port, such as 10.0.1.7:7600",
            field="address",
        )
    return host, number


async def release(call: Call) -> web.StreamResponse:
    """POST: let the regions merge that wait for an operator."""
    await call.document(_nothing)
    return _json(types.Released(regions=await call.agent.release_held()))


def _json(value: object) -> web.Response:
    return web.Response(body=encode_json(value), content_type="application/json")
