"""gossipctl against a real API server: swarms as objects, agents behind the pod proxy."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import kube
from agent_pods import AgentPods, require_network
from command_line import GOSSIPCTL, SECONDS, CommandLine
from gossipctl.failures import NotConverged
from gossipctl.kubernetes import kubeconfig
from gossipctl.kubernetes import partitions as cuts
from gossipctl.kubernetes.api import Api
from node_server import NODE, NodeServer
from test_cli_cost import LIMIT_STARTS, starts

pytestmark = pytest.mark.kube
REGIONS = "us-east,us-west,eu-central"
LOOKING = ("gossipswarms.gossipswarm.io", "swarmpartitions.gossipswarm.io", "pods")


def allow(
    cluster: kube.Cluster,
    namespace: str,
    account: str,
    verbs: str,
    *resources: str,
    role: str | None = None,
) -> None:
    """Give a service account, made if need be, these rights, and wait until they count."""
    role = role or account
    where = ("-n", namespace, "create")
    cluster.kubectl(*where, "serviceaccount", account, code=None)
    cluster.kubectl(*where, "role", role, f"--verb={verbs}", f"--resource={','.join(resources)}")
    subject = f"--serviceaccount={namespace}:{account}"
    cluster.kubectl(*where, "rolebinding", role, f"--role={role}", subject)

    def count() -> bool:
        asked = itertools.product(verbs.split(","), resources)
        return all(cluster.may(namespace, account, *each) for each in asked)

    kube.wait_until(count, SECONDS, f"the rights of {account} count")


@pytest.fixture
def gossipctl(cluster: kube.Cluster, namespace: str, tmp_path: Path) -> CommandLine:
    """gossipctl with the cluster's kubeconfig, in a namespace of the test."""
    file = tmp_path / "kubeconfig"
    file.write_text(cluster.kubeconfig.read_text())
    cluster.kubectl(
        "config", "set-context", "--current", f"--namespace={namespace}", kubeconfig=file
    )
    return CommandLine(tmp_path, KUBECONFIG=str(file))


@pytest.fixture
def swarm(gossipctl: CommandLine) -> CommandLine:
    """The same, with a swarm of three regions without agents."""
    gossipctl("--backend", "kubernetes", "swarm", "init", "--regions", REGIONS)
    return gossipctl


@pytest.fixture
def pods(
    cluster: kube.Cluster, namespace: str, swarm: CommandLine, tmp_path: Path
) -> Iterator[AgentPods]:
    """The swarm with one real agent in us-east and one in us-west."""
    require_network()
    made = AgentPods(cluster, namespace, tmp_path)
    made.make_tokens()
    for region in ("us-east", "us-west"):
        swarm("agent", "spawn", "--region", region, "--no-wait")
    try:
        made.start("us-east", 0)
        made.start("us-west", 0)
        yield made
    finally:
        made.stop()


def spec(cluster: kube.Cluster, namespace: str, name: str = "gossip") -> Any:
    path = f"/apis/gossipswarm.io/v1alpha1/namespaces/{namespace}/gossipswarms/{name}"
    return cluster.request("GET", path)["spec"]


def replicas(cluster: kube.Cluster, namespace: str) -> dict[str, int]:
    return {each["name"]: each["replicas"] for each in spec(cluster, namespace)["regions"]}


# --- swarms ---------------------------------------------------------------------------------------


def test_init_creates_a_gossipswarm_and_can_be_repeated(cluster, namespace, gossipctl):
    ask = ("--backend", "kubernetes", "swarm", "init", "--regions", REGIONS, "--max-agents", "150")
    made = gossipctl(*ask).json
    again = gossipctl(*ask)

    assert made["swarm_id"] == "gossip"
    assert (made["status"], made["agents"]) == ("initializing", [])
    assert again.json == made
    assert "there already" in again.stderr
    assert spec(cluster, namespace)["maxAgents"] == 150
    assert replicas(cluster, namespace) == dict.fromkeys(REGIONS.split(","), 0)
    other = gossipctl("--backend", "kubernetes", "swarm", "init", "--regions", "mars", code=2)
    assert "with regions us-east,us-west,eu-central" in other.stderr


def test_a_swarm_is_listed_shown_and_deleted(swarm):
    assert swarm("swarm", "list").lines == [f"gossip\tinitializing\t0\t{REGIONS}\t*"]
    status = swarm("swarm", "status", "--verbose").json
    assert status["regions"] == REGIONS.split(",")
    assert status["agent_counts"]["us-east"] == {"declared": 0, "active": 0}
    assert "--yes" in swarm("swarm", "delete", code=2).stderr
    assert swarm("swarm", "delete", "--yes").stdout == "swarm/gossip deleted\n"
    assert "there is no swarm in namespace" in swarm("swarm", "status", code=2).stderr
    assert "nothing to delete" in swarm("swarm", "delete", "--yes", "--if-exists").stderr


def test_manifests_are_applied_as_kubectl_would(cluster, namespace, gossipctl):
    file = str(Path(__file__).parents[1] / "examples" / "quickstart.yaml")
    apply = ("--backend", "kubernetes", "swarm", "apply", "-f")
    assert gossipctl(*apply, file).stdout == "swarm/quickstart created\n"
    assert gossipctl(*apply, file).stdout == "swarm/quickstart unchanged\n"
    changed = Path(file).read_text().replace("replicasPerRegion: 3", "replicasPerRegion: 2")
    assert "changed: spec.replicasPerRegion" in gossipctl(*apply, "-", stdin=changed).stdout
    assert spec(cluster, namespace, "quickstart")["replicasPerRegion"] == 2
    wrong = changed.replace("replicasPerRegion: 2", "replicasPerRegion: 2\n  gossip: {fanout: 99}")
    assert (
        "spec.gossip.fanout: should be less" in gossipctl(*apply, "-", stdin=wrong, code=2).stderr
    )


def test_several_swarms_need_a_name(gossipctl):
    for name in ("one", "two"):
        gossipctl("--backend", "kubernetes", "--swarm", name, "swarm", "init", "--regions", "a")
    assert "name one with --swarm" in gossipctl("agent", "list", code=2).stderr
    assert "did you mean two?" in gossipctl("--swarm", "tow", "agent", "list", code=2).stderr
    assert gossipctl("--swarm", "two", "agent", "list").stdout == ""


# --- replicas -------------------------------------------------------------------------------------


def test_fifty_processes_at_once_spawn_fifty_agents(cluster, namespace, swarm):
    def spawn(number: int) -> str:
        done = swarm(
            "agent", "spawn", "--type", "worker", "--name", f"gossip-us-east-{number}",
            "--region", "us-east", "--no-wait",
        )  # fmt: skip
        return done.stdout.split()[0]

    with ThreadPoolExecutor(max_workers=50) as pool:
        names = set(pool.map(spawn, range(1, 51)))

    assert replicas(cluster, namespace)["us-east"] == 50
    assert names == {f"agent/gossip-us-east-{number}" for number in range(50)}


def test_without_a_region_agents_go_where_there_are_fewest(cluster, namespace, swarm):
    swarm("agent", "spawn", "--count", "2", "--region", "us-east", "--no-wait")
    swarm("agent", "spawn", "--no-wait")
    swarm("agent", "spawn", "--no-wait")
    assert replicas(cluster, namespace) == {"us-east": 2, "us-west": 1, "eu-central": 1}
    assert "did you mean us-east?" in swarm("agent", "spawn", "--region", "us-est", code=2).stderr


def test_a_swarm_admits_no_more_than_it_may(gossipctl):
    gossipctl("--backend", "kubernetes", "swarm", "init", "--regions", "a", "--max-agents", "3")
    gossipctl("agent", "spawn", "--count", "3", "--no-wait")
    refused = gossipctl("agent", "spawn", "--no-wait", code=2)
    assert "would exceed the 3 agents that swarm gossip admits" in refused.stderr


def test_only_the_last_agent_of_a_region_can_be_stopped(cluster, namespace, swarm):
    swarm("agent", "spawn", "--count", "3", "--region", "us-east", "--no-wait")
    refused = swarm("agent", "stop", "gossip-us-east-0", code=2)
    assert "gives up gossip-us-east-2 first" in refused.stderr
    assert swarm("agent", "stop", "us-east-2").stdout == "agent/gossip-us-east-2 stopped\n"
    assert replicas(cluster, namespace)["us-east"] == 2
    swarm("agent", "stop", "--all")
    assert set(replicas(cluster, namespace).values()) == {0}


def test_down_remembers_how_many_there_were(cluster, namespace, swarm):
    swarm("agent", "spawn", "--count", "2", "--region", "us-west", "--no-wait")
    assert swarm("swarm", "down").stdout == "swarm/gossip is down; its data stays\n"
    assert set(replicas(cluster, namespace).values()) == {0}
    assert swarm("swarm", "status").json["status"] == "down"
    assert "was down already" in swarm("swarm", "down").stdout


# --- parameters and cuts --------------------------------------------------------------------------


def test_parameters_go_into_the_spec_as_the_crd_writes_them(cluster, namespace, swarm):
    flags = ("--interval", "50", "--mode", "push", "--anti-entropy", "false", "--max-agents", "40")
    swarm("gossip", "config", *flags, "--conflict-resolution-prefixes", "counters=max")
    found = spec(cluster, namespace)
    assert found["gossip"] == {
        "interval": "50ms",
        "mode": "Push",
        "antiEntropy": "Disabled",
        "conflictPolicies": [{"prefix": "counters", "resolution": "Max"}],
    }
    assert found["maxAgents"] == 40
    refused = swarm("gossip", "config", "--fanout", "99", code=2)
    assert "spec.gossip.fanout" in refused.stderr


def partitions(cluster: kube.Cluster, namespace: str) -> list[Any]:
    path = f"/apis/gossipswarm.io/v1alpha1/namespaces/{namespace}/swarmpartitions"
    return list(cluster.request("GET", path)["items"])


def test_a_cut_is_a_swarmpartition_and_heals_by_deletion(cluster, namespace, swarm):
    cut = (
        GOSSIPCTL, "network", "partition", "--group1", "us-east", "--group2", "us-west,eu-central",
        "--duration", "60000", "-o", "json",
    )  # fmt: skip
    process = subprocess.Popen(
        cut, env=swarm.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    [made] = kube.wait_until(lambda: partitions(cluster, namespace), SECONDS, "the object is made")
    assert made["spec"]["groups"] == [["us-east"], ["us-west", "eu-central"]]
    assert made["spec"]["duration"] == "60000ms"
    assert made["metadata"]["labels"]["gossipswarm.io/swarm"] == "gossip"
    path = f"/apis/gossipswarm.io/v1alpha1/namespaces/{namespace}/swarmpartitions"
    name = made["metadata"]["name"]
    now = "2026-01-01T00:00:00Z"
    condition = {
        "type": "Enforced", "status": "True", "reason": "Probed", "message": "",
        "lastTransitionTime": now,
    }  # fmt: skip
    cluster.request(
        "PATCH", f"{path}/{name}/status",
        {"status": {"conditions": [condition], "mechanism": "NetworkPolicy", "expiresAt": now}},
        "application/merge-patch+json",
    )  # fmt: skip
    output, told = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert json.loads(output)["id"] == name
    assert "it is the operator that ends the cut in time" in told
    answer = swarm("network", "partition-status")
    assert f"partition {name} is over and still there: does the operator run?" in answer.stderr
    shown = answer.json
    assert (shown["status"], len(shown["cuts"])) == ("partitioned", 1)
    assert shown["groups"] == [["us-east"], ["eu-central", "us-west"]]
    assert swarm("network", "heal-partition", "-o", "json").json["healed"] == [name]
    assert partitions(cluster, namespace) == []
    assert "nothing to heal" in swarm("network", "heal-partition").stdout


def test_why_nobody_can_say_that_a_cut_is_in_force_is_told(cluster, namespace, monkeypatch):
    path = f"/apis/gossipswarm.io/v1alpha1/namespaces/{namespace}/swarmpartitions"
    body = {
        "apiVersion": "gossipswarm.io/v1alpha1", "kind": "SwarmPartition",
        "metadata": {"name": "drill"},
        "spec": {"swarmRef": {"name": "gossip"}, "groups": [["us-east"]]},
    }  # fmt: skip
    made = cluster.request("POST", path, body)
    condition = {
        "type": "Enforced", "status": "Unknown", "reason": "NotProbed", "message": "no agents",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    cluster.request(
        "PATCH", f"{path}/drill/status", {"status": {"conditions": [condition]}},
        "application/merge-patch+json",
    )  # fmt: skip
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    with pytest.raises(NotConverged, match="after 1 s: no agents"):
        cuts.until_enforced(Api(kubeconfig.load()), made, seconds=1.0)


def test_a_cut_that_makes_no_sense_is_refused_before_it_is_made(cluster, namespace, swarm):
    for flags, complaint in [
        (("--group1", "us-est"), "did you mean us-east?"),
        (("--group1", REGIONS), "nothing would be cut off"),
        (("--one-way", "us-east:us-west"), "both directions or none"),
        (("--groups", "us-east|us-east,us-west"), "us-east is named twice"),
    ]:
        assert complaint in swarm("network", "partition", *flags, code=2).stderr
    assert partitions(cluster, namespace) == []


# --- agents ---------------------------------------------------------------------------------------


def test_agents_are_read_and_written_through_the_api_server(swarm, pods):
    written = swarm(
        "gossip", "state-update", "--key", "app.config", "--value", '{"cache_ttl": 3600}',
        "--agent", "gossip-us-east-0", "--wait", "--threshold", "1", "-o", "json",
    )  # fmt: skip
    assert written.json["agent"] == "gossip-us-east-0"
    read = swarm("gossip", "query-state", "--key", "app.config", "--agent", "us-west-0").json
    assert (read["value"], read["agent"]) == ({"cache_ttl": 3600}, "gossip-us-west-0")
    assert swarm("agent", "list", "--filter", "active").lines == [
        "gossip-us-east-0\tus-east\tactive\tworker",
        "gossip-us-west-0\tus-west\tactive\tworker",
    ]
    assert "app.config" in swarm("gossip", "convergence").stdout
    swarm("wait", "--for", "ready", "--timeout", "120s")
    swarm("wait", "--for", "convergence", "--threshold", "1", "--timeout", "120s")
    assert swarm("network", "verify-connectivity", "-o", "json").json["connected"]
    assert "all agree" in swarm("gossip", "anti-entropy", "--all-agents", "-o", "table").stderr


def test_a_benchmark_goes_through_the_api_server_and_cleans_up(swarm, pods):
    figures = swarm("gossip", "benchmark", "--updates", "200", "--concurrency", "50").json
    assert (figures["total_updates"], figures["writers"]) == (200, 2)
    assert 0 < figures["acknowledged"]["duration_sec"] <= figures["duration_sec"]
    assert 0 < figures["avg_convergence_ms"] <= figures["p99_convergence_ms"]
    assert swarm("gossip", "query-state", "--key", "benchmark", code=1)
    kept = ("--updates", "20", "--batch", "10", "--agents", "1", "--keep", "--key-prefix", "load")
    swarm("gossip", "benchmark", *kept)
    [run] = swarm("gossip", "query-state", "--key", "load").json["value"].values()
    assert sorted(value for writer in run.values() for value in writer.values()) == list(range(20))


def test_changes_are_followed_through_the_api_server(swarm, pods):
    watch = (GOSSIPCTL, "gossip", "watch", "--key", "app", "--agent", "us-west-0")
    process = subprocess.Popen(watch, env=swarm.environment, stdout=subprocess.PIPE, text=True)
    try:
        with ThreadPoolExecutor(max_workers=1) as pool:
            line = pool.submit(process.stdout.readline)
            while not line.done():
                # The watch begins at some moment: writes go on until one of them is seen.
                swarm("gossip", "state-update", "--key", "app.n", "--value", "1")
        assert json.loads(line.result())["key"] == "app.n"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("key", ["a//b", "file-metadata/a b.py", "/x/", "50%", r"host\.name"])
def test_any_key_arrives_as_it_is(swarm, pods, key):
    swarm("gossip", "state-update", "--key", key, "--value", "1")
    assert swarm("gossip", "query-state", "--key", key).json["key"] == key
    swarm("memory", "store", "--key", key, "--value", "2")
    assert swarm("memory", "retrieve", "--key", key).json == 2


def test_agents_that_are_not_there_are_named(swarm, pods):
    assert (
        "did you mean gossip-us-east-0?"
        in swarm(
            "gossip", "query-state", "--key", "a", "--agent", "gossip-us-east-7", code=2
        ).stderr
    )
    pods.kill("gossip-us-west-0")
    gone = swarm("gossip", "query-state", "--key", "a", "--agent", "us-west-0", code=4)
    assert "the API server cannot reach agent gossip-us-west-0" in gone.stderr


def test_degraded_mode_reaches_the_swarm(swarm, pods):
    swarm("gossip", "degraded-mode", "--enable")
    refused = swarm("gossip", "state-update", "--key", "a", "--value", "1", code=1)
    assert "degraded-mode --disable" in refused.stderr
    swarm("gossip", "degraded-mode", "--disable")
    swarm("gossip", "state-update", "--key", "a", "--value", "1")


def test_spawn_returns_when_the_pod_is_ready(swarm, pods):
    spawn = (GOSSIPCTL, "agent", "spawn", "--region", "eu-central", "-o", "json")
    process = subprocess.Popen(spawn, env=swarm.environment, stdout=subprocess.PIPE, text=True)
    name = pods.make_pod("eu-central", 0)
    assert process.poll() is None
    pods.run(name, "eu-central")
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert (json.loads(output)["name"], json.loads(output)["status"]) == (name, "active")


def test_stop_returns_when_the_pod_is_gone(swarm, pods):
    stop = (GOSSIPCTL, "agent", "stop", "gossip-us-west-0")
    process = subprocess.Popen(stop, env=swarm.environment, stdout=subprocess.PIPE, text=True)
    kube.wait_until(
        lambda: swarm("swarm", "status").json["agent_counts"]["us-west"]["declared"] == 0,
        SECONDS,
        "the replicas are lowered",
    )
    assert process.poll() is None
    pods.delete("gossip-us-west-0")
    assert process.communicate(timeout=SECONDS)[0] == "agent/gossip-us-west-0 stopped\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("gossip", "query-state", "--key", "app", "--agent", "gossip-us-east-0"),
        ("gossip", "state-update", "--key", "a", "--value", "1"),
        ("agent", "list"),
    ],
    ids=" ".join,
)
def test_a_call_is_cheap(swarm, pods, arguments):
    assert starts(swarm, *arguments) < LIMIT_STARTS


# --- what takes a node ----------------------------------------------------------------------------


@pytest.fixture
def on_a_node(cluster: kube.Cluster, pods: AgentPods) -> Iterator[AgentPods]:
    """The swarm with an agent more, in eu-central, on a node that serves logs and port-forwards."""
    node = NodeServer(cluster, pods.log_of, pods.address_of)
    node.start()
    try:
        pods.node = NODE
        pods.start("eu-central", 0)
        yield pods
    finally:
        node.stop()


def test_logs_are_read_from_the_node(swarm, on_a_node):
    swarm("agent", "spawn", "--region", "eu-central", "--no-wait")
    lines = swarm("agent", "logs", "eu-central-0", "--tail", "5", "-o", "json").lines
    found = [json.loads(line) for line in lines]
    assert {line["agent"] for line in found} == {"gossip-eu-central-0"}
    assert all(line["time"] and line["message"] for line in found)


def test_where_the_proxy_is_barred_agents_are_reached_by_port_forward(
    cluster, namespace, swarm, on_a_node, tmp_path
):
    swarm("agent", "spawn", "--region", "eu-central", "--no-wait")
    allow(cluster, namespace, "forwarder", "get,list", *LOOKING, "secrets")
    allow(cluster, namespace, "forwarder", "get,create", "pods/portforward", role="forward")
    file = cluster.as_service_account(namespace, "forwarder")
    forwarder = CommandLine(tmp_path, KUBECONFIG=str(file))
    at = ("-n", namespace, "--agent", "eu-central-0")

    big = json.dumps("x" * 100_000)
    forwarder("gossip", "state-update", "--key", "app.big", "--value", "-", *at, stdin=big)
    assert len(forwarder("gossip", "query-state", "--key", "app.big", *at).json["value"]) == 100_000
    no_node = ("-n", namespace, "--agent", "us-east-0")
    refused = forwarder("gossip", "query-state", "--key", "a", *no_node, code=1)
    assert "may not get pods/proxy in namespace" in refused.stderr


# --- refusals -------------------------------------------------------------------------------------


def test_what_is_not_allowed_is_explained(cluster, namespace, swarm, tmp_path):
    swarm("agent", "spawn", "--no-wait")
    allow(cluster, namespace, "reader", "get,list", *LOOKING)
    file = cluster.as_service_account(namespace, "reader")
    reader = CommandLine(tmp_path, KUBECONFIG=str(file))

    assert reader("-n", namespace, "agent", "list").stdout == ""
    refused = reader("-n", namespace, "agent", "spawn", "--no-wait", code=1)
    assert "may not patch gossipswarms.gossipswarm.io in namespace" in refused.stderr
    assert f"kubectl auth can-i patch gossipswarms.gossipswarm.io -n {namespace}" in refused.stderr


def test_a_server_that_does_not_answer_ends_with_4(swarm, tmp_path):
    port = kube.free_port()
    file = tmp_path / "nowhere"
    file.write_text(
        json.dumps(
            {
                "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{port}"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c"}}],
                "current-context": "c",
            }
        )
    )
    done = swarm("agent", "list", code=4, environment={"KUBECONFIG": str(file)})
    assert "no answer from the API server" in done.stderr
    assert "of context c" in done.stderr


def test_names_of_the_cluster_are_completed(swarm, namespace):
    swarm("agent", "spawn", "--region", "us-east", "--no-wait")
    assert "us-west" in swarm("__complete", "agent", "spawn", "--region", "us-w").stdout
    assert namespace in swarm("__complete", "agent", "list", "--namespace", namespace[:6]).stdout
    assert "test" in swarm("__complete", "agent", "list", "--context", "").stdout
