"""A real API server for tests: etcd, kube-apiserver and kube-controller-manager, no nodes.

The programs are found by ``KUBEBUILDER_ASSETS``, the folder that envtest's setup tool prints. Ports are free ones of
loopback, certificates and data live in a temporary directory, and ``stop`` leaves no process.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import yaml

from kube_certificates import Authority, write_account_key
from unassigned_ports import unassigned_ports

ROOT: Final = Path(__file__).parent.parent
CRDS: Final = ROOT / "crds"
PROGRAMS: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
START_SECONDS: Final = 180.0
"""Until the API server serves; about five on an idle machine."""
STOP_SECONDS: Final = 10.0
COMMAND_SECONDS: Final = 180.0
REQUEST_SECONDS: Final = 60.0
ATTEMPTS: Final = 3
"""Starts before giving up: somebody else may take a port between our finding it free and the program's bind."""
SERVICES: Final = "10.0.0.0/24"
DEFAULT_ACCOUNT: Final = "/api/v1/namespaces/default/serviceaccounts/default"


class KubeError(AssertionError):
    """The cluster did not start, or a command ended otherwise than expected. The message has its output."""


class Refused(KubeError):
    """The API server refused a request: ``status``, and ``message`` as a person reads it."""

    def __init__(self, status: int, body: str) -> None:
        self.status = status
        try:
            self.message = str(json.loads(body)["message"])
        except (ValueError, KeyError, TypeError):
            self.message = body
        super().__init__(f"{status}: {self.message}")


def assets() -> Path:
    """The folder with the programs.

    Raises:
        LookupError: saying what is missing and what to do.
    """
    folder = os.environ.get("KUBEBUILDER_ASSETS", "")
    if not folder:
        raise LookupError(
            f"KUBEBUILDER_ASSETS is not set: it must name a folder with {', '.join(PROGRAMS)} "
            "(`setup-envtest use -p path` prints one)"
        )
    missing = [name for name in PROGRAMS if not os.access(Path(folder) / name, os.X_OK)]
    if missing:
        raise LookupError(f"KUBEBUILDER_ASSETS={folder} lacks {', '.join(missing)}")
    return Path(folder)


def wait_until(holds: Callable[[], Any], seconds: float, what: str) -> Any:
    """What ``holds`` returns once that is true. Raises KubeError when it is not in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > deadline:
            raise KubeError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


class Cluster:
    """A running control plane, without nodes. ``start`` first, ``stop`` at the end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.programs = assets()
        self.kubeconfig = directory / "admin.kubeconfig"
        self.server = ""
        self._authority = Authority(directory / "certificates")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._names = itertools.count(1)
        self._context: ssl.SSLContext | None = None
        self.etcd = ""
        """Where etcd serves; over HTTP, to anybody."""

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything, with the CRDs installed. Raises KubeError with the log of what failed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._authority.server("apiserver", ["127.0.0.1", "10.0.0.1"], ["localhost", "kubernetes"])
        write_account_key(self.directory / "service-account.key")
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._start_api()
                break
            except KubeError:
                self.stop()
                if attempt == ATTEMPTS:
                    raise
        # Before the controllers: the garbage collector looks for new kinds every 30 seconds only.
        self.install(CRDS)
        self.start_controllers()

    def _start_api(self) -> None:
        client, peer, secure = (free_port() for _ in range(3))
        self.etcd = f"http://127.0.0.1:{client}"
        self.server = f"https://127.0.0.1:{secure}"
        self._write_kubeconfig(self.kubeconfig, "system:admin", ["system:masters"])
        self._context = ssl.create_default_context(cafile=str(self._authority.certificate))
        self._context.load_cert_chain(*map(str, self._authority.pair("system:admin")))
        self._spawn(
            "etcd",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={self.etcd}",
            f"--advertise-client-urls={self.etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync=true",
            "--log-level=error",
        )
        self.start_apiserver()

    def start_controllers(self) -> None:
        """Start the controller manager, again where it was stopped, and wait until it works."""
        manager = self.directory / "controller-manager.kubeconfig"
        self._write_kubeconfig(manager, "system:kube-controller-manager", ["system:masters"])
        with contextlib.suppress(Refused):
            self.request("DELETE", DEFAULT_ACCOUNT)  # of a former one: it would say nothing of this
        self._spawn(
            "kube-controller-manager",
            f"--kubeconfig={manager}",
            f"--service-account-private-key-file={self.directory / 'service-account.key'}",
            f"--root-ca-file={self._authority.certificate}",
            f"--cluster-signing-cert-file={self._authority.certificate}",
            f"--cluster-signing-key-file={self._authority.key}",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--pvclaimbinder-sync-period=1s",  # 15 by default, which tests of claims would wait for
            "--node-monitor-grace-period=24h",  # nobody sends heartbeats for nodes of tests
        )
        wait_until(
            lambda: self._exists(DEFAULT_ACCOUNT),
            START_SECONDS,
            "the controller manager makes service accounts",
        )

    def start_apiserver(self) -> None:
        """Start the API server, again where it was stopped, and wait until it is ready."""
        certificate, key = self._authority.pair("apiserver")
        account = self.directory / "service-account.key"
        self._spawn(
            "kube-apiserver",
            f"--etcd-servers={self.etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.server.rpartition(':')[2]}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={self._authority.certificate}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={account}",
            f"--service-account-signing-key-file={account}",
            f"--service-cluster-ip-range={SERVICES}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--endpoint-reconciler-type=none",
        )
        wait_until(lambda: self._exists("/readyz"), START_SECONDS, "kube-apiserver is ready")

    def restart_apiserver(self, *, kill: bool = False) -> None:
        """Have the API server away for a while, as a crash where ``kill``."""
        # Controllers would try again further and further apart, and for half a minute make nothing for the next test.
        self.stop_program("kube-controller-manager", kill=True)
        self.stop_program("kube-apiserver", kill=kill)
        self.start_apiserver()
        self.start_controllers()

    def stop(self) -> None:
        """Kill every process: what they hold is thrown away with the directory."""
        for name in list(self._processes):
            self.stop_program(name, kill=True)

    def stop_program(self, name: str, *, kill: bool = False) -> None:
        """End one of the programs, as a crash where ``kill``."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _spawn(self, name: str, *arguments: str) -> None:
        log = self.log(name)
        with log.open("ab") as output:
            self._processes[name] = subprocess.Popen(
                [self.programs / name, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop it
            )

    def log(self, name: str) -> Path:
        """Where a program writes what it has to say."""
        return self.directory / f"{name}.log"

    def _exists(self, path: str) -> bool:
        for name, process in self._processes.items():
            if process.poll() is not None:
                tail = self.log(name).read_text("utf-8", "replace")[-2000:]
                raise KubeError(f"{name} ended with {process.returncode}: {tail}")
        try:
            self.request("GET", path)
        except (Refused, OSError):
            return False
        return True

    # --- requests -----------------------------------------------------------------------------

    def kubectl(
        self,
        *arguments: str,
        stdin: str | None = None,
        code: int | None = 0,
        kubeconfig: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator, or as whom ``kubeconfig`` says.

        Raises KubeError if it does not end with ``code``; None = any.
        """
        done = subprocess.run(
            [
                self.programs / "kubectl",
                f"--kubeconfig={kubeconfig or self.kubeconfig}",
                *arguments,
            ],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            env={**os.environ, "HOME": str(self.directory)},
        )
        if code is not None and done.returncode != code:
            raise KubeError(f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        """One request to the API as the administrator; far cheaper than kubectl.

        Raises Refused for an answer of 400 and above, OSError when there is none.
        """
        request = urllib.request.Request(
            f"{self.server}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": content_type, "Accept": "application/json"},
        )
        try:
            with urllib.request.urlopen(
                request, timeout=REQUEST_SECONDS, context=self._context
            ) as answer:
                return decode(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(error.code, error.read().decode("utf-8", "replace")) from None

    def install(self, directory: Path) -> None:
        """Apply the CRDs of a directory and wait until they are served."""
        names = [
            yaml.safe_load(path.read_text("utf-8"))["metadata"]["name"]
            for path in sorted(directory.glob("*.yaml"))
        ]
        self.kubectl("apply", "--server-side", f"--filename={directory}")
        crds = [f"crd/{name}" for name in names]
        self.kubectl("wait", "--for=condition=Established", "--timeout=120s", *crds)

    # --- places and people --------------------------------------------------------------------

    @contextlib.contextmanager
    def namespace(self, prefix: str = "test") -> Iterator[str]:
        """A fresh namespace. It is deleted in the end, but nobody waits for that."""
        name = f"{prefix}-{os.getpid()}-{next(self._names)}"
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self.request("POST", "/api/v1/namespaces", body)
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        wait_until(
            lambda: self._exists(account),
            START_SECONDS,
            f"namespace {name} has its service account",
        )
        try:
            yield name
        finally:
            try:
                self.request("DELETE", f"/api/v1/namespaces/{name}")
            except Refused as refused:
                if refused.status != 404:  # the test may have deleted it
                    raise

    def as_service_account(self, namespace: str, name: str) -> Path:
        """A kubeconfig that acts as this ServiceAccount, with a token good for an hour."""
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600},
        }
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        token = self.request("POST", path, asked)["status"]["token"]
        file = self.directory / f"{namespace}.{name}.kubeconfig"
        self._write(file, {"token": token}, namespace)
        return file

    def may(self, namespace: str, account: str, verb: str, resource: str) -> bool:
        """Whether a ServiceAccount has a right by now: it comes to count a moment after its role and binding are made.

        ``resource`` is as kubectl has it, such as ``pods/log`` or ``roles.rbac.authorization.k8s.io``.
        """
        whole, _, subresource = resource.partition("/")
        plural, _, group = whole.partition(".")
        asked = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{namespace}:{account}",
                "resourceAttributes": {
                    "namespace": namespace,
                    "verb": verb,
                    "group": group,
                    "resource": plural,
                    "subresource": subresource,
                },
            },
        }
        answer = self.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", asked)
        return bool(answer["status"]["allowed"])

    def _write_kubeconfig(self, path: Path, user: str, groups: list[str]) -> None:
        self._authority.client(user, groups)
        certificate, key = self._authority.pair(user)
        self._write(
            path, {"client-certificate": str(certificate), "client-key": str(key)}, "default"
        )

    def _write(self, path: Path, user: Mapping[str, str], namespace: str) -> None:
        authority = str(self._authority.certificate)
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "test",
                    "cluster": {"server": self.server, "certificate-authority": authority},
                }
            ],
            "users": [{"name": "test", "user": dict(user)}],
            "contexts": [
                {
                    "name": "test",
                    "context": {"cluster": "test", "user": "test", "namespace": namespace},
                }
            ],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(document), "utf-8")
        path.chmod(0o600)


def decode(answer: IO[bytes]) -> Any:
    """The JSON of an answer, or its text where it is none (``/readyz``)."""
    text = answer.read().decode()
    try:
        return json.loads(text)
    except ValueError:
        return text


def free_port() -> int:
    """A TCP port that nobody listens on now, and that nobody is given who asks for any: it stays free until it is used."""
    for port in unassigned_ports():
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("", port))
            return port
    raise AssertionError("no port is free")
