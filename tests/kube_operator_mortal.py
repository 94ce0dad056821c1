"""A program that starts operators which die: each kills itself, by SIGKILL, right after so many writes.

Each is the operator as it is shipped, told by the same environment, in a process of its own. It is forked from one that has
imported everything already, because a Python that starts takes longer than most of them live.

Lines of stdin and stdout are JSON. ``[number, write]`` starts an operator that dies after so many writes if it begins with
the given one, which its predecessor began with, and after its first otherwise; 0 = never. What it says is ``["began", pid]``,
``["wrote", method, target, body]``, ``["looked"]`` after each reconcile of a GossipSwarm, and ``["ended", status]``.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn
from unittest import mock

from gossipswarm_operator import main
from gossipswarm_operator.agent_documents import AgentAddress
from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import KubeClient, Object, Resource
from gossipswarm_operator.reconcile import SwarmReconciler

RANDOM: Final = ("/admin/keyring", "/secrets/", "/mutatingwebhookconfigurations/")
"""Where keys and certificates are written, which are others each time."""


def _say(*facts: object) -> None:
    line = (json.dumps(facts) + "\n").encode()
    while line:
        line = line[os.write(1, line) :]


class _Death:
    """When the operator of this process is to die."""

    def __init__(self) -> None:
        self.limit = 0
        """So many writes from its start; 0 = never."""
        self.former: list[Any] | None = None
        """What the predecessor began with."""
        self._count = 0

    def after(self, *write: Any) -> None:
        """Something was written."""
        _say("wrote", *write)
        self._count += 1
        begins_anew = self.former is not None and _same(self.former, write)
        if self._count == 1 and self.limit and not begins_anew:
            self.limit = 1
        if self._count == self.limit:
            os.kill(os.getpid(), signal.SIGKILL)


def _same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether two writes are the same step of a plan."""
    random = any(part in one[1] for part in RANDOM)
    return list(one[:2]) == list(other[:2]) and (random or one[2] == other[2])


_death = _Death()


class _Kube(KubeClient):
    async def _call(
        self,
        method: str,
        verb: str,
        resource: Resource,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        media: str = "application/json",
    ) -> Object:
        try:
            return await super()._call(method, verb, resource, path, query, body, media)
        finally:
            # The Lease is written by a client without a guard: renewals are no steps of a plan.
            if method != "GET" and self._before_write is not None:
                _death.after(method, path, body)


class _Agents(AgentsApi):
    async def _exchange(
        self,
        agent: AgentAddress,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        media: str | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> tuple[int, bytes]:
        try:
            return await super()._exchange(
                agent, method, path, body, media=media, headers=headers, seconds=seconds
            )
        finally:
            if method != "GET":
                _death.after(method, f"{agent.name}{path}", json.loads(body or b"null"))


class _Reconciler(SwarmReconciler):
    async def reconcile(self, key: tuple[str, str]) -> float | None:
        try:
            return await super().reconcile(key)
        finally:
            _say("looked")


def _live() -> NoReturn:
    random.seed()
    try:
        with mock.patch.multiple(
            main, KubeClient=_Kube, AgentsApi=_Agents, SwarmReconciler=_Reconciler
        ):
            main.run()
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    finally:
        os._exit(1)


def _serve() -> None:
    for line in sys.stdin:
        _death.limit, _death.former = json.loads(line)
        child = os.fork()
        if child == 0:
            _live()
        _say("began", child)
        _say("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    _serve()
