"""Which pods get a sidecar, and what it is: golden files, and what holds for every pod.

Write the golden files anew with ``python tests/test_operator_injection_decision.py``, and read the difference.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gossipswarm_agent.edge.config import edge_config
from gossipswarm_agent.project.projections import parse_projections
from gossipswarm_agent.runtime import configuration
from gossipswarm_operator import model
from gossipswarm_operator.injection.decision import Inject, Leave, Refuse, decide
from operator_world import IMAGE, swarm_source

GOLDEN = Path(__file__).parent / "golden" / "injection"
TLS = {"api": {"tls": {"secretName": "agents-tls"}}}
PLACED = {
    "regions": [
        {"name": name, "nodeSelector": {"topology.kubernetes.io/region": f"{name}-1"}}
        for name in ("us-east", "eu-west")
    ]
}


def swarm(**spec: Any) -> model.Swarm:
    return model.parse(swarm_source(**spec))


def pod(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"generateName": "web-", "labels": {"gossipswarm.io/inject": "demo"}}
    if annotations:
        metadata["annotations"] = {f"gossipswarm.io/{k}": v for k, v in annotations.items()}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "web", "image": "web:1"}], **spec},
    }


CASES: dict[str, tuple[dict[str, Any], model.Swarm]] = {
    "plain": (pod(), swarm()),
    "everything": (
        pod(
            {
                "project": "app.config=/config/app.json,app.flags=/flags/,app.limits=/config/limits.env",
                "prefixes": "app",
                "access": "write",
                "reload-signal": "HUP web",
                "resources": '{"requests": {"cpu": "20m"}, "limits": {"memory": "1Gi"}}',
            },
            containers=[
                {"name": "web", "image": "web:1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]},
                {"name": "log", "image": "log:1"},
            ],
            initContainers=[{"name": "prepare", "image": "web:1"}],
            volumes=[{"name": "data", "emptyDir": {}}],
            nodeSelector={"topology.kubernetes.io/region": "eu-west-1"},
            securityContext={"runAsUser": 1000},
            shareProcessNamespace=True,
        ),
        swarm(**PLACED, **TLS),
    ),
    "json": (
        pod(
            {
                "project": '[{"prefix": "app", "path": "/config/app.txt", "format": "yaml"}]',
                "region": "eu-west",
                "reload-url": "http://127.0.0.1:8080/reload",
            },
            securityContext={"runAsUser": 0},
        ),
        swarm(),
    ),
    "job": (
        pod(restartPolicy="Never"),
        swarm(regions=[{"name": "us-east"}], encryption={"mode": "Disabled"}),
    ),
}  # fmt: skip


def injected(before: dict[str, Any], patch: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """A pod with a patch applied that only adds (RFC 6902)."""
    after = copy.deepcopy(before)
    for step in patch:
        assert step["op"] == "add"
        *way, last = step["path"].split("/")[1:]
        there: Any = after
        for part in way:
            there = there[int(part)] if isinstance(there, list) else there[part]
        if isinstance(there, list):
            there.insert(len(there) if last == "-" else int(last), copy.deepcopy(step["value"]))
        else:
            assert not there.get(last), f"{step['path']} would be replaced"
            there[last] = copy.deepcopy(step["value"])
    return after


def result(before: dict[str, Any], of: model.Swarm) -> dict[str, Any]:
    found = decide(before, "prod", of, IMAGE)
    assert isinstance(found, Inject), found
    return injected(before, found.patch)


def refusal(before: dict[str, Any], of: model.Swarm | None = None) -> Refuse:
    found = decide(before, "prod", of or swarm(), IMAGE)
    assert isinstance(found, Refuse), found
    return found


def text(name: str) -> str:
    return yaml.safe_dump(result(*CASES[name]), sort_keys=False, width=120)


def sidecar(after: dict[str, Any]) -> dict[str, Any]:
    found = after["spec"]["initContainers"][0]
    assert found["name"] == "gossipswarm"
    return found


def environment(after: dict[str, Any]) -> dict[str, Any]:
    return {
        each["name"]: each.get("value", each.get("valueFrom")) for each in sidecar(after)["env"]
    }


@pytest.mark.parametrize("name", CASES)
def test_pods_are_as_in_the_golden_file(name):
    assert text(name) == (GOLDEN / f"{name}.yaml").read_text("utf-8")


@pytest.mark.parametrize("name", CASES)
def test_a_pod_that_has_its_sidecar_is_left_alone(name):
    before, of = CASES[name]
    assert decide(result(before, of), "prod", of, IMAGE) == Leave()


@pytest.mark.parametrize(
    "labels", [{}, {"gossipswarm.io/inject": "false"}, {"gossipswarm.io/inject": ""}, None]
)
def test_a_pod_that_does_not_ask_is_left_alone(labels):
    before = pod()
    before["metadata"]["labels"] = labels
    assert decide(before, "prod", swarm(), IMAGE) == Leave()


def test_a_job_s_pod_has_no_further_container_that_would_keep_it_from_completing():
    after = result(*CASES["job"])
    assert [each["name"] for each in after["spec"]["containers"]] == ["web"]
    assert sidecar(after)["restartPolicy"] == "Always"


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        ("project", "app.config", "'app.config' is not prefix=/path"),
        ("project", "", "it names no file"),
        ("project", "app=config/app.json", "no absolute path"),
        ("project", "app=/config/../etc/passwd", "no absolute path"),
        ("project", "app=/app.json", "needs a directory of its own: /config/app.json"),
        ("project", "app=/etc/app.json", "would hide /etc of the image"),
        ("project", "app=/proc/self/app.json", "belongs to the kernel"),
        ("project", "app=/c/a.json,b=/c/a.json", "in each other's way"),
        ("project", "app=/c/d,b=/c/d/e.json", "in each other's way"),
        ("project", "=/config/app.json", "'' is no key"),
        ("project", "app..x=/config/app.json", "'app..x' is no key"),
        ("project", "$swarm=/config/app.json", "is no key"),
        ("project", "[{", "it is no JSON"),
        ("project", "[3]", "no object of texts"),
        ("project", '[{"path": "/c/a"}]', "lacks prefix"),
        ("project", '[{"prefix": "a"}]', "lacks path"),
        ("project", '[{"prefix": "a", "path": "/c/a", "format": "toml"}]', "'toml' is none of json, yaml"),
        ("project", '[{"prefix": "a", "path": "/c/a", "mode": "0600"}]', "'mode' is unknown"),
        ("project", ",".join(f"a=/c{n}/a" for n in range(17)), "17 files are more than 16"),
        ("prefixes", " , ", "names no key"),
        ("prefixes", "app.", "is no key"),
        ("region", "mars", "'mars' is no region of demo; it has us-east, eu-west"),
        ("region", "", "it is empty"),
        ("access", "admin", "neither read nor write"),
        ("reload-signal", "KILL web", "'KILL' is none of"),
        ("reload-signal", "HUP /run/web.pid", "does not name a process"),
        ("reload-signal", "HUP", "does not name a process"),
        ("reload-url", "http://example.com/", "no address within the pod"),
        ("reload-url", "http://127.0.0.1:99999/", "no address within the pod"),
        ("resources", "64Mi", "no JSON"),
        ("resources", '{"memory": "64Mi"}', "expected"),
        ("resources", '{"limits": "64Mi"}', "expected amounts by name"),
        ("resources", '{"limits": {"memory": "lots"}}', "'lots' is no quantity"),
        ("resources", '{"limits": {"nvidia.com/gpu": 1}}', "is none of cpu, memory"),
        ("resources", '{"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}}', "more than its limit"),
        ("projects", "app=/c/a", "did you mean gossipswarm.io/project?"),
    ],
)  # fmt: skip
def test_an_annotation_that_makes_no_sense_is_named_and_costs_the_sidecar(annotation, value, said):
    annotations = {"project": "app=/config/a.json", annotation: value}
    found = refusal(pod(annotations, shareProcessNamespace=True))
    assert found.reason == "BadAnnotation"
    assert found.message.startswith(f"annotation gossipswarm.io/{annotation}: ")
    assert said in found.message


def test_a_file_must_be_below_what_the_sidecar_holds():
    found = refusal(pod({"project": "other=/config/a.json", "prefixes": "app,ap"}))
    assert "needs other, which is below none of them" in found.message
    assert "needs apple" in refusal(pod({"project": "apple=/c/a", "prefixes": "app"})).message


def test_a_reload_needs_a_file():
    assert "is missing" in refusal(pod({"reload-url": "http://127.0.0.1/"})).message


def test_a_swarm_that_is_not_there_is_named():
    found = decide(pod(), "prod", None, IMAGE)
    assert found == Refuse(
        "NoSuchSwarm",
        "label gossipswarm.io/inject=demo: there is no GossipSwarm demo in namespace prod",
    )


def test_a_swarm_of_another_namespace_is_refused_and_one_of_its_own_may_be_named_in_full():
    before = pod()
    before["metadata"]["labels"]["gossipswarm.io/inject"] = "demo.staging"
    found = refusal(before)
    assert found.reason == "OtherNamespace"
    assert "run the pod in staging, or a swarm in prod" in found.message
    before["metadata"]["labels"]["gossipswarm.io/inject"] = "demo.prod"
    assert isinstance(decide(before, "prod", swarm(), IMAGE), Inject)


MOUNT = {"name": "web", "image": "web:1"}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"hostNetwork": True}, "spec.hostNetwork"),
        ({"os": {"name": "windows"}}, "no sidecar for Windows"),
        ({"volumes": [{"name": "gossipswarm-token"}]}, "the name gossipswarm-token is the sidecar's"),
        ({"containers": [{"name": "gossipswarm", "image": "x"}]}, "the name gossipswarm is the sidecar's"),
        ({"containers": [{**MOUNT, "ports": [{"containerPort": 7601}]}]}, "container web takes port 7601"),
        (
            {"containers": [{**MOUNT, "volumeMounts": [{"name": "v", "mountPath": "/config/"}]}]},
            "container web mounts v at /config, where projected files are to be",
        ),
        (
            {"containers": [{**MOUNT, "volumeMounts": [{"name": "v", "mountPath": "/config/deep"}]}]},
            "within /config",
        ),
        (
            {
                "volumes": [{"name": "v", "configMap": {"name": "x"}}],
                "initContainers": [
                    {"name": "i", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/"}]}
                ],
            },
            "container i mounts v at / to be read only",
        ),
    ],
)  # fmt: skip
def test_what_the_kubelet_could_not_run_is_refused(spec, said):
    found = refusal(pod({"project": "app=/config/a.json"}, **spec))
    assert found.reason == "NotPossible"
    assert said in found.message


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"securityContext": {"runAsUser": 5}}, "shareProcessNamespace: true"),
        ({"shareProcessNamespace": True}, "set spec.securityContext.runAsUser"),
        ({"shareProcessNamespace": True, "securityContext": {"runAsUser": 0}}, "may not be 0"),
    ],
)
def test_signals_need_a_shared_namespace_and_the_application_s_user(spec, said):
    asked = {"project": "app=/config/a.json", "reload-signal": "SIGHUP web"}
    assert said in refusal(pod(asked, **spec)).message


def test_the_region_is_the_swarm_s_only_one_that_of_the_selector_or_that_of_the_node():
    one = swarm(regions=[{"name": "us-east"}])
    assert environment(result(pod(), one))["GOSSIPSWARM_REGION"] == "us-east"
    placed = pod(nodeSelector={"topology.kubernetes.io/region": "eu-west-1", "disk": "ssd"})
    assert environment(result(placed, swarm(**PLACED)))["GOSSIPSWARM_REGION"] == "eu-west"
    assert environment(result(pod(), swarm(**PLACED)))["GOSSIPSWARM_REGION"] == {
        "fieldRef": {
            "apiVersion": "v1",
            "fieldPath": "metadata.labels['topology.kubernetes.io/region']",
        }
    }


def test_only_the_token_that_is_needed_is_mounted_and_only_by_the_sidecar():
    for access in ("read", "write"):
        after = result(pod({"access": access, "project": "app=/config/a.json"}), swarm())
        (secret,) = [each["secret"] for each in after["spec"]["volumes"] if "secret" in each]
        assert secret["secretName"] == "demo-tokens"
        assert secret["items"] == [{"key": access, "path": access}]
        mounted = {mount["name"] for mount in after["spec"]["containers"][0]["volumeMounts"]}
        assert mounted == {"gossipswarm-files-0"}


# --- for every pod --------------------------------------------------------------------------------

NAMES = st.text("abcdefghij-", min_size=1, max_size=8)
KEYS = st.lists(st.text("abcz_-", min_size=1, max_size=4), min_size=1, max_size=3).map(".".join)
PATHS = st.lists(
    st.sampled_from(["config", "flags", "a", "b.json", "c.env", "d.yml"]), min_size=2, max_size=4
)
MOUNTS = st.fixed_dictionaries(
    {"name": NAMES, "mountPath": st.sampled_from(["/data", "/config", "/config/a", "/", "/x/y"])},
    optional={"readOnly": st.booleans()},
)
CONTAINERS = st.fixed_dictionaries(
    {"name": NAMES, "image": st.just("x:1")},
    optional={
        "volumeMounts": st.lists(MOUNTS, max_size=2),
        "env": st.just([{"name": "A", "value": "b"}]),
    },
)
SPECS = st.fixed_dictionaries(
    {"containers": st.lists(CONTAINERS, min_size=1, max_size=3)},
    optional={
        "initContainers": st.lists(CONTAINERS, max_size=2),
        "volumes": st.lists(
            st.fixed_dictionaries({"name": NAMES, "emptyDir": st.just({})}), max_size=2
        ),
        "securityContext": st.sampled_from([{}, {"runAsUser": 0}, {"runAsUser": 7}]),
        "shareProcessNamespace": st.booleans(),
        "nodeSelector": st.just({"topology.kubernetes.io/region": "us-east-1"}),
    },
)
PROJECTS = st.lists(
    st.tuples(KEYS, PATHS.map(lambda parts: "/" + "/".join(parts))), min_size=1, max_size=3
)
SENSIBLE = st.fixed_dictionaries(
    {},
    optional={
        "project": PROJECTS.map(lambda pairs: ",".join(f"{key}={path}" for key, path in pairs)),
        "access": st.sampled_from(["read", "write"]),
        "reload-signal": st.sampled_from(["HUP web", "SIGUSR1 web"]),
    },
)  # fmt: skip


def without_file_mounts(container: dict[str, Any]) -> dict[str, Any]:
    kept = [
        mount
        for mount in container.get("volumeMounts", ())
        if not mount["name"].startswith("gossipswarm-files-")
    ]
    return {**{k: v for k, v in container.items() if k != "volumeMounts"}, "mounts": kept}


@settings(max_examples=300)
@given(SPECS, SENSIBLE)
def test_once_is_as_good_as_twice_and_other_containers_get_mounts_only(spec, annotations):
    before, of = pod(annotations, **spec), swarm(**PLACED)
    found = decide(before, "prod", of, IMAGE)
    if isinstance(found, Refuse):
        return
    assert isinstance(found, Inject)
    after = injected(before, found.patch)
    assert decide(after, "prod", of, IMAGE) == Leave()
    assert after["metadata"] == before["metadata"]
    for kind, added in (("containers", 0), ("initContainers", 1)):
        there = before["spec"].get(kind) or []
        assert len(after["spec"].get(kind) or []) == len(there) + added
        for old, new in zip(there, after["spec"][kind][added:], strict=True):
            assert without_file_mounts(old) == without_file_mounts(new)
            places = [mount["mountPath"] for mount in new.get("volumeMounts", ())]
            assert len({p.rstrip("/") for p in places}) - len(places) == (
                len({m["mountPath"].rstrip("/") for m in old.get("volumeMounts", ())})
                - len(old.get("volumeMounts", ()))
            ), "no place is mounted twice by us"
    rest = {"containers", "initContainers", "volumes"}
    assert {k: v for k, v in after["spec"].items() if k not in rest} == {
        k: v for k, v in before["spec"].items() if k not in rest
    }


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(["project", "prefixes", "resources", "reload-signal", "reload-url"]),
        st.text(),
    )
)
def test_no_annotation_is_worse_than_refused(annotations):
    found = decide(pod(annotations, shareProcessNamespace=True), "prod", swarm(), IMAGE)
    assert isinstance(found, Inject | Refuse)


@pytest.mark.parametrize("name", CASES)
def test_an_edge_takes_what_it_is_told(name, tmp_path):
    """Each place within the container is one below a directory here."""
    told = {}
    for variable, value in environment(result(*CASES[name])).items():
        if isinstance(value, dict):  # of the pod, which has no such label
            value = "" if "labels" in value["fieldRef"]["fieldPath"] else "web-0"
        told[variable] = value.replace("/etc/gossipswarm/", f"{tmp_path}/")
    (tmp_path / "token").mkdir()
    for scope in ("read", "write"):
        (tmp_path / "token" / scope).write_text("secret")
    options, _ = configuration.load([], told)
    config = edge_config(options, "10.0.0.1:7601")
    assert config.swarm == "uid-demo"
    assert config.upstream[0].srv
    assert config.tokens is not None
    assert config.tokens.read == config.tokens.write == "secret", "nobody may ask without it"
    assert len(config.project) == {"everything": 3, "json": 1}.get(name, 0)


@settings(max_examples=300)
@given(SENSIBLE)
def test_an_agent_takes_whatever_files_are_asked_for(annotations):
    before = pod(annotations, shareProcessNamespace=True, securityContext={"runAsUser": 7})
    found = decide(before, "prod", swarm(), IMAGE)
    if isinstance(found, Inject):
        asked = environment(injected(before, found.patch)).get("GOSSIPSWARM_PROJECT")
        assert len(parse_projections(json.loads(asked or "[]"))) == len(
            annotations["project"].split(",") if asked else []
        )


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in CASES:
        (GOLDEN / f"{name}.yaml").write_text(text(name), "utf-8")
