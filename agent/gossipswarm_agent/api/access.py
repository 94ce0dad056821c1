"""Who may ask: bearer tokens with two scopes, and no requests that a web page makes behind its user's back."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from gossipswarm_agent.api.problems import Problem
from gossipswarm_agent.runtime.config import Tokens

Scope: TypeAlias = Literal["open", "read", "write"]
"""``open`` needs no credential; the write token also reads."""

TOKEN_HEADER: Final = "X-Gossipswarm-Token"  # noqa: S105 - a name, not a token
"""Takes the token where a proxy keeps Authorization to itself, as the Kubernetes API server does."""


class Gate:
    """Lets requests through, or raises the problem that says why not."""

    __slots__ = ("_read", "_write", "local_only")

    def __init__(self, tokens: Tokens | None, *, local_only: bool) -> None:
        read = tokens.read if tokens else None
        write = tokens.write if tokens else None
        self._read = read.encode() if read is not None else None
        self._write = write.encode() if write is not None else None
        self.local_only = local_only
        """The listener is reachable from this machine only, so no foreign name can lead here."""

    def admit(self, request: web.BaseRequest, scope: Scope) -> None:
        """Raises:
        Problem: 401 without a known token, 403 with one that lacks the scope or from a web page.
        """
        headers = request.headers
        if hdrs.ORIGIN in headers or self.local_only:
            self._refuse_foreign(request)
        if scope == "open":
            return
        if self._is_open(scope):
            return
        presented = _presented(headers)
        if not presented:
            raise _unauthorised(
                f"a token is required: Authorization: Bearer <token>, or {TOKEN_HEADER}: <token>"
            )
        writes = self._write is not None and hmac.compare_digest(presented, self._write)
        reads = self._read is not None and hmac.compare_digest(presented, self._read)
        if writes or (reads and scope == "read"):
            return
        if reads:
            hint = "is required here" if self._write is not None else "is not set at this agent"
            raise Problem(403, "forbidden", f"this token may read; the write token {hint}")
        raise _unauthorised("the token is not one of this agent's")

    def _is_open(self, scope: Scope) -> bool:
        """No token is asked for. One for reading alone closes writing altogether."""
        if scope == "read":
            return self._read is None
        return self._write is None and self._read is None

    def _refuse_foreign(self, request: web.BaseRequest) -> None:
        """A browser names the page that asks; a page served elsewhere may not steer an agent.

        The host name is checked where only local names lead here, against DNS rebinding.
        """
        host = request.headers.get(hdrs.HOST, "")
        if self.local_only and host and not _is_local_name(host):
            raise Problem(
                403, "foreign-host", f"this listener is local; {host!r} is not a local name"
            )
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise Problem(403, "foreign-origin", f"requests from pages of {origin!r} are refused")


def _presented(headers: Mapping[str, str]) -> bytes:
    """The token that the request carries; empty without one."""
    given = headers.get(TOKEN_HEADER)
    if given is None:
        kind, _, given = headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if kind.lower() != "bearer":
            return b""
    return given.strip().encode(errors="replace")


def _unauthorised(detail: str) -> Problem:
    headers: dict[str, str] = {hdrs.WWW_AUTHENTICATE: 'Bearer realm="gossipswarm"'}
    return Problem(401, "unauthorised", detail, headers=headers)


@lru_cache(maxsize=64)
def _is_local_name(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
