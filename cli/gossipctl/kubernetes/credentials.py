"""Proving who we are to an API server: tokens, client certificates, and programs that give either."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from gossipctl.failures import CommandFailed
from gossipctl.kubernetes.kubeconfig import Access
from gossipswarm_client.http1 import Headers

if TYPE_CHECKING:
    import ssl

EXEC_SECONDS = 60.0
"""A plugin may ask its user to log in."""
EXEC_GROUP = "client.authentication.k8s.io"


class Credentials(NamedTuple):
    """What goes with every request, and with every connection."""

    headers: Headers
    certificate: str = ""
    """PEM; empty without one."""
    key: str = ""


def credentials(access: Access) -> Credentials:
    """What the access amounts to now: files are read, the plugin is run.

    Raises:
        CommandFailed: the plugin or a file fails.
    """
    headers = dict(access.headers)
    token, certificate, key = access.token, access.certificate, access.key
    if access.token_file:
        token = _token_of_file(access.token_file)
    if not token and not certificate and access.plugin:
        token, certificate, key = _of_plugin(access.plugin, access)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return Credentials(headers, certificate, key)


def _token_of_file(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123 - pathlib costs 3 ms
            return file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"cannot read the token in {path}: {error}") from None


def _of_plugin(plugin: Mapping[str, Any], access: Access) -> tuple[str, str, str]:
    """Token, certificate and key from a program, by the ExecCredential protocol."""
    import json
    import subprocess
    import sys

    version = str(plugin.get("apiVersion") or f"{EXEC_GROUP}/v1")
    command = [str(plugin.get("command")), *map(str, plugin.get("args") or [])]
    interactive = plugin.get("interactiveMode") != "Never" and sys.stdin.isatty()
    asked: dict[str, Any] = {
        "apiVersion": version,
        "kind": "ExecCredential",
        "spec": {"interactive": interactive},
    }
    if plugin.get("provideClusterInfo"):
        from base64 import b64encode

        asked["spec"]["cluster"] = {
            "server": access.server,
            "certificate-authority-data": b64encode(access.ca.encode()).decode(),
            "insecure-skip-tls-verify": access.insecure,
            "tls-server-name": access.server_name,
        }
    environment = {each["name"]: str(each["value"]) for each in plugin.get("env") or []}
    try:
        done = subprocess.run(  # noqa: S603 - what the user's own kubeconfig says
            command,
            env={**os.environ, **environment, "KUBERNETES_EXEC_INFO": json.dumps(asked)},
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=EXEC_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise CommandFailed(
            f"the kubeconfig gets credentials from {command[0]}, which is not installed",
            str(plugin.get("installHint") or "").strip() or None,
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandFailed(f"cannot run {command[0]} for credentials: {error}") from None
    if done.returncode:
        raise CommandFailed(
            f"{command[0]}, which the kubeconfig gets credentials from, exited with {done.returncode}",
            "log in again; what it printed is above",
        )
    try:
        status = json.loads(done.stdout)["status"]
        found = status.get("token") or "", status.get("clientCertificateData") or ""
        return *found, status.get("clientKeyData") or ""
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CommandFailed(f"{command[0]} printed no ExecCredential with a status") from None


def tls(access: Access, shown: Credentials) -> ssl.SSLContext:
    """How to encrypt, whom to trust, and the certificate to show.

    Raises:
        CommandFailed: a certificate or key is not usable.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if access.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif access.ca:
            context.load_verify_locations(cadata=access.ca)
        else:
            context.load_default_certs()
        if shown.certificate:
            _show_certificate(context, shown)
    except (ssl.SSLError, ValueError, OSError) as error:
        raise CommandFailed(
            f"a certificate or key of the kubeconfig is unusable: {error}"
        ) from None
    return context


def _show_certificate(context: ssl.SSLContext, shown: Credentials) -> None:
    # OpenSSL takes a client's certificate from files alone; this one lives in memory where that exists.
    pem = f"{shown.certificate.strip()}\n{shown.key.strip()}\n".encode()
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, pem)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
