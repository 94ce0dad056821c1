"""The operator's metrics, in a registry of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_VALUE: Final = {"True": 1, "False": 0}
_SECONDS: Final = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class Metrics:
    """What is counted. Only the leader has conditions to show."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def named(name: str) -> str:
            return f"gossipswarm_operator_{name}"

        self.leading = Gauge(
            named("leading"), "1 at the replica that reconciles", registry=self.registry
        )
        self._reconciles = Counter(
            named("reconciles"), "Reconciles", ["kind", "outcome"], registry=self.registry
        )
        self._reconcile_seconds = Histogram(
            named("reconcile_seconds"),
            "Duration of reconciles",
            ["kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._requests = Counter(
            named("api_requests"),
            "Calls of the API server; code 0 = no answer",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            named("api_request_seconds"),
            "Duration of calls of the API server",
            ["verb"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._conditions = Gauge(
            named("condition"),
            "Conditions of objects: 1 True, 0 False, -1 Unknown",
            ["kind", "namespace", "name", "type"],
            registry=self.registry,
        )
        self._shown: dict[tuple[str, str, str], set[str]] = {}
        self.certificate_expiry = Gauge(
            named("webhook_certificate_expiry_timestamp_seconds"),
            "When the certificate that this replica's webhook serves expires; 0 = it serves none",
            registry=self.registry,
        )
        self.reviews = Counter(
            named("reviewed_pods"),
            "Pods that asked for a sidecar, by what the webhook of this replica decided",
            ["outcome"],
            registry=self.registry,
        )
        self._uninjected = Gauge(
            named("uninjected_pods"),
            "Pods that asked for a sidecar and run without",
            ["namespace", "reason"],
            registry=self.registry,
        )

    def reconciled(self, kind: str, outcome: str, seconds: float) -> None:
        """A reconcile ended: ``done``, ``failed`` or ``refused``."""
        self._reconciles.labels(kind, outcome).inc()
        self._reconcile_seconds.labels(kind).observe(seconds)

    def called(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """The API server was called."""
        self._requests.labels(verb, resource, str(code)).inc()
        self._request_seconds.labels(verb).observe(seconds)

    def show(
        self, kind: str, namespace: str, name: str, conditions: Iterable[Mapping[str, Any]]
    ) -> None:
        """Show an object's conditions; none = it is gone."""
        before = self._shown.pop((kind, namespace, name), set())
        shown = set()
        for found in conditions:
            # Without encryption there is no keyring that could be out of step.
            off = found.get("reason") == "EncryptionDisabled"
            value = -1 if off else _VALUE.get(str(found.get("status")), -1)
            self._conditions.labels(kind, namespace, name, found["type"]).set(value)
            shown.add(found["type"])
        for gone in before - shown:
            self._conditions.remove(kind, namespace, name, gone)
        if shown:
            self._shown[kind, namespace, name] = shown

    def show_uninjected(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Show how many pods lack their sidecar, by namespace and reason."""
        self._uninjected.clear()
        for (namespace, reason), count in counts.items():
            self._uninjected.labels(namespace, reason).set(count)

    def hide_all(self) -> None:
        """Show no conditions any more: another replica leads."""
        for kind, namespace, name in list(self._shown):
            self.show(kind, namespace, name, ())
        self.show_uninjected({})

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)
