"""Whether an object is as we want it, in the sense of server-side apply: our fields, whatever else it has.

The API server adds defaults and others add fields of their own, so an object is compared field by field with what is
wanted of it. Fields that were wanted once and are not any more show in the hash that is stored with the object.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gossipswarm_operator.names import APPLIED_ANNOTATION, TEMPLATE_ANNOTATION
from gossipswarm_operator.quantities import quantity

# Lists that the API merges entry by entry; every other list is replaced as a whole.
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
_WHOLE: Final = frozenset(
    (
        "selector",
        "podSelector",
        "labelSelector",
        "nodeSelector",
        "ingress",
        "tolerations",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "preferredDuringSchedulingIgnoredDuringExecution",
    )
)
"""What has one owner from here on inwards, and no defaults: anything more in it is a change of ours."""
_CONTAINER_PORT: Final = ("containerPort", "protocol")
_SERVICE_PORT: Final = ("port", "protocol")


def stamped(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The object with the hash of itself among its annotations."""
    stamps = {APPLIED_ANNOTATION: digest(wanted)}
    if wanted["kind"] == "StatefulSet":
        stamps[TEMPLATE_ANNOTATION] = digest(wanted["spec"]["template"])
    metadata = dict(wanted["metadata"])
    metadata["annotations"] = {**metadata.get("annotations", {}), **stamps}
    return {**wanted, "metadata": metadata}


def digest(content: Any) -> str:
    """Hash of anything that is JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def template_changes(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether applying a stamped StatefulSet changes its template, so that its pods are out of date afterwards."""
    known = (found["metadata"].get("annotations") or {}).get(TEMPLATE_ANNOTATION)
    if known != wanted["metadata"]["annotations"][TEMPLATE_ANNOTATION]:
        return True
    return difference(wanted["spec"]["template"], found["spec"].get("template")) is not None


def difference(wanted: Any, found: Any, path: str = "", *, whole: bool = False) -> str | None:
    """The first field of ``wanted`` that ``found`` has otherwise; None if it has all of them.

    ``whole``: nor may it have any other.
    """
    whole = whole or path.rpartition(".")[2] in _WHOLE
    if isinstance(wanted, Mapping):
        return _of_mapping(wanted, found, path, whole)
    if isinstance(wanted, list):
        return _of_list(wanted, found, path, whole)
    return None if _same(wanted, found, path) else path


def _of_mapping(wanted: Mapping[str, Any], found: Any, path: str, whole: bool) -> str | None:
    if not isinstance(found, Mapping):
        return path if wanted or found is not None else None
    # Metadata last: in it is a hash of all the rest, which says less than a field of that.
    for name, value in sorted(wanted.items(), key=lambda item: not path and item[0] == "metadata"):
        where = f"{path}.{name}" if path else name
        if name in found:
            differs = difference(value, found[name], where, whole=whole)
            if differs is not None:
                return differs
        elif value not in (None, "", {}, []):  # the API server drops what is empty
            return where
    more = sorted(found.keys() - wanted.keys()) if whole else ()
    return f"{path}.{more[0]}" if more else None


def _of_list(wanted: Sequence[Any], found: Any, path: str, whole: bool) -> str | None:
    if not isinstance(found, list):
        return path if wanted or found is not None else None
    key = _key(path, wanted)
    if key is None:
        if len(wanted) != len(found):
            return path
        pairs = zip(wanted, found, strict=True)
        return next(
            (
                differs
                for index, (want, have) in enumerate(pairs)
                if (differs := difference(want, have, f"{path}[{index}]", whole=whole)) is not None
            ),
            None,
        )
    held = {tuple(entry.get(name) for name in key): entry for entry in found}
    if len(held) < len(found):
        return path  # the same entry twice, which the API lets pass in some lists
    for want in wanted:
        identity = tuple(want.get(name) for name in key)
        where = f"{path}[{','.join(map(str, identity))}]"
        if identity not in held:
            return where
        differs = difference(want, held[identity], where, whole=whole)
        if differs is not None:
            return differs
    return None


def _key(path: str, entries: Sequence[Any]) -> tuple[str, ...] | None:
    name = path.rpartition(".")[2]
    if name != "ports":
        return _KEYS.get(name)
    first = entries[0] if entries else {}
    if "containerPort" in first:
        return _CONTAINER_PORT
    return _SERVICE_PORT if "targetPort" in first else None


def _same(wanted: Any, found: Any, path: str) -> bool:
    if wanted == found and isinstance(wanted, bool) == isinstance(found, bool):
        return True
    if not _is_quantity(path):
        return False
    try:
        return quantity(wanted) == quantity(found)
    except (TypeError, ValueError):
        return False


def _is_quantity(path: str) -> bool:
    """The API server writes quantities its own way: 1024Mi comes back as 1Gi."""
    return ".requests." in path or ".limits." in path or path.endswith(".sizeLimit")
