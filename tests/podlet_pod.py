"""One pod of a podlet: the process of its agent, started as its spec says, probed and ended."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from podlet_volumes import Fetch, NotYet, Volumes, contents_of

PROGRAM: Final = [sys.executable, "-c", "from gossipswarm_agent.main import run; run()"]
FIRST_BACKOFF: Final = 0.5
BACKOFF_LIMIT: Final = 5.0
"""Seconds between two starts of a container that ends by itself; a kubelet takes ten and more."""
PROBE_SECONDS: Final = 0.5
"""The longest pause between two readiness probes."""
FAILURES: Final = 3
"""Probes in a row that fail before a container is not ready any more; as with a kubelet, where a probe says nothing else."""
PRESTOP_LIMIT: Final = 0.5
"""Seconds that a preStop sleep takes at most."""
_REFERENCE: Final = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_KEYED: Final = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")
_UNVERIFIED: Final = ssl._create_unverified_context()


def now() -> str:
    """As Kubernetes writes times."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def sidecars(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Init containers of a pod that go on beside its containers, as edges do."""
    found = pod["spec"].get("initContainers", ())
    return [c for c in found if c["name"] == "gossipswarm" and c.get("restartPolicy") == "Always"]


class PodProcess:
    """A pod that is on its way, runs, or ends. Driven by ``step``, which blocks for no longer than a probe takes."""

    def __init__(
        self, pod: Mapping[str, Any], address: str, directory: Path, claims: Path, fetch: Fetch
    ) -> None:
        self.pod = pod
        self.address = address
        self.log = directory / "log"
        self.ready = False
        self._failures = 0
        """Probes in a row that failed."""
        self.seeds: list[str] = []
        """Where others of the swarm are, for an agent that could not resolve a service."""
        self.waiting = ""
        """Why it has not started, or not again: a reason as Kubernetes has them."""
        self.message = ""
        self.restarts = 0
        self._fetch = fetch
        self._volumes = Volumes(pod, directory / "volumes", claims, fetch)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = ""
        self._created_at = now()
        self._ready_since = now()
        self._last_exit: dict[str, Any] | None = None
        self._backoff = FIRST_BACKOFF
        self._not_before = 0.0
        self._probe_due = 0.0
        self._ends_at: float | None = None
        self._terminate_at = 0.0
        self._signalled = False
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def container(self) -> Mapping[str, Any]:
        """The one that is run: the agent's, or the sidecar of an application, whose own containers are not."""
        return next(self._found)

    @property
    def _found(self) -> Iterator[Mapping[str, Any]]:
        yield from (c for c in self.pod["spec"]["containers"] if c["name"] == "agent")
        yield from sidecars(self.pod)

    @property
    def is_over(self) -> bool:
        """It was told to end, and has ended."""
        return self._ends_at is not None and self._process is None

    # --- its life ---------------------------------------------------------------------------------

    def step(self) -> None:
        """Do what is due."""
        if self._ends_at is not None:
            self._end()
            return
        if self._process is not None and self._process.poll() is not None:
            self._note_exit(self._process.returncode)
        if self._process is None:
            if time.monotonic() >= self._not_before:
                self._try_to_start()
        elif time.monotonic() >= self._probe_due:
            self._probe()

    def follow(self) -> None:
        """Bring changed ConfigMaps and Secrets into its volumes."""
        if self._process is not None:
            self._volumes.follow()

    def terminate(self, seconds: float) -> None:
        """End it: preStop, SIGTERM, and SIGKILL after so long."""
        if self._ends_at is None:
            hook = self.container.get("lifecycle", {}).get("preStop", {})
            pause = min(PRESTOP_LIMIT, hook.get("sleep", {}).get("seconds", 0))
            self._terminate_at = time.monotonic() + pause
            self._ends_at = time.monotonic() + seconds

    def kill(self) -> None:
        """End it at once, as a machine that loses power would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def crash(self) -> None:
        """Kill the process; like a kubelet the next steps start it again."""
        assert self._process is not None
        self._process.kill()

    def forget(self) -> None:
        """The pod is gone from the API."""
        self.kill()
        self._volumes.remove()

    def _end(self) -> None:
        process = self._process
        if process is None:
            return
        self.ready = False
        if process.poll() is not None:
            self._process = None
        elif self._ends_at is not None and time.monotonic() >= self._ends_at:
            self.kill()
        elif not self._signalled and time.monotonic() >= self._terminate_at:
            process.terminate()
            self._signalled = True

    def _try_to_start(self) -> None:
        try:
            self._volumes.prepare()
            environment = self._environment()
        except NotYet as why:
            self.waiting, self.message = "ContainerCreating", str(why)
            return
        container = self.container
        arguments = [self._volumes.place(container, text) for text in container.get("args", ())]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*PROGRAM, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started_at = now()
        self.waiting = self.message = ""

    def _note_exit(self, code: int) -> None:
        self._process = None
        self.ready = False
        self.restarts += 1
        self._last_exit = {
            "exitCode": code if code >= 0 else 128 - code,
            "reason": "Completed" if code == 0 else "Error",
            "startedAt": self._started_at,
            "finishedAt": now(),
        }
        self.waiting, self.message = "CrashLoopBackOff", f"it ended with {code}"
        self._not_before = time.monotonic() + self._backoff
        self._backoff = min(BACKOFF_LIMIT, 2 * self._backoff)

    def _probe(self) -> None:
        # A sidecar only has to start: from then on its application is what is ready or not.
        probe = self.container.get("readinessProbe") or self.container.get("startupProbe")
        answers = probe is None or self._answers(probe)
        self._failures = 0 if answers else self._failures + 1
        few = self._failures < int((probe or {}).get("failureThreshold", FAILURES))
        ready = answers or (self.ready and few)
        if ready != self.ready:
            self._ready_since = now()
        self.ready = ready
        period = float((probe or {}).get("periodSeconds", PROBE_SECONDS))
        self._probe_due = time.monotonic() + min(PROBE_SECONDS, period)

    def _answers(self, probe: Mapping[str, Any]) -> bool:
        target = probe["httpGet"]
        port = target["port"]
        if isinstance(port, str):
            port = next(p["containerPort"] for p in self.container["ports"] if p["name"] == port)
        scheme = target.get("scheme", "HTTP").lower()
        url = f"{scheme}://{self.address}:{port}{target.get('path', '/')}"
        try:
            seconds = probe.get("timeoutSeconds", 1)
            with urllib.request.urlopen(url, timeout=seconds, context=_UNVERIFIED) as answer:
                return bool(answer.status < 400)
        except (OSError, urllib.error.URLError):
            return False

    # --- its environment --------------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        container, found = self.container, {}
        for source in container.get("envFrom", ()):
            for kind, field in (("configmaps", "configMapRef"), ("secrets", "secretRef")):
                if field in source:
                    contents = contents_of(kind, self._needed(kind, source[field]["name"]))
                    prefix = source.get("prefix", "")
                    found |= {prefix + key: value.decode() for key, value in contents.items()}
        for entry in container.get("env", ()):
            if "valueFrom" in entry:
                found[entry["name"]] = self._value_from(entry["valueFrom"])
            else:
                text = entry.get("value", "")
                found[entry["name"]] = _REFERENCE.sub(
                    lambda m: found.get(m[1], m[0]), text
                )  # fmt: skip
        found = {name: self._volumes.place(container, text) for name, text in found.items()}
        # All pods share this machine's network: none may have every address, and none has a name server.
        if found.get("GOSSIPSWARM_ROLE") == "edge":
            found |= self._of_edge(container, found)
        else:
            if found.get("GOSSIPSWARM_HOST") in (None, "0.0.0.0"):
                found["GOSSIPSWARM_HOST"] = self.address
            found["GOSSIPSWARM_SEEDS"] = ",".join(self.seeds)
        return {"PATH": "/usr/bin:/bin", "HOSTNAME": self.pod["metadata"]["name"], **found}

    def _of_edge(self, container: Mapping[str, Any], told: Mapping[str, str]) -> dict[str, str]:
        entries = json.loads(told.get("GOSSIPSWARM_PROJECT", "[]"))
        for entry in entries:
            entry["path"] = self._volumes.place(container, entry["path"])
        return {
            "GOSSIPSWARM_API_HOST": self.address,
            "GOSSIPSWARM_LOCAL_API_PORT": "0",
            "GOSSIPSWARM_UPSTREAM": ",".join(self.seeds),
            "GOSSIPSWARM_PROJECT": json.dumps(entries),
        }

    def file(self, path: str) -> Path:
        """Where a file of the sidecar's volumes is on this machine."""
        return Path(self._volumes.place(self.container, path))

    def _value_from(self, source: Mapping[str, Any]) -> str:
        if "fieldRef" in source:
            return self._field(source["fieldRef"]["fieldPath"])
        for kind, field in (("configmaps", "configMapKeyRef"), ("secrets", "secretKeyRef")):
            if field in source:
                reference = source[field]
                contents = contents_of(kind, self._needed(kind, reference["name"]))
                if reference["key"] not in contents:
                    raise NotYet(f"{kind} {reference['name']!r} has no key {reference['key']!r}")
                return contents[reference["key"]].decode()
        raise NotYet(f"podlets know no value from {dict(source)}")

    def _needed(self, kind: str, name: str) -> dict[str, Any]:
        found = self._fetch(kind, name)
        if found is None:
            raise NotYet(f"{kind} {name!r} not found")
        return found

    def _field(self, path: str) -> str:
        if path in ("status.podIP", "status.podIPs"):
            return self.address
        if path == "status.hostIP":
            return "127.0.0.1"
        keyed = _KEYED.fullmatch(path)
        if keyed is not None:
            return str(self.pod["metadata"].get(keyed[1], {}).get(keyed[2], ""))
        value: Any = self.pod
        for part in path.split("."):
            value = value.get(part, "")
        return str(value)

    # --- its status -------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """As a kubelet reports it."""
        container, running = self.container, self._process is not None
        if running:
            state: dict[str, Any] = {"running": {"startedAt": self._started_at}}
        else:
            reason = self.waiting or "ContainerCreating"
            state = {"waiting": {"reason": reason, "message": self.message}}
        report = {
            "name": container["name"],
            "image": container["image"],
            "imageID": f"podlet://{container['image']}",
            "ready": self.ready,
            "started": running,
            "restartCount": self.restarts,
            "state": state,
            "lastState": {"terminated": self._last_exit} if self._last_exit else {},
        }
        if running or self._last_exit:
            report["containerID"] = f"podlet://{self.pod['metadata']['uid']}/{self.restarts}"
        ready = "True" if self.ready else "False"
        statuses: dict[str, Any] = {"containerStatuses": [report]}
        if container not in self.pod["spec"]["containers"]:
            statuses = {
                "initContainerStatuses": [report],
                "containerStatuses": [
                    self._application(each) for each in self.pod["spec"]["containers"]
                ],
            }
        return {
            "phase": "Running" if running or self.restarts else "Pending",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "hostIP": "127.0.0.1",
            "startTime": self._created_at,
            **statuses,
            "conditions": [
                {"type": kind, "status": value, "lastTransitionTime": since}
                for kind, value, since in (
                    ("PodScheduled", "True", self._created_at),
                    ("Initialized", "True", self._created_at),
                    ("ContainersReady", ready, self._ready_since),
                    ("Ready", ready, self._ready_since),
                )
            ],
        }

    def _application(self, container: Mapping[str, Any]) -> dict[str, Any]:
        """A container that nobody runs: it does as if, once its sidecar has started."""
        state = (
            {"running": {"startedAt": self._ready_since}}
            if self.ready
            else {"waiting": {"reason": "PodInitializing"}}
        )
        return {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": self.ready,
            "started": self.ready,
            "restartCount": 0,
            "state": state,
            "lastState": {},
        }
