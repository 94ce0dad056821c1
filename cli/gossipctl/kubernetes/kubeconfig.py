"""Which cluster, as whom: kubeconfig files as kubectl reads them, or the service account of a pod.

Several files in $KUBECONFIG are merged, the first that says something wins. What only means something to
kubectl is ignored.
"""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from gossipctl.failures import CommandFailed, UsageError
from gossipctl.suggest import did_you_mean, listing
from gossipswarm_client.http1 import Headers

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod finds its own credentials."""


class Access(NamedTuple):
    """How to talk to one API server. PEM is text; empty where there is none."""

    server: str
    """``https://host:port``, perhaps with a path behind it."""
    namespace: str = "default"
    context: str = ""
    """Name in the kubeconfig; empty in a pod."""
    ca: str = ""
    """Certificates to trust; empty = those of the system."""
    insecure: bool = False
    """Whoever answers is believed."""
    server_name: str = ""
    """Name to expect in the certificate, where it is not the host's."""
    certificate: str = ""
    key: str = ""
    token: str = ""
    token_file: str = ""
    """Read for every command: it is renewed from outside."""
    headers: Headers = MappingProxyType({})
    """Impersonation, basic authentication."""
    plugin: Mapping[str, Any] | None = None
    """``exec`` of the user: a program that gives credentials."""
    proxy: str = ""


def is_there() -> bool:
    """Whether a cluster is configured at all. Reads nothing."""
    return any(map(os.path.isfile, _paths())) or in_pod()


def in_pod() -> bool:
    """Whether this is a pod with a service account."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and os.path.isfile(  # noqa: PTH113
        f"{SERVICE_ACCOUNT}/token"
    )


def load(context: str | None = None, namespace: str | None = None) -> Access:
    """Access by the context of this name, or by the current one.

    Raises:
        CommandFailed: no cluster is configured, or a file cannot be read.
        UsageError: there is no such context.
    """
    merged = _Merged(_documents())
    chosen = context or merged.current
    if not chosen:
        if in_pod():
            return _of_pod(namespace)
        raise CommandFailed(
            "no cluster is configured",
            "set KUBECONFIG, or choose a context with: kubectl config use-context NAME",
        )
    found = merged.contexts.get(chosen)
    if found is None:
        known = sorted(merged.contexts)
        raise UsageError(
            f"no context {chosen!r} in {' and '.join(_paths())}",
            did_you_mean(chosen, known, otherwise=f"there is {listing(known)}" if known else None),
        )
    cluster = _named(merged.clusters, "cluster", found.get("cluster"), chosen)
    user = _named(merged.users, "user", found.get("user"), chosen) if found.get("user") else {}
    if "auth-provider" in user:
        raise CommandFailed(
            f"the user of context {chosen} has an auth-provider, which kubectl no longer takes either",
            "have your cloud's tool write an exec plugin into the kubeconfig instead",
        )
    return Access(
        server=str(cluster.get("server", "")).rstrip("/"),
        namespace=namespace or found.get("namespace") or "default",
        context=chosen,
        ca=_pem(cluster, "certificate-authority"),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        server_name=cluster.get("tls-server-name") or "",
        certificate=_pem(user, "client-certificate"),
        key=_pem(user, "client-key"),
        token=user.get("token") or "",
        token_file=_beside(user, user.get("tokenFile")),
        headers=_headers(user),
        plugin=user.get("exec"),
        proxy=cluster.get("proxy-url") or "",
    )


def contexts() -> list[str]:
    """Names of all contexts, for completion."""
    return sorted(_Merged(_documents()).contexts)


def _of_pod(namespace: str | None) -> Access:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT")
    host = f"[{host}]" if ":" in host else host
    return Access(
        server=f"https://{host}:{port or 443}",
        namespace=namespace or _read(f"{SERVICE_ACCOUNT}/namespace").strip(),
        ca=_read(f"{SERVICE_ACCOUNT}/ca.crt"),
        token_file=f"{SERVICE_ACCOUNT}/token",
    )


def _paths() -> list[str]:
    given = [path for path in os.environ.get("KUBECONFIG", "").split(os.pathsep) if path]
    return given or [os.path.expanduser("~/.kube/config")]  # noqa: PTH111 - pathlib costs 3 ms


def _documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each file that exists: its directory and what it says."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in _paths():
        if not os.path.isfile(path):  # noqa: PTH113
            continue
        try:
            found = yaml.load(_read(path), loader)  # noqa: S506 - a safe one
        except yaml.YAMLError as error:
            text = " ".join(str(error).split())
            raise CommandFailed(f"{path} is not a kubeconfig: {text}") from None
        if found is None:
            continue
        if not isinstance(found, dict):
            raise CommandFailed(f"{path} is not a kubeconfig: expected an object")
        yield os.path.dirname(os.path.abspath(path)), found  # noqa: PTH100, PTH120


class _Merged:
    """Several kubeconfig files as one."""

    def __init__(self, documents: Iterator[tuple[str, dict[str, Any]]]) -> None:
        self.current = ""
        self.contexts: dict[str, dict[str, Any]] = {}
        self.clusters: dict[str, dict[str, Any]] = {}
        self.users: dict[str, dict[str, Any]] = {}
        for directory, document in documents:
            self.current = self.current or document.get("current-context") or ""
            for kind, table in (
                ("context", self.contexts),
                ("cluster", self.clusters),
                ("user", self.users),
            ):
                for entry in document.get(f"{kind}s") or []:
                    # Paths in a file are relative to the file.
                    table.setdefault(
                        entry.get("name", ""), {**(entry.get(kind) or {}), "": directory}
                    )


def _named(
    table: Mapping[str, dict[str, Any]], what: str, name: str | None, context: str
) -> dict[str, Any]:
    found = table.get(name or "")
    if found is None:
        raise CommandFailed(f"context {context} names the {what} {name!r}, which is not there")
    return found


def _beside(entry: Mapping[str, Any], path: str | None) -> str:
    return os.path.join(entry[""], path) if path else ""  # noqa: PTH118


def _pem(entry: Mapping[str, Any], name: str) -> str:
    data = entry.get(f"{name}-data")
    if data:
        try:
            return b64decode(data).decode()
        except ValueError:
            raise CommandFailed(f"{name}-data in the kubeconfig is not base64 of PEM") from None
    path = _beside(entry, entry.get(name))
    return _read(path) if path else ""


def _headers(user: Mapping[str, Any]) -> Headers:
    headers: dict[str, str | tuple[str, ...]] = {}
    if user.get("username"):
        from base64 import b64encode

        pair = f"{user['username']}:{user.get('password', '')}".encode()
        headers["Authorization"] = f"Basic {b64encode(pair).decode()}"
    if user.get("as"):
        headers["Impersonate-User"] = str(user["as"])
    if user.get("as-uid"):
        headers["Impersonate-Uid"] = str(user["as-uid"])
    if user.get("as-groups"):
        headers["Impersonate-Group"] = tuple(map(str, user["as-groups"]))
    return headers


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            return file.read()
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandFailed(f"{path} is not UTF-8 text") from None
