"""What becomes of a pod: it is left alone, gets its sidecar, or goes without for a reason that can be told. Pure; the same for
the webhook, before the pod exists, and for the leader, which looks at pods that exist without a sidecar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from gossipswarm_operator import names
from gossipswarm_operator.injection import sidecar
from gossipswarm_operator.injection.wishes import BadAnnotation, Wishes, wishes
from gossipswarm_operator.model import Swarm

Json = dict[str, Any]
Reason = Literal["BadAnnotation", "NoSuchSwarm", "OtherNamespace", "NotPossible"]

_READ_ONLY: Final = ("configMap", "secret", "projected", "downwardAPI")
"""Volumes in which no directory can be made, for another volume to be mounted on."""


class Leave(msgspec.Struct, frozen=True):
    """It does not ask, or has its sidecar already."""


class Inject(msgspec.Struct, frozen=True):
    """It gets a sidecar by this JSON patch (RFC 6902), which only adds."""

    patch: tuple[Json, ...]


class Refuse(msgspec.Struct, frozen=True):
    """It goes without. The message says what is wrong, and what was expected."""

    reason: Reason
    message: str


Decision = Leave | Inject | Refuse
_PORTS: Final = (names.API_PORT, names.LOCAL_API_PORT)
AUTHORITY: Final = "ca.crt"
"""Key of a TLS Secret that its certificate chains to; ``tls.crt`` where it is its own authority."""


def asked(pod: Mapping[str, Any]) -> str | None:
    """The swarm whose sidecar a pod asks for; None if it does not, or has one."""
    name = (pod["metadata"].get("labels") or {}).get(names.INJECT_LABEL)
    return None if name in (None, "", names.NO_INJECTION) or has_sidecar(pod) else str(name)


def has_sidecar(pod: Mapping[str, Any]) -> bool:
    """Whether there is a sidecar already, ours or one that somebody wrote by hand."""
    return any(each["name"] == names.SIDECAR for each in pod["spec"].get("initContainers") or ())


def swarm_named(name: str, namespace: str) -> str | Refuse:
    """The swarm's name in the pod's own namespace: tokens are Secrets, which a pod can mount from nowhere else."""
    swarm, dot, elsewhere = name.partition(".")
    if not dot or elsewhere == namespace:
        return swarm
    return Refuse(
        "OtherNamespace",
        f"label {names.INJECT_LABEL}={name}: the pod is in namespace {namespace}, and a pod only gets a sidecar of a "
        f"swarm of its own namespace; run the pod in {elsewhere}, or a swarm in {namespace}",
    )


def decide(
    pod: Mapping[str, Any],
    namespace: str,
    swarm: Swarm | None,
    default_image: str,
    authority: str = AUTHORITY,
) -> Decision:
    """What becomes of a pod. ``swarm`` is the one that ``asked`` and ``swarm_named`` name, None if there is none."""
    name = asked(pod)
    if name is None:
        return Leave()
    found = swarm_named(name, namespace)
    if isinstance(found, Refuse):
        return found
    if swarm is None:
        return Refuse(
            "NoSuchSwarm",
            f"label {names.INJECT_LABEL}={name}: there is no GossipSwarm {found} in namespace {namespace}",
        )
    try:
        wanted = wishes(pod["metadata"].get("annotations") or {})
        region = _region(wanted, swarm, pod)
    except BadAnnotation as error:
        return Refuse("BadAnnotation", str(error))
    problem = _problem(pod, wanted)
    if problem is not None:
        return Refuse("NotPossible", problem)
    container = sidecar.container(swarm, default_image, wanted, pod, region)
    return Inject(tuple(_patch(pod, container, sidecar.volumes(swarm, wanted, authority), wanted)))


def _region(wanted: Wishes, swarm: Swarm, pod: Mapping[str, Any]) -> str | None:
    """The region whose agents the sidecar prefers; None if only the node tells."""
    if wanted.region is not None:
        if wanted.region not in swarm.regions:
            raise BadAnnotation(
                f"annotation {names.SIDECAR_REGION_ANNOTATION}: {wanted.region!r} is no region of {swarm.name}; "
                f"it has {', '.join(swarm.regions)}"
            )
        return wanted.region
    if len(swarm.regions) == 1:
        return swarm.regions[0]
    selector = (pod["spec"].get("nodeSelector") or {}).items()
    template = swarm.spec.pod_template.node_selector
    for region in swarm.spec.regions:
        own = {k: v for k, v in region.node_selector.items() if template.get(k) != v}
        if own and own.items() <= selector:
            return region.name
    return None


# --- what stands in the way -----------------------------------------------------------------------


def _problem(pod: Mapping[str, Any], wanted: Wishes) -> str | None:
    """Why this pod cannot have this sidecar: what the API server or the kubelet would refuse, or what is not safe."""
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        return (
            "spec.hostNetwork: the sidecar serves without a token on loopback, which would be the whole node's; "
            "run the pod in a network of its own"
        )
    if (spec.get("os") or {}).get("name") == "windows":
        return "spec.os: there is no sidecar for Windows"
    if wanted.reload_signal is not None:
        if not spec.get("shareProcessNamespace"):
            return (
                f"annotation {names.RELOAD_SIGNAL_ANNOTATION}: signals need spec.shareProcessNamespace: true; "
                f"or take {names.RELOAD_URL_ANNOTATION}"
            )
        if not sidecar.application_user(pod):
            return (
                f"annotation {names.RELOAD_SIGNAL_ANNOTATION}: signals come from the user that the application runs as; "
                "set spec.securityContext.runAsUser, which may not be 0"
            )
    return next(_collisions(spec, wanted), None)


def _collisions(spec: Mapping[str, Any], wanted: Wishes) -> Iterator[str]:
    volumes = {each["name"]: each for each in spec.get("volumes") or ()}
    for name in volumes:
        if name.startswith(f"{names.SIDECAR}-"):
            yield f"spec.volumes: the name {name} is the sidecar's; take another"
    for each in spec["containers"]:
        if each["name"] == names.SIDECAR:
            yield f"spec.containers: the name {names.SIDECAR} is the sidecar's; take another"
    for each in _containers(spec):
        for port in each.get("ports") or ():
            number = port.get("containerPort")
            if number in _PORTS and port.get("protocol") != "UDP":
                yield f"container {each['name']} takes port {number}, which is the sidecar's"
        for mount in each.get("volumeMounts") or ():
            for directory in wanted.directories:
                problem = _mounted(mount, directory, volumes.get(mount["name"], {}))
                if problem:
                    yield f"container {each['name']} {problem}"


def _mounted(mount: Mapping[str, Any], directory: str, volume: Mapping[str, Any]) -> str | None:
    there = str(mount["mountPath"]).rstrip("/") or "/"
    if there == directory:
        return f"mounts {mount['name']} at {there}, where projected files are to be"
    if there.startswith(f"{directory}/"):
        return f"mounts {mount['name']} at {there}, within {directory}, where projected files are to be"
    fixed = mount.get("readOnly") or any(kind in volume for kind in _READ_ONLY)
    if fixed and directory.startswith(f"{there.rstrip('/')}/"):
        return f"mounts {mount['name']} at {there} to be read only, so that there can be no {directory}"
    return None


def _containers(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from spec.get("initContainers") or ()
    yield from spec["containers"]


# --- the patch ------------------------------------------------------------------------------------


def _patch(
    pod: Mapping[str, Any], container: Json, volumes: Sequence[Json], wanted: Wishes
) -> Iterator[Json]:
    spec = pod["spec"]
    mounts = sidecar.file_mounts(wanted, writable=False)
    # Before the sidecar comes in front of the others, which changes their numbers.
    for kind in ("initContainers", "containers"):
        for number, each in enumerate(spec.get(kind) or ()):
            yield from _appended(each, f"/spec/{kind}/{number}", "volumeMounts", mounts)
    yield from _appended(spec, "/spec", "volumes", volumes)
    if spec.get("initContainers"):
        # First, so that the other init containers have it too.
        yield {"op": "add", "path": "/spec/initContainers/0", "value": container}
    else:
        yield {"op": "add", "path": "/spec/initContainers", "value": [container]}


def _appended(
    there: Mapping[str, Any], path: str, field: str, added: Sequence[Json]
) -> Iterator[Json]:
    if not added:
        return
    if not there.get(field):
        yield {"op": "add", "path": f"{path}/{field}", "value": list(added)}
        return
    for each in added:
        yield {"op": "add", "path": f"{path}/{field}/-", "value": each}
