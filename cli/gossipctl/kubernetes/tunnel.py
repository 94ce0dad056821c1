"""Reaching an API server through an HTTP proxy: ``proxy-url`` of the kubeconfig, or HTTPS_PROXY."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from gossipctl.failures import CommandFailed

if TYPE_CHECKING:
    from gossipctl.kubernetes.kubeconfig import Access
    from gossipswarm_client.http1 import Endpoint

MAX_HEAD_BYTES = 16 << 10


def through_proxy(access: Access, where: Endpoint) -> str:
    """The URL of the proxy to use; empty where there is none.

    Raises:
        CommandFailed: it is of a kind that is not understood.
    """
    proxy = access.proxy
    if not proxy and where.tls and not _excepted(where.host):
        proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy") or ""
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    if proxy and not proxy.startswith("http://"):
        raise CommandFailed(
            f"the proxy {proxy} is not understood",
            "proxies are spoken to in plain HTTP: http://host:port",
        )
    return proxy


def _excepted(host: str) -> bool:
    """Whether NO_PROXY, or being on this machine, takes the host out."""
    if host in ("localhost", "127.0.0.1", "::1"):
        return True
    listed = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    for entry in filter(None, (each.strip().lower() for each in listed.split(","))):
        if entry == "*" or host.lower() == entry or host.lower().endswith(f".{entry.lstrip('.')}"):
            return True
        if "/" in entry and _is_within(host, entry):
            return True
    return False


def _is_within(host: str, network: str) -> bool:
    from ipaddress import ip_address, ip_network

    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False


def ask_for(proxy: socket.socket, where: Endpoint) -> None:
    """Have the proxy connect us to ``where``. Raises ConnectionError if it does not."""
    proxy.sendall(
        f"CONNECT {where.authority} HTTP/1.1\r\nHost: {where.authority}\r\n\r\n".encode("ascii")
    )
    head = b""
    while b"\r\n\r\n" not in head:
        # One byte at a time: what follows the head is the server's already.
        piece = proxy.recv(1)
        if not piece or len(head) > MAX_HEAD_BYTES:
            raise ConnectionError("the proxy broke off")
        head += piece
    status = head.split(b" ", 2)[1:2]
    if status != [b"200"]:
        first = head.partition(b"\r\n")[0].decode("latin-1")
        raise ConnectionError(f"the proxy refuses to connect: {first}")
