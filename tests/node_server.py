"""What the API server asks of a node: logs of containers, and byte streams to ports of pods.

The two endpoints of a kubelet that ``kubectl logs`` and ``kubectl port-forward`` need, over real files and real
addresses, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

from aiohttp import WSMsgType, web

import kube

NODE = "node-of-tests"
PROTOCOL = "v4.channel.k8s.io"


class NodeServer:
    """A node of the cluster. ``log_of`` and ``address_of`` answer for a namespace and a pod."""

    def __init__(
        self,
        cluster: kube.Cluster,
        log_of: Callable[[str, str], Path],
        address_of: Callable[[str, str], str],
    ) -> None:
        self._cluster = cluster
        self._log_of = log_of
        self._address_of = address_of
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        """Serve, and tell the API server of the node."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(120)
        self._cluster.request("POST", "/api/v1/nodes", {"metadata": {"name": NODE}})
        port = self._runner.addresses[0][1]
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        self._cluster.request(
            "PATCH",
            f"/api/v1/nodes/{NODE}/status",
            {"status": status},
            "application/merge-patch+json",
        )

    def stop(self) -> None:
        """Take the node away."""
        self._cluster.request("DELETE", f"/api/v1/nodes/{NODE}")
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(120)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    async def _serve(self) -> None:
        self._cluster._authority.server("node", ["127.0.0.1"], [NODE])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, self._cluster._authority.pair("node")))
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        app.router.add_get("/portForward/{namespace}/{pod}", self._forward)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()

    async def _logs(self, request: web.Request) -> web.Response:
        path = self._log_of(request.match_info["namespace"], request.match_info["pod"])
        lines = path.read_text().splitlines()[-int(request.query.get("tailLines", 1000)) :]
        stamped = [f"2026-01-01T00:00:00.000000000Z {line}\n" for line in lines]
        return web.Response(text="".join(stamped))

    async def _forward(self, request: web.Request) -> web.WebSocketResponse:
        port = int(request.query["port"])
        address = self._address_of(request.match_info["namespace"], request.match_info["pod"])
        socket = web.WebSocketResponse(protocols=(PROTOCOL,))
        await socket.prepare(request)
        for channel in (b"\0", b"\1"):
            await socket.send_bytes(channel + port.to_bytes(2, "little"))
        try:
            reader, writer = await asyncio.open_connection(address, port)
        except OSError as error:
            await socket.send_bytes(b"\1" + str(error).encode())
            return socket

        async def back() -> None:
            while data := await reader.read(65_536):
                await socket.send_bytes(b"\0" + data)
            await socket.close()

        task = asyncio.create_task(back())
        async for message in socket:
            if message.type is WSMsgType.BINARY and message.data[:1] == b"\0":
                writer.write(message.data[1:])
                await writer.drain()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await task
        writer.close()
        return socket
