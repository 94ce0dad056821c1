"""Which cluster, as whom, and which backend a command takes."""

from __future__ import annotations

import json
from argparse import Namespace
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import yaml

from gossipctl.backend import choose
from gossipctl.failures import CommandFailed, UsageError
from gossipctl.kubernetes import kubeconfig
from gossipctl.kubernetes.credentials import credentials
from gossipctl.kubernetes.kubeconfig import Access
from gossipctl.kubernetes.tunnel import through_proxy
from gossipswarm_client.http1 import endpoint


def config(path: Path, name: str, cluster: Any = None, user: Any = None, **context: Any) -> Path:
    document = {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, **context}}],
        "clusters": [
            {"name": name, "cluster": {"server": f"https://{name}:6443", **(cluster or {})}}
        ],
        "users": [{"name": name, "user": user or {}}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "HTTPS_PROXY", "https_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_the_current_context_gives_server_namespace_and_user(tmp_path, monkeypatch):
    pem = b64encode(b"PEM").decode()
    user = {
        "client-certificate-data": pem,
        "client-key-data": pem,
        "as": "somebody",
        "as-groups": ["a", "b"],
    }
    file = config(tmp_path / "c", "prod", {"certificate-authority-data": pem}, user, namespace="n")
    monkeypatch.setenv("KUBECONFIG", str(file))

    found = kubeconfig.load()

    assert (found.server, found.namespace, found.context) == ("https://prod:6443", "n", "prod")
    assert (found.ca, found.certificate, found.key) == ("PEM", "PEM", "PEM")
    assert found.headers == {"Impersonate-User": "somebody", "Impersonate-Group": ("a", "b")}
    assert kubeconfig.load(namespace="other").namespace == "other"


def test_files_are_merged_and_the_first_wins(tmp_path, monkeypatch):
    one, two = config(tmp_path / "1", "one"), config(tmp_path / "2", "two")
    monkeypatch.setenv("KUBECONFIG", f"{one}:{tmp_path / 'absent'}:{two}")

    assert kubeconfig.load().context == "one"
    assert kubeconfig.load("two").server == "https://two:6443"
    assert kubeconfig.contexts() == ["one", "two"]
    with pytest.raises(UsageError) as refused:
        kubeconfig.load("tow")
    assert refused.value.hint == "did you mean two?"


def test_paths_are_relative_to_their_file(tmp_path, monkeypatch):
    (tmp_path / "ca.pem").write_text("CA")
    (tmp_path / "token").write_text("secret\n")
    user = {"tokenFile": "token"}
    file = config(tmp_path / "c", "prod", {"certificate-authority": "ca.pem"}, user)
    monkeypatch.setenv("KUBECONFIG", str(file))

    found = kubeconfig.load()

    assert found.ca == "CA"
    assert credentials(found).headers == {"Authorization": "Bearer secret"}


def test_without_any_file_there_is_no_cluster():
    assert not kubeconfig.is_there()
    with pytest.raises(CommandFailed, match="no cluster is configured"):
        kubeconfig.load()


def test_a_pod_uses_its_service_account(tmp_path, monkeypatch):
    for name, text in (("token", "t"), ("namespace", "here"), ("ca.crt", "CA")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")

    found = kubeconfig.load()

    assert (found.server, found.namespace, found.ca) == ("https://[fd00::1]:443", "here", "CA")
    assert credentials(found).headers == {"Authorization": "Bearer t"}


def test_a_plugin_gives_credentials(tmp_path):
    plugin = tmp_path / "plugin"
    plugin.write_text(
        "#!/bin/sh\n"
        'test "$FLAVOUR" = sweet || exit 3\n'
        'echo "$KUBERNETES_EXEC_INFO" > "$0.asked"\n'
        'echo \'{"kind": "ExecCredential", "status": {"token": "fresh"}}\'\n'
    )
    plugin.chmod(0o755)
    how = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(plugin),
        "env": [{"name": "FLAVOUR", "value": "sweet"}],
        "provideClusterInfo": True,
        "interactiveMode": "Never",
    }

    found = credentials(Access("https://prod:6443", plugin=how))

    assert found.headers == {"Authorization": "Bearer fresh"}
    asked = json.loads(Path(f"{plugin}.asked").read_text())
    assert asked["spec"]["cluster"]["server"] == "https://prod:6443"
    with pytest.raises(CommandFailed, match="exited with 3"):
        credentials(Access("https://prod:6443", plugin={**how, "env": []}))
    with pytest.raises(CommandFailed, match="not installed"):
        credentials(Access("https://prod:6443", plugin={"command": "no-such-plugin"}))


@pytest.mark.parametrize(
    ("server", "excepted", "proxy"),
    [
        ("https://prod.example.com", "", "http://proxy:3128"),
        ("https://prod.example.com", "example.com", ""),
        ("https://prod.example.com", "ample.com", "http://proxy:3128"),
        ("https://10.1.2.3", "10.0.0.0/8", ""),
        ("https://127.0.0.1:6443", "", ""),
        ("http://prod.example.com", "", ""),
    ],
)
def test_the_environments_proxy_is_used_but_for_exceptions(monkeypatch, server, excepted, proxy):
    monkeypatch.setenv("HTTPS_PROXY", "proxy:3128")
    monkeypatch.setenv("NO_PROXY", excepted)
    assert through_proxy(Access(server), endpoint(server)) == proxy


def test_a_proxy_of_another_kind_is_refused():
    with pytest.raises(CommandFailed, match="socks5://"):
        through_proxy(Access("https://a", proxy="socks5://b:1"), endpoint("https://a"))


# --- the backend ----------------------------------------------------------------------------------


def flags(**given: Any) -> Namespace:
    wanted = {"backend": None, "context": None, "namespace": None, "swarm": None, **given}
    return Namespace(**wanted)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(config(tmp_path / "c", "prod")))


def local_swarm(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "state" / "gossipswarm" / name
    directory.mkdir(parents=True)
    (directory / "spec.json").write_text("{}")


def chosen(**given: Any) -> str:
    creating = given.pop("creating", False)
    return choose(flags(**given), creating=creating).kind


def test_without_a_cluster_it_is_this_machine():
    assert chosen() == "local"


def test_a_cluster_is_taken_where_no_local_swarm_is_selected(tmp_path, cluster):
    assert chosen() == "kubernetes"
    local_swarm(tmp_path, "mine")
    assert chosen() == "local"
    assert chosen(swarm="mine") == "local"
    assert chosen(swarm="theirs") == "kubernetes"


def test_making_a_swarm_takes_no_cluster_that_nobody_named(cluster):
    assert chosen(creating=True) == "local"
    assert chosen(creating=True, namespace="n") == "kubernetes"
    assert chosen(creating=True, backend="kubernetes") == "kubernetes"


def test_kubectl_gossip_means_the_cluster(tmp_path, cluster, monkeypatch):
    local_swarm(tmp_path, "mine")
    monkeypatch.setattr("sys.argv", ["/usr/bin/kubectl-gossip"])
    assert chosen() == chosen(creating=True) == "kubernetes"
    assert chosen(backend="local") == "local"


def test_the_environment_chooses(cluster, monkeypatch):
    monkeypatch.setenv("GOSSIPSWARM_BACKEND", "local")
    assert chosen() == "local"
    monkeypatch.setenv("GOSSIPSWARM_BACKEND", "moon")
    with pytest.raises(UsageError, match="moon"):
        chosen()


def test_a_flag_of_clusters_contradicts_this_machine():
    with pytest.raises(UsageError, match="--namespace means nothing"):
        chosen(backend="local", namespace="n")
