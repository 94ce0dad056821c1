"""A small client of the Kubernetes API server: blocking, JSON, errors that say what to do.

    api = Api(kubeconfig.load())
    api.get("/api/v1/namespaces/default/pods", labelSelector="app=a")
    for line in api.lines("/api/v1/namespaces/default/pods/p/log", follow="true"): ...

Safe for use from several threads: each request takes a connection of its own from those that idle.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from gossipctl import failures
from gossipctl.failures import CommandFailed
from gossipctl.kubernetes.credentials import Credentials, credentials, tls
from gossipctl.kubernetes.kubeconfig import Access
from gossipctl.kubernetes.refusal import Refusal
from gossipctl.kubernetes.resources import MANAGER
from gossipctl.kubernetes.tunnel import through_proxy
from gossipswarm_client.calls import target
from gossipswarm_client.errors import ProtocolError, TimedOut, Unreachable
from gossipswarm_client.http1 import Connection, Endpoint, Headers, Response, Stream, endpoint

if TYPE_CHECKING:
    import ssl

REQUEST_SECONDS = 30.0
FOR_EVER = 30 * 86_400.0
"""Seconds; sockets take no infinity."""
PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds before a request is sent again that the server had no time for."""
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class Api:
    """One API server, as one user."""

    def __init__(self, access: Access) -> None:
        self.access = access
        try:
            self._where = endpoint(access.server)
        except ValueError as error:
            raise CommandFailed(f"the kubeconfig's server: {error}") from None
        self._idle: deque[Connection] = deque()
        self._shown: Credentials | None = None
        self._tls: ssl.SSLContext | None = None

    # --- requests ---------------------------------------------------------------------------------

    def get(self, path: str, *, timeout: float = REQUEST_SECONDS, **query: Any) -> Any:
        """The object or list at a path. Raises Refusal, Unreachable."""
        return self.request("GET", path, timeout=timeout, **query)

    def find(self, path: str, **query: Any) -> Any | None:
        """The object at a path, or None where there is none of that name."""
        try:
            return self.get(path, **query)
        except Refusal as refusal:
            if refusal.is_absent:
                return None
            raise

    def create(self, path: str, body: Mapping[str, Any]) -> Any:
        """The object as it was made."""
        return self.request("POST", path, body=body)

    def merge(self, path: str, body: Mapping[str, Any]) -> Any:
        """The object after a merge patch."""
        return self.request("PATCH", path, body=body, media=MERGE_PATCH, fieldManager=MANAGER)

    def edit(self, path: str, operations: Sequence[Mapping[str, Any]]) -> Any:
        """The object after a JSON patch; none of it holds unless all of its tests do."""
        return self.request("PATCH", path, body=operations, media=JSON_PATCH, fieldManager=MANAGER)

    def apply(self, path: str, body: Mapping[str, Any]) -> Any:
        """The object after a server-side apply; fields of other managers are taken over."""
        return self.request(
            "PATCH", path, body=body, media=APPLY_PATCH, fieldManager=MANAGER, force="true"
        )

    def delete(self, path: str, *, propagation: str = "Background") -> bool:
        """Delete an object; False if there was none."""
        try:
            self.request("DELETE", path, body={"propagationPolicy": propagation})
        except Refusal as refusal:
            if refusal.is_absent:
                return False
            raise
        return True

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        media: str = "application/json",
        timeout: float = REQUEST_SECONDS,
        **query: Any,
    ) -> Any:
        """The JSON that answers. What the server had no time for is sent again.

        Raises:
            Refusal: the server says no; it says why.
            Unreachable: there is no answer (exit 4).
        """
        ends = monotonic() + timeout
        data = None if body is None else json.dumps(body).encode()
        where = target(path, **query)
        for pause in (*PAUSES, None):
            status, answer = self._exchange(method, where, data, media, ends)
            if status < 300:
                return json.loads(answer) if answer else None
            refusal = Refusal.of(status, answer)
            if status == 401 and pause == PAUSES[0] and self.access.plugin:
                self._shown = self._tls = None  # its token ran out: ask the plugin again, once
                self._idle.clear()
                continue
            if pause is None or not refusal.is_passing or monotonic() + pause > ends:
                raise refusal
            sleep(pause)
        raise AssertionError("unreachable: the last pause is None")

    def _exchange(
        self, method: str, where: str, data: bytes | None, media: str, ends: float
    ) -> tuple[int, bytes]:
        while True:
            connection = self._spare() or self.connection()
            connection.deadline = ends
            # A connection that idled may have been closed meanwhile: then nothing has been done yet.
            stale = connection.reused
            try:
                response = self._send(connection, method, where, data, media)
                answer = connection.body()
            except TimedOut as error:
                raise self._silent(error) from None
            except Unreachable as error:
                if stale:
                    continue
                raise self._silent(error) from None
            except ProtocolError as error:
                raise failures.Unreachable(
                    f"{self.access.server}: this is no API server: {error}"
                ) from None
            if connection.is_open:
                self._idle.append(connection)
            return response.status, answer

    def _spare(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _send(
        self, connection: Connection, method: str, where: str, data: bytes | None, media: str
    ) -> Response:
        headers = {**self.headers(), "Accept": "application/json"}
        if data is not None:
            headers["Content-Type"] = media
        connection.send(method, where, headers, data)
        return connection.receive()

    def lines(self, path: str, *, silence: float | None = None, **query: Any) -> Iterator[bytes]:
        """Lines of a watch or a log as they come. ``silence``: seconds without any that end it quietly."""
        connection = self.connection()
        connection.deadline = monotonic() + REQUEST_SECONDS
        rest = b""
        try:
            response = self._send(connection, "GET", target(path, **query), None, "")
            if response.status != 200:
                raise Refusal.of(response.status, connection.body())
            connection.deadline = _until(silence)
            for piece in connection.pieces():
                *complete, rest = (rest + piece).split(b"\n")
                yield from complete
                connection.deadline = _until(silence)
            if rest:
                yield rest
        except TimedOut as error:
            if silence is None:
                raise self._silent(error) from None
        except Unreachable as error:
            raise self._silent(error) from None
        finally:
            connection.close()

    def _silent(self, error: Exception) -> failures.Unreachable:
        of = f" of context {self.access.context}" if self.access.context else ""
        why = str(error).removeprefix(f"{self._where.authority}").lstrip(": ")
        return failures.Unreachable(
            f"no answer from the API server {self.access.server}{of}: {why}",
            "is it the right context? see: kubectl config get-contexts; kubectl cluster-info",
        )

    # --- connections ------------------------------------------------------------------------------

    def headers(self) -> Headers:
        """What goes with every request to say who we are."""
        return self._credentials().headers

    def connection(self) -> Connection:
        """A connection of its own to the API server; nothing is sent yet."""
        return Connection(self._where, dial=self.dial)

    def open(self, seconds: float) -> Stream:
        """A byte stream to the API server. Raises OSError."""
        return self.dial(self._where, seconds)

    def dial(self, where: Endpoint, seconds: float) -> Stream:
        """Connect to the API server, with TLS and through a proxy where the kubeconfig wants them."""
        made = self._plain(where, seconds)
        if not where.tls:
            return made
        context = self.encryption()
        try:
            return context.wrap_socket(made, server_hostname=self.access.server_name or where.host)
        except OSError as error:
            made.close()
            reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or error
            raise ConnectionError(f"no TLS: {reason}") from None

    def _plain(self, where: Endpoint, seconds: float) -> socket.socket:
        proxy = through_proxy(self.access, where)
        first = endpoint(proxy) if proxy else where
        made = socket.create_connection((first.host, first.port), seconds)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if proxy:
            from gossipctl.kubernetes.tunnel import ask_for

            ask_for(made, where)
        return made

    def encryption(self) -> ssl.SSLContext:
        """The TLS of every connection."""
        if self._tls is None:
            self._tls = tls(self.access, self._credentials())
        return self._tls

    def _credentials(self) -> Credentials:
        if self._shown is None:
            self._shown = credentials(self.access)
        return self._shown

    def url(self, path: str) -> str:
        """A path of the API server as a URL."""
        return f"{self.access.server}{path}"


def _until(silence: float | None) -> float:
    return monotonic() + (FOR_EVER if silence is None else silence)
