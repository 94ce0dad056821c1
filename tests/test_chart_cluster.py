"""The chart against a real API server: admission, permissions, and the life of a release."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from charts import generate

import kube
from rendered_chart import needs_helm, objects, of_kind, only

pytestmark = [pytest.mark.kube, needs_helm]


def _apply(cluster: kube.Cluster, *documents: dict, dry: bool = False) -> None:
    arguments = ["apply", "--server-side", "--force-conflicts", "--filename=-"]
    text = yaml.safe_dump_all(documents)
    cluster.kubectl(*arguments, *(["--dry-run=server"] if dry else []), stdin=text)


@pytest.mark.parametrize(
    "path", sorted(generate.GOLDEN.glob("*.values.yaml")), ids=lambda path: path.name.split(".")[0]
)
def test_the_api_server_accepts_every_object(cluster, namespace, path: Path):
    values = yaml.safe_load(path.read_text("utf-8")) or {}
    values["watchNamespaces"] = [namespace] if values.get("watchNamespaces") else []
    values["priorityClassName"] = ""
    values["test"] = {"swarm": {"name": "prod"}}
    found = objects({**values, "swarmNamespaces": [namespace]}, namespace=namespace)
    native = [each for each in found if not each["apiVersion"].startswith("monitoring.coreos.com/")]
    _apply(cluster, *native, dry=True)
    assert {"Deployment", "CustomResourceDefinition", "Role", "Pod"} <= {
        each["kind"] for each in native
    }


def test_plain_manifests_are_accepted(cluster):
    documents = list(yaml.safe_load_all(generate.plain_manifests()))
    with cluster.namespace() as namespace:
        for each in documents:
            if "namespace" in each["metadata"]:
                each["metadata"]["namespace"] = namespace
        _apply(cluster, *documents, dry=True)


def test_pods_pass_the_restricted_standard(cluster, namespace):
    label = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", namespace, label)
    found = objects({"test": {"swarm": {"name": "prod"}}}, namespace=namespace)
    template = only(found, "Deployment")["spec"]["template"]
    pods = of_kind(found, "Pod")
    pods.append(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "operator", "namespace": namespace},
            "spec": {**template["spec"], "serviceAccountName": "default"},
        }
    )
    assert len(pods) == 3
    _apply(cluster, *pods, dry=True)


def _may(
    cluster: kube.Cluster, account: str, verb: str, resource: str, namespace: str = ""
) -> bool:
    """Whether an account may do something to ``group/resource`` in a namespace, or in all."""
    group, _, kind = resource.rpartition("/")
    attributes = {"verb": verb, "group": group, "resource": kind, "namespace": namespace}
    if group == "coordination.k8s.io":
        attributes["name"] = "gossipswarm-operator"
    place = account.split(":")[2]
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{place}", "system:authenticated"]
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": account, "groups": groups, "resourceAttributes": attributes},
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return bool(cluster.request("POST", path, review)["status"]["allowed"])


def _install_roles(cluster: kube.Cluster, values: dict, namespace: str, release: str) -> str:
    kinds = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "ServiceAccount")
    found = objects(values, namespace=namespace, release=release)
    _apply(cluster, *(each for each in found if each["kind"] in kinds))
    return f"system:serviceaccount:{namespace}:{release}-gossipswarm-operator"


def test_a_namespaced_operator_may_work_in_its_namespaces_and_nowhere_else(cluster, namespace):
    with cluster.namespace() as watched, cluster.namespace() as other:
        values = {"watchNamespaces": [watched]}
        account = _install_roles(cluster, values, namespace, f"r-{namespace}")
        for resource in ("apps/statefulsets", "gossipswarm.io/gossipswarms"):
            kube.wait_until(
                lambda resource=resource: _may(cluster, account, "patch", resource, watched),
                10,
                "the role counts",
            )
            assert not _may(cluster, account, "get", resource, other)
            assert not _may(cluster, account, "list", resource)
        assert _may(cluster, account, "get", "secrets", watched)
        assert not _may(cluster, account, "list", "secrets", watched)
        assert not _may(cluster, account, "get", "secrets", namespace)
        assert not _may(cluster, account, "get", "secrets", other)
        assert _may(cluster, account, "patch", "coordination.k8s.io/leases", namespace)
        assert not _may(cluster, account, "get", "coordination.k8s.io/leases", other)


def test_a_cluster_wide_operator_touches_secrets_only_where_swarms_live(cluster, namespace):
    with cluster.namespace() as home, cluster.namespace() as other:
        values = {"swarmNamespaces": [home]}
        account = _install_roles(cluster, values, namespace, f"r-{namespace}")
        kube.wait_until(
            lambda: _may(cluster, account, "list", "gossipswarm.io/gossipswarms"),
            10,
            "the role counts",
        )
        assert _may(cluster, account, "patch", "apps/statefulsets", other)
        assert _may(cluster, account, "get", "secrets", home)
        assert _may(cluster, account, "get", "secrets", namespace)
        assert not _may(cluster, account, "get", "secrets", other)
        for verb in ("list", "watch"):
            assert not _may(cluster, account, verb, "secrets", home)
        for resource in ("rbac.authorization.k8s.io/roles", "pods", "nodes", "namespaces"):
            assert not _may(cluster, account, "create", resource, other)


class Release:
    """Helm on a cluster of its own, which knows nothing of GossipSwarm yet. There is no node: no pod ever runs."""

    def __init__(self, cluster: kube.Cluster) -> None:
        self.cluster = cluster

    def helm(self, verb: str, *arguments: str, values: dict | None = None) -> str:
        command = [generate.helm_path(), verb, "gossipswarm"]
        if verb in ("install", "upgrade"):
            command += [str(generate.CHART), "--values", "-"]
        command += ["--kubeconfig", str(self.cluster.kubeconfig), "--namespace", "default"]
        done = subprocess.run(
            [*command, *arguments],
            input=json.dumps(values or {}),
            capture_output=True,
            text=True,
            env={**os.environ, "HOME": str(self.cluster.directory)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def names(self, kind: str) -> set[str]:
        shown = self.cluster.kubectl("get", kind, "-A", "-o", "jsonpath={.items[*].metadata.name}")
        return {name for name in shown.stdout.split() if "gossipswarm" in name}


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Iterator[Release]:
    try:
        kube.assets()
    except LookupError as error:
        pytest.skip(f"NO API SERVER: {error}")
    cluster = kube.Cluster(tmp_path_factory.mktemp("helm"))
    cluster.start()
    try:
        cluster.kubectl("delete", "crd", "--all", "--wait")
        yield Release(cluster)
    finally:
        cluster.stop()


def test_a_release_is_installed_upgraded_rolled_back_and_removed(release):
    release.helm("install")
    assert len(release.names("crd")) == 3
    manifest = (generate.ROOT / "examples" / "quickstart.yaml").read_text("utf-8")
    release.cluster.kubectl("apply", "--filename=-", stdin=manifest)
    uid = ("get", "gswarm", "quickstart", "-o", "jsonpath={.metadata.uid}")
    made = release.cluster.kubectl(*uid).stdout

    release.helm("upgrade", values={"log": {"level": "debug"}, "replicas": 1})
    assert not release.names("pdb")
    release.helm("rollback", "1")
    assert release.names("pdb") == {"gossipswarm-operator"}

    release.helm("uninstall")
    kinds = "deploy service serviceaccount role rolebinding clusterrole clusterrolebinding pdb"
    assert not [kind for kind in kinds.split() if release.names(kind)]
    assert len(release.names("crd")) == 3
    assert release.cluster.kubectl(*uid).stdout == made

    release.helm("install")
    assert release.cluster.kubectl(*uid).stdout == made
    release.helm("uninstall")
    release.cluster.kubectl("delete", "gswarm", "quickstart")
    release.cluster.kubectl("delete", "crd", "--all", "--wait")


def test_definitions_that_need_not_be_kept_go_with_the_release(release):
    release.helm("install", values={"crds": {"keep": False}})
    assert len(release.names("crd")) == 3
    release.helm("uninstall", "--wait")
    assert not release.names("crd")


def _run_job(cluster: kube.Cluster, namespace: str, directory: Path, swarm: dict) -> str:
    """What the Job of a chart with this swarm prints, run here as its ServiceAccount."""
    found = objects({"swarm": {"create": True, **swarm}}, namespace=namespace)
    kinds = ("ServiceAccount", "Role", "RoleBinding")
    _apply(
        cluster,
        *(
            each
            for each in found
            if each["metadata"]["name"] == "gossipswarm-swarm" and each["kind"] in kinds
        ),
    )
    (user,) = yaml.safe_load(
        cluster.as_service_account(namespace, "gossipswarm-swarm").read_text()
    )["users"]
    (directory / "token").write_text(user["user"]["token"])
    (entry,) = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"]
    shutil.copy(entry["cluster"]["certificate-authority"], directory / "ca.crt")
    host, _, port = cluster.server.removeprefix("https://").partition(":")
    (container,) = only(found, "Job")["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each["value"] for each in container["env"]}
    done = subprocess.run(
        [sys.executable, *container["command"][1:], *container["args"]],
        env={
            "ACCOUNT": str(directory),
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.stdout + done.stderr


def test_the_first_swarm_is_made_changed_and_left_alone_where_others_have_set_something(
    cluster, namespace, tmp_path
):
    east, west = {"name": "us-east"}, {"name": "us-west"}

    def run(spec: dict) -> str:
        return _run_job(cluster, namespace, tmp_path, {"name": "first", "spec": spec})

    def spec() -> dict:
        return cluster.request(
            "GET", f"/apis/gossipswarm.io/v1alpha1/namespaces/{namespace}/gossipswarms/first"
        )["spec"]

    assert run({"regions": [east], "gossip": {"fanout": 4}}) == "created first\n"
    patch = '{"spec": {"gossip": {"redundancy": 3}}}'
    cluster.kubectl("-n", namespace, "patch", "gswarm", "first", "--type=merge", f"--patch={patch}")
    assert run({"regions": [east, west]}) == "applied first\n"
    assert [region["name"] for region in spec()["regions"]] == ["us-east", "us-west"]
    assert spec()["gossip"] == {"redundancy": 3}

    assert "fanuot" in run({"regions": [east], "gossip": {"fanuot": 4}})
    assert "regions" in run({"regions": []})
