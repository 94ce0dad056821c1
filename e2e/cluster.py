"""One cluster, by its context: kubectl and helm that can reach no other, and waiting with a deadline."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from e2e.settings import Refused

T = TypeVar("T")
ROOT: Final = Path(__file__).resolve().parent.parent
Object = dict[str, Any]


class Failed(AssertionError):
    """Something did not happen, or not in time."""


def program(name: str) -> str:
    """Path of a program, of KUBEBUILDER_ASSETS or PATH. Raises Refused."""
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    found = (shutil.which(name, path=assets) if assets else None) or shutil.which(name)
    if found is None:
        raise Refused(f"{name} is neither in KUBEBUILDER_ASSETS nor on PATH")
    return found


def run(command: list[str], *, stdin: str | None = None, seconds: float = 180.0) -> str:
    """What a command prints. Raises Failed with what it said when it fails."""
    try:
        done = subprocess.run(
            command,
            check=True,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd=ROOT,
        )
    except subprocess.CalledProcessError as error:
        raise Failed(f"{' '.join(command)}\n{error.stdout}{error.stderr}".rstrip()) from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command)}\ntook longer than {seconds:g} s") from None
    return done.stdout


def until(what: str, look: Callable[[], T | None], seconds: float, every: float = 0.25) -> T:
    """What ``look`` finds once it finds something. Raises Failed after that many seconds."""
    ends = time.monotonic() + seconds
    while True:
        found = look()
        if found is not None:
            return found
        if time.monotonic() >= ends:
            raise Failed(f"not within {seconds:g} s: {what}")
        time.sleep(every)


class Cluster:
    """A cluster, by the name of its context."""

    def __init__(self, context: str) -> None:
        self.context = context
        self._kubectl = program("kubectl")
        self._helm = program("helm")

    def refuse_unless_empty(self, namespaces: list[str]) -> None:
        """Raises Refused if the context is unknown, or GossipSwarm is already there."""
        known = run([self._kubectl, "config", "get-contexts", "-o", "name"]).split()
        if self.context not in known:
            raise Refused(
                f"there is no context {self.context}; there is {', '.join(known) or 'none'}"
            )
        found = [
            name
            for name in self.names("customresourcedefinition")
            if name.endswith("gossipswarm.io")
        ]
        found += [f"namespace {name}" for name in namespaces if name in self.names("namespace")]
        if found:
            raise Refused(
                f"the cluster has {', '.join(found)} already, and the test would delete that at its end"
            )

    def kubectl(self, *arguments: str, stdin: str | None = None, seconds: float = 180.0) -> str:
        """What kubectl prints. Raises Failed."""
        command = [self._kubectl, "--context", self.context, *arguments]
        return run(command, stdin=stdin, seconds=seconds)

    def helm(self, *arguments: str, stdin: str | None = None, seconds: float = 400.0) -> str:
        """What helm prints. Raises Failed."""
        command = [self._helm, "--kube-context", self.context, *arguments]
        return run(command, stdin=stdin, seconds=seconds)

    def apply(self, namespace: str, *objects: Object) -> None:
        """Server-side apply."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("-n", namespace, "apply", "--server-side", "-f", "-", stdin=text)

    def get(self, namespace: str, kind: str, name: str) -> Object:
        """One object."""
        return dict(json.loads(self.kubectl("-n", namespace, "get", kind, name, "-o", "json")))

    def find(self, namespace: str, kinds: str, selector: str = "") -> list[Object]:
        """Objects of these kinds, ``a,b``, in a namespace."""
        arguments = ["-n", namespace, "get", kinds, "-o", "json"]
        if selector:
            arguments += ["-l", selector]
        return list(json.loads(self.kubectl(*arguments))["items"])

    def names(self, kind: str) -> list[str]:
        """Names of everything of a kind, in all namespaces."""
        printed = self.kubectl("get", kind, "-A", "-o", "jsonpath={.items[*].metadata.name}")
        return printed.split()

    def wait(self, namespace: str, what: str, condition: str, seconds: int) -> None:
        """``kubectl wait --for=condition=...``. Raises Failed."""
        self.kubectl(
            "-n", namespace, "wait", f"--for=condition={condition}", what, f"--timeout={seconds}s",
            seconds=seconds + 30,
        )  # fmt: skip

    def python(self, namespace: str, pod: str, script: str, *arguments: str) -> str:
        """What a script prints that runs in an agent's container."""
        return self.kubectl(
            "-n", namespace, "exec", pod, "-c", "agent", "--", "python3", "-c", script, *arguments
        )
