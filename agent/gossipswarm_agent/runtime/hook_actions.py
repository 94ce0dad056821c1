"""Carrying out one action of a hook. Whatever goes wrong is an ``ActionFailed`` with a message."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import random
import re
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gossipswarm_agent.core import paths
from gossipswarm_agent.core.errors import WriteRefused
from gossipswarm_agent.core.events import Mutation
from gossipswarm_agent.core.parameters import SETTINGS_KEY
from gossipswarm_agent.runtime.hooks_file import (
    Action,
    AntiEntropy,
    DegradedMode,
    Exec,
    Http,
    Log,
    StateUpdate,
    WaitConverged,
)

if TYPE_CHECKING:
    import aiohttp

    from gossipswarm_agent.runtime.agent import Agent

OUTPUT_KEPT: Final = 4096
"""Bytes of a program's output that are kept, from its end."""
_RETRY_SECONDS: Final = (0.2, 5.0)
_FIELD: Final = re.compile(r"\$\{([A-Za-z0-9_.-]+)\}")
_KILL_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


class ActionFailed(Exception):
    """An action did not do what it should; the message says why."""


class Occasion(msgspec.Struct, frozen=True):
    """An event as actions see it."""

    event: str
    agent: str
    region: str
    swarm: str
    at: str
    """RFC 3339 in UTC."""
    detail: dict[str, Any]

    def encode(self) -> bytes:
        """As JSON, which is what a hook's receiver gets."""
        return msgspec.json.encode(self)


class Performer:
    """Carries out actions for one agent; keeps one HTTP session for all of them."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._session: aiohttp.ClientSession | None = None

    async def perform(self, action: Action, occasion: Occasion) -> str:
        """Carry out ``action`` within its timeout; what it had to say. Raises ActionFailed."""
        try:
            async with asyncio.timeout(action.seconds):
                return await self._perform(action, occasion)
        except TimeoutError:
            raise ActionFailed(f"not done within {action.timeout}") from None
        except WriteRefused as refused:
            raise ActionFailed(f"{refused.reason}: {refused.detail}") from None
        except OSError as error:
            raise ActionFailed(str(error)) from None

    async def _perform(self, action: Action, occasion: Occasion) -> str:
        match action:
            case DegradedMode():
                return await self._degrade(action)
            case AntiEntropy():
                report = await self._agent.compare(action.peer, action.seconds)
                return f"compared with {report.peer}: {report.buckets_different} buckets differed"
            case StateUpdate():
                key = paths.check(_fill_key(action.key, occasion))
                value = _fill(action.value, occasion)
                results = await self._agent.write([Mutation("put", key, value)], traced=True)
                return f"wrote {key} as {results[0].dot or 'before'}"
            case WaitConverged():
                return await self._wait_converged(action)
            case Log():
                _log.log(
                    logging.getLevelNamesMapping()[action.level.upper()],
                    _substitute(action.message, occasion),
                    extra={"event": occasion.event, "detail": occasion.detail},
                )
                return ""
            case Http():
                return await self._post(action, occasion)
            case Exec():
                return await _run(action, occasion)

    async def _degrade(self, action: DegradedMode) -> str:
        if action.scope == "agent":
            self._agent.degrade(action.enabled)
        else:
            key = f"{SETTINGS_KEY}.degraded_mode"
            await self._agent.write([Mutation("leaf", key, action.enabled)], system=True)
        return f"degraded mode {'on' if action.enabled else 'off'}"

    async def _wait_converged(self, action: WaitConverged) -> str:
        mark = Mutation(
            "leaf", f"$swarm.marks.{paths.escape(self._agent.config.name)}", time.time()
        )
        [result] = await self._agent.write([mark], traced=True, system=True)
        reached = await self._agent.wait_converged(result.dot, action.threshold, action.seconds)
        if not reached.converged:
            raise ActionFailed(f"{reached.received} of {reached.agents} agents have it")
        return f"{reached.share:.0%} of {reached.agents} agents in {reached.duration_ms:.0f} ms"

    # --- http -------------------------------------------------------------------------------------

    async def _post(self, action: Http, occasion: Occasion) -> str:
        import aiohttp  # noqa: PLC0415 - 20 MB that only hooks with http need

        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"User-Agent": "gossipswarm"}, trust_env=True
            )
        body = occasion.encode()
        headers = {
            "Content-Type": "application/json",
            "X-GossipSwarm-Event": occasion.event,
            **_signature(_secret(action), body),
            **action.headers,
        }
        pause, longest = _RETRY_SECONDS
        for attempt in range(action.retries + 1):
            try:
                async with self._session.post(
                    action.url, data=body, headers=headers, allow_redirects=False
                ) as response:
                    said = (await response.content.read(OUTPUT_KEPT)).decode(errors="replace")
                    if response.status < 300:
                        return f"{response.status} {said}".strip()
                    problem = f"{action.url} answered {response.status}: {said}".strip()
                    if response.status < 500 and response.status not in (408, 425, 429):
                        raise ActionFailed(problem)
            except aiohttp.ClientError as error:
                problem = f"cannot reach {action.url}: {error}"
            if attempt == action.retries:
                break
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, longest)
        raise ActionFailed(problem)

    async def close(self) -> None:
        """Close the HTTP session."""
        if self._session is not None:
            await self._session.close()


def _secret(action: Http) -> bytes | None:
    if action.secret_env is not None:
        secret = os.environ.get(action.secret_env)
        if not secret:
            raise ActionFailed(f"the environment has no {action.secret_env}")
        return secret.encode()
    if action.secret_file is not None:
        return Path(action.secret_file).read_bytes().strip()
    return None


def _signature(secret: bytes | None, body: bytes) -> dict[str, str]:
    """Headers that prove who sent ``body``, and when: HMAC-SHA256 over ``timestamp.body``."""
    if secret is None:
        return {}
    stamp = str(int(time.time()))
    digest = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"X-GossipSwarm-Timestamp": stamp, "X-GossipSwarm-Signature": f"sha256={digest}"}


# --- exec -----------------------------------------------------------------------------------------


def environment_of(occasion: Occasion, given: Mapping[str, str]) -> dict[str, str]:
    """What a program is told: the agent's environment without its secrets, and the event."""
    told = {
        name: value for name, value in os.environ.items() if not name.startswith("GOSSIPSWARM_")
    }
    told["GOSSIPSWARM_EVENT"] = occasion.event
    told["GOSSIPSWARM_AGENT"] = occasion.agent
    told["GOSSIPSWARM_REGION"] = occasion.region
    told["GOSSIPSWARM_SWARM"] = occasion.swarm
    told["GOSSIPSWARM_AT"] = occasion.at
    told["GOSSIPSWARM_DETAIL"] = msgspec.json.encode(occasion.detail).decode()
    told.update(given)
    return told


async def _run(action: Exec, occasion: Occasion) -> str:
    process = await asyncio.create_subprocess_exec(
        *action.command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment_of(occasion, action.environment),
        start_new_session=True,
    )
    try:
        output = await _converse(process, occasion.encode())
        status = await process.wait()
    finally:
        # Its children as well, and also when it ended well: a hook leaves nothing behind.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.returncode is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_KILL_SECONDS):
                    await process.wait()
    said = output.decode(errors="replace").strip()
    if status != 0:
        raise ActionFailed(f"{action.command[0]} ended with {status}: {said}".rstrip(": "))
    return said


async def _converse(process: asyncio.subprocess.Process, document: bytes) -> bytes:
    """Give the event to the program and read what it says, keeping the end of it."""
    assert process.stdin is not None
    assert process.stdout is not None
    # It may not care for its input, or have ended already: uvloop calls that a RuntimeError.
    with suppress(ConnectionError, RuntimeError):
        process.stdin.write(document)
        await process.stdin.drain()
    with suppress(ConnectionError, RuntimeError):
        process.stdin.close()
    kept = b""
    while piece := await process.stdout.read(1 << 16):
        kept = (kept + piece)[-OUTPUT_KEPT:]
    return kept


# --- what the event says, in keys and values ------------------------------------------------------


def _lookup(occasion: Occasion, name: str) -> str:
    known = {
        "event": occasion.event,
        "agent": occasion.agent,
        "region": occasion.region,
        "at": occasion.at,
    }
    value = occasion.detail[name] if name in occasion.detail else known.get(name)
    if value is None:
        raise ActionFailed(f"the event {occasion.event} says nothing of {name!r}")
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _substitute(text: str, occasion: Occasion) -> str:
    return _FIELD.sub(lambda found: _lookup(occasion, found[1]), text)


def _fill_key(key: str, occasion: Occasion) -> str:
    # A value is one segment, whatever dots it has: a file name must not become a path of keys.
    return _FIELD.sub(lambda found: paths.escape(_lookup(occasion, found[1])), key)


def _fill(value: Any, occasion: Occasion) -> Any:
    if isinstance(value, str):
        return _substitute(value, occasion)
    if isinstance(value, list):
        return [_fill(item, occasion) for item in value]
    if isinstance(value, dict):
        return {name: _fill(item, occasion) for name, item in value.items()}
    return value
