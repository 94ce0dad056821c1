"""Volumes of a pod as a kubelet makes them: ConfigMaps and Secrets that follow their source, and directories.

There is no file system of a container here, so ``place`` says where a path of the container really is.
"""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

Fetch: TypeAlias = Callable[[str, str], "dict[str, Any] | None"]
"""(``configmaps`` | ``secrets`` | ``persistentvolumeclaims``, name) to the object; None = there is none."""


class NotYet(Exception):
    """What a pod needs before it can start; a kubelet says it in an event and tries again."""


class Volumes:
    """The volumes of one pod, below a directory of its own. Claims outlive it in ``claims``."""

    def __init__(self, pod: Mapping[str, Any], directory: Path, claims: Path, fetch: Fetch) -> None:
        self._pod = pod
        self._directory = directory
        self._claims = claims
        self._fetch = fetch
        self._places: dict[str, Path] = {}
        self._written: dict[str, dict[str, bytes]] = {}
        self._revision = 0

    def prepare(self) -> None:
        """Make all of them. Raises NotYet naming the first that cannot be made now."""
        for volume in self._pod["spec"].get("volumes", ()):
            name = volume["name"]
            if "persistentVolumeClaim" in volume:
                self._places[name] = self._claimed(volume["persistentVolumeClaim"]["claimName"])
            else:
                self._places[name] = self._directory / name
                self._places[name].mkdir(parents=True, exist_ok=True)
            if "persistentVolumeClaim" not in volume and "emptyDir" not in volume:
                self._write(volume)

    def follow(self) -> None:
        """Bring what changed at its source into the pod, each volume in one step."""
        for volume in self._pod["spec"].get("volumes", ()):
            if "persistentVolumeClaim" not in volume and "emptyDir" not in volume:
                try:
                    self._write(volume)
                except NotYet:
                    continue  # the source is gone: a running pod keeps what it has

    def place(self, container: Mapping[str, Any], path: str) -> str:
        """Where a path of this container is; the path itself where no volume is mounted."""
        wanted = PurePosixPath(path)
        mounts = sorted(container.get("volumeMounts", ()), key=lambda m: -len(m["mountPath"]))
        for mount in mounts:
            if wanted.is_relative_to(mount["mountPath"]):
                base = self._places[mount["name"]] / mount.get("subPath", "")
                return str(base / wanted.relative_to(mount["mountPath"]))
        return path

    def remove(self) -> None:
        """What lives as long as the pod goes with it."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _claimed(self, claim: str) -> Path:
        found = self._fetch("persistentvolumeclaims", claim)
        if found is None or found.get("status", {}).get("phase") != "Bound":
            raise NotYet(f"the claim {claim} is not bound")
        place = self._claims / found["metadata"]["uid"]
        place.mkdir(parents=True, exist_ok=True)
        return place

    # --- files that come from objects -------------------------------------------------------------

    def _write(self, volume: Mapping[str, Any]) -> None:
        files = self._files_of(volume)
        name = volume["name"]
        if self._written.get(name) != files:
            self._written[name] = files
            self._flip(self._places[name], files)

    def _files_of(self, volume: Mapping[str, Any]) -> dict[str, bytes]:
        if "projected" in volume:
            found: dict[str, bytes] = {}
            for source in volume["projected"]["sources"]:
                found |= self._files_of(source)
            return found
        if "configMap" in volume:
            return self._files("configmaps", volume["configMap"], volume["configMap"]["name"])
        if "secret" in volume:
            secret = volume["secret"]
            return self._files("secrets", secret, secret.get("secretName") or secret["name"])
        if "serviceAccountToken" in volume or "downwardAPI" in volume:
            return {}  # the pod is mounted its token by default; agents have no use for one
        raise NotYet(f"podlets know no volume such as {dict(volume)}")

    def _files(self, kind: str, source: Mapping[str, Any], name: str) -> dict[str, bytes]:
        found = self._fetch(kind, name)
        if found is None:
            if source.get("optional"):
                return {}
            raise NotYet(f"{kind} {name!r} not found")
        contents = contents_of(kind, found)
        items = source.get("items")
        if items is None:
            return contents
        missing = [item["key"] for item in items if item["key"] not in contents]
        if missing:
            raise NotYet(f"{kind} {name!r} has no key {missing[0]!r}")
        return {item["path"]: contents[item["key"]] for item in items}

    def _flip(self, place: Path, files: Mapping[str, bytes]) -> None:
        """As the kubelet's AtomicWriter: a new directory, and one rename that brings all of it to light."""
        self._revision += 1
        former = place / "..data"
        old = former.resolve() if former.is_symlink() else None
        new = place / f"..{self._revision}"
        for name, content in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(content)
        new.mkdir(exist_ok=True)
        link = place / "..data_tmp"
        link.symlink_to(new.name)
        link.replace(former)
        tops = {PurePosixPath(name).parts[0] for name in files}
        for top in tops:
            if not (place / top).is_symlink():
                (place / top).symlink_to(f"..data/{top}")
        for entry in place.iterdir():
            if entry.is_symlink() and entry.name[:2] != ".." and entry.name not in tops:
                entry.unlink()
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)


def contents_of(kind: str, found: Mapping[str, Any]) -> dict[str, bytes]:
    """Bytes by key of a ConfigMap or Secret."""
    if kind == "secrets":
        return {key: base64.b64decode(text) for key, text in (found.get("data") or {}).items()}
    plain = {key: text.encode() for key, text in (found.get("data") or {}).items()}
    binary = {k: base64.b64decode(v) for k, v in (found.get("binaryData") or {}).items()}
    return plain | binary
