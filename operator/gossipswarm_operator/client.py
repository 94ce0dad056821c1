"""The Kubernetes API, as the operator uses it: one shared client, dictionaries in and out, no model classes.

Paths are made from ``Resource``; authentication, TLS and kubeconfig are those of ``kubernetes.aio``. Every call is
bounded in time and counted; nothing is retried here, because a reconcile comes again by itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, Self
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio import config as kube_config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from gossipswarm_operator.errors import ApiError, api_error
from gossipswarm_operator.names import FIELD_MANAGER, GROUP, VERSION

REQUEST_SECONDS: Final = 15.0
CONNECT_SECONDS: Final = 5.0
PAGE: Final = 500
"""Objects asked for at once in a list."""

Object = dict[str, Any]
Propagation = Literal["Background", "Foreground", "Orphan"]


class Resource(msgspec.Struct, frozen=True):
    """A kind of object and where the API serves it."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Path of a collection, an object or a subresource in a namespace; "" = of the cluster."""
        root = "/api" if "/" not in self.api_version else "/apis"
        place = ["namespaces", namespace] if namespace else []
        parts = [root, self.api_version, *place, self.plural, name, subresource]
        return "/".join(part for part in parts if part)


SWARMS: Final = Resource(f"{GROUP}/{VERSION}", "GossipSwarm", "gossipswarms")
CONFIGS: Final = Resource(f"{GROUP}/{VERSION}", "SwarmConfig", "swarmconfigs")
PARTITIONS: Final = Resource(f"{GROUP}/{VERSION}", "SwarmPartition", "swarmpartitions")
STATEFUL_SETS: Final = Resource("apps/v1", "StatefulSet", "statefulsets")
SERVICES: Final = Resource("v1", "Service", "services")
CONFIG_MAPS: Final = Resource("v1", "ConfigMap", "configmaps")
SECRETS: Final = Resource("v1", "Secret", "secrets")
SERVICE_ACCOUNTS: Final = Resource("v1", "ServiceAccount", "serviceaccounts")
BUDGETS: Final = Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICIES: Final = Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
PODS: Final = Resource("v1", "Pod", "pods")
NAMESPACES: Final = Resource("v1", "Namespace", "namespaces")
"""Of the cluster: its namespace is empty."""
VOLUME_CLAIMS: Final = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
EVENTS: Final = Resource("v1", "Event", "events")
LEASES: Final = Resource("coordination.k8s.io/v1", "Lease", "leases")
WEBHOOKS: Final = Resource(
    "admissionregistration.k8s.io/v1",
    "MutatingWebhookConfiguration",
    "mutatingwebhookconfigurations",
)
"""Of the cluster, not of a namespace."""

BY_KIND: Final = {
    resource.kind: resource
    for resource in (
        SWARMS,
        CONFIGS,
        PARTITIONS,
        STATEFUL_SETS,
        SERVICES,
        CONFIG_MAPS,
        SECRETS,
        SERVICE_ACCOUNTS,
        BUDGETS,
        NETWORK_POLICIES,
        PODS,
        VOLUME_CLAIMS,
        EVENTS,
        LEASES,
    )
}

_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"


async def load_configuration(kubeconfig: str | None = None) -> Configuration:
    """How to reach and authenticate to the cluster: a kubeconfig file (default: $KUBECONFIG, ~/.kube/config), or the
    ServiceAccount of the pod that this runs in.

    Raises kubernetes.aio.config.ConfigException if there is neither.
    """
    configuration = Configuration()
    if kubeconfig is not None:
        await kube_config.load_kube_config(
            config_file=kubeconfig, client_configuration=configuration, persist_config=False
        )
        return configuration
    try:
        kube_config.load_incluster_config(client_configuration=configuration)
    except kube_config.ConfigException:
        await kube_config.load_kube_config(client_configuration=configuration, persist_config=False)
    return configuration


Observer = Callable[[str, str, int, float], None]
"""Called after every call: verb, plural, HTTP status (0 = no answer), seconds."""


class KubeClient:
    """Calls of the API server. Use it as a context manager, or ``close`` it."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        seconds: float = REQUEST_SECONDS,
        observe: Observer | None = None,
        before_write: Callable[[], None] | None = None,
    ) -> None:
        """``before_write`` is called before anything is written, and forbids it by raising ApiError."""
        self.configuration = configuration
        self._api = ApiClient(configuration)
        self._api.user_agent = "gossipswarm-operator"
        self._timeout = aiohttp.ClientTimeout(seconds, sock_connect=min(CONNECT_SECONDS, seconds))
        self._observe = observe
        self._before_write = before_write

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()

    # --- reading ----------------------------------------------------------------------------------

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """An object; None if there is none of the name. Raises ApiError."""
        try:
            return await self._call("GET", "get", resource, resource.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list_all(
        self,
        resource: Resource,
        namespace: str,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> list[Object]:
        """All objects of a namespace that match, each with its ``apiVersion`` and ``kind``. Raises ApiError."""
        found: list[Object] = []
        query: dict[str, str] = {"limit": str(PAGE)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        expired = False
        while True:
            try:
                page = await self._call("GET", "list", resource, resource.path(namespace), query)
            except ApiError as error:
                if error.status == 410 and "continue" in query and not expired:
                    # The snapshot that the pages are of was compacted: once from the start, whole.
                    expired, found = True, []
                    query.pop("continue"), query.pop("limit", None)
                    continue
                raise
            found += page.get("items") or []
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                break
            query["continue"] = more
        for item in found:
            item.setdefault("apiVersion", resource.api_version)
            item.setdefault("kind", resource.kind)
        return found

    # --- writing ----------------------------------------------------------------------------------

    async def apply(self, body: Object, *, force: bool = True) -> Object:
        """Server-side apply under our field manager; the object as it is then. Raises ApiError."""
        resource = BY_KIND[body["kind"]]
        metadata = body["metadata"]
        query = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"}
        path = resource.path(metadata["namespace"], metadata["name"])
        return await self._call("PATCH", "apply", resource, path, query, body, _APPLY)

    async def create(self, body: Object) -> Object:
        """Create an object. Raises ApiError 409 if there is one of the name."""
        resource = BY_KIND[body["kind"]]
        path = resource.path(body["metadata"]["namespace"])
        query = {"fieldManager": FIELD_MANAGER}
        return await self._call("POST", "create", resource, path, query, body)

    async def replace(self, body: Object) -> Object:
        """Replace an object; with a ``resourceVersion``, only if it is still that one (409 otherwise)."""
        resource = BY_KIND[body["kind"]]
        metadata = body["metadata"]
        path = resource.path(metadata["namespace"], metadata["name"])
        return await self._call(
            "PUT", "update", resource, path, {"fieldManager": FIELD_MANAGER}, body
        )

    async def merge(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Mapping[str, Any],
        *,
        subresource: str = "",
    ) -> Object:
        """JSON merge patch (RFC 7396); a ``resourceVersion`` or ``uid`` in it must match. Raises ApiError."""
        path = resource.path(namespace, name, subresource)
        query = {"fieldManager": FIELD_MANAGER}
        return await self._call("PATCH", "patch", resource, path, query, dict(patch), _MERGE)

    async def patch_status(
        self, resource: Resource, namespace: str, name: str, status: Mapping[str, Any]
    ) -> Object:
        """Merge into the status of an object: None removes a field. Raises ApiError."""
        return await self.merge(resource, namespace, name, {"status": status}, subresource="status")

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        propagation: Propagation = "Background",
    ) -> bool:
        """Delete an object, only if it still has this uid; False if there was none. Raises ApiError."""
        options: Object = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        path = resource.path(namespace, name)
        try:
            await self._call("DELETE", "delete", resource, path, None, options)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    # --- exchange ---------------------------------------------------------------------------------

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
        url = self.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        if self._before_write is not None and method != "GET":
            self._before_write()
        async with self._counted(verb, resource) as seen:
            try:
                headers = {
                    "Accept": "application/json",
                    "Content-Type": media,
                    "User-Agent": self._api.user_agent,
                }
                await self._authenticate(headers)
                response = await self._api.rest_client.request(
                    method,
                    url,
                    headers=headers,
                    body=body,
                    _preload_content=False,
                    _request_timeout=self._timeout,
                )
                answer = await response.read()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                what = "no answer in time" if isinstance(error, TimeoutError) else str(error)
                raise ApiError(0, "Unreachable", what or type(error).__name__) from error
            seen.append(response.status)
        if response.status >= 400:
            raise api_error(response.status, answer, response.headers.get("Retry-After"))
        try:
            document = json.loads(answer)
        except ValueError:
            raise ApiError(0, "Unreachable", f"{method} {path}: the answer is no JSON") from None
        if not isinstance(document, dict):
            raise ApiError(0, "Unreachable", f"{method} {path}: the answer is no object")
        return document

    async def _authenticate(self, headers: dict[str, str]) -> None:
        # Also renews a projected token, which is on disk and changes every hour.
        schemes: dict[str, Any] = dict(await self.configuration.auth_settings())
        for scheme in schemes.values():
            headers[str(scheme["key"])] = str(scheme["value"])

    @asynccontextmanager
    async def _counted(self, verb: str, resource: Resource) -> AsyncIterator[list[int]]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        seen: list[int] = []
        try:
            yield seen
        finally:
            if self._observe is not None:
                status = seen[0] if seen else 0
                self._observe(verb, resource.plural, status, loop.time() - started)
