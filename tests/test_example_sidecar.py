"""The example of an application with a sidecar: its manifests get the sidecar that they ask for, and it does what it says."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from gossipswarm_agent.project.projections import parse_projections
from gossipswarm_operator.injection.decision import Inject, asked, decide
from gossipswarm_operator.model import parse

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "sidecar"
QUICKSTART = ROOT / "examples" / "quickstart.yaml"


def module(name: str) -> ModuleType:
    """A module of the example, which is no package."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


timing = module("timing")


def pods() -> dict[str, dict[str, Any]]:
    """Pods of the Deployments, as the webhook sees them."""
    text = (EXAMPLE / "deployment.yaml").read_text("utf-8")
    return {each["metadata"]["name"]: each["spec"]["template"] for each in yaml.safe_load_all(text)}


def sidecar(pod: dict[str, Any]) -> dict[str, str]:
    """What the sidecar of a pod is told."""
    swarm = yaml.safe_load(QUICKSTART.read_text("utf-8"))
    swarm["metadata"] |= {"namespace": "default", "uid": "u", "generation": 1}
    decision = decide(pod, "default", parse(swarm), "gossipswarm-agent:1")
    assert isinstance(decision, Inject), decision
    [container] = [
        each
        for operation in decision.patch
        for each in (
            operation["value"] if isinstance(operation["value"], list) else [operation["value"]]
        )
        if isinstance(each, dict) and each.get("name") == "gossipswarm"
    ]
    return {each["name"]: each.get("value", "") for each in container["env"]}


# --- manifests ------------------------------------------------------------------------------------


def test_every_pod_asks_for_a_sidecar_of_the_quickstart() -> None:
    assert {name: asked(pod) for name, pod in pods().items()} == {
        "shop": "quickstart",
        "shop-desk": "quickstart",
    }


def test_the_sidecar_of_a_shop_writes_what_the_shop_reads() -> None:
    shop = pods()["shop"]
    told = sidecar(shop)
    projections = parse_projections(json.loads(told["GOSSIPSWARM_PROJECT"]))
    [container] = shop["spec"]["containers"]
    [flags] = [each["value"] for each in container["env"] if each["name"] == "FLAGS"]
    assert [each.path for each in projections] == flags.split(",")[:2]
    assert all(each.reload and each.reload.http for each in projections)
    assert told["GOSSIPSWARM_PREFIXES"] == "shop"
    assert told["GOSSIPSWARM_UPSTREAM_TOKEN_FILE"].endswith("/read")


def test_only_the_desk_may_write() -> None:
    assert sidecar(pods()["shop-desk"])["GOSSIPSWARM_UPSTREAM_TOKEN_FILE"].endswith("/write")


def test_the_measurement_names_what_is_in_the_manifests() -> None:
    measure = (EXAMPLE / "measure.py").read_text("utf-8")
    manifests = (EXAMPLE / "deployment.yaml").read_text("utf-8")
    found = re.search(r'^IMAGE, SWARM = "(.*)", "(.*)"$', measure, re.MULTILINE)
    assert found
    assert manifests.count(f"image: {found[1]}\n") == 2
    assert manifests.count(f"inject: {found[2]}\n") == 2
    assert f"name: {found[2]}}}" in (EXAMPLE / "settings.yaml").read_text("utf-8")


def test_kubectl_makes_one_list_of_it() -> None:
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    kubectl = shutil.which("kubectl", path=assets) or shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl")
    done = subprocess.run(
        [kubectl, "kustomize", EXAMPLE], capture_output=True, text=True, check=True
    )
    kinds = [each["kind"] for each in yaml.safe_load_all(done.stdout)]
    assert sorted(kinds) == ["ConfigMap", "ConfigMap", "Deployment", "Deployment", "SwarmConfig"]


# --- the shop -------------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[str]:
    """URL of a shop that reads ``flags.json`` in the temporary directory."""
    process = subprocess.Popen(
        [sys.executable, EXAMPLE / "app.py"],
        env={**os.environ, "PORT": "0", "FLAGS": str(tmp_path / "flags.json")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    port = next(found[1] for line in lines if (found := re.match(r"listening on (\d+)", line)))
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.communicate()


def ask(url: str, method: str = "GET") -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=60) as answer:
        return json.load(answer)


def test_a_shop_reloads_and_remembers_when_it_saw_a_release(shop: str, tmp_path: Path) -> None:
    assert ask(f"{shop}/")["checkout"] == "old"
    file = tmp_path / "flags.json"
    begun = time.time()
    (tmp_path / "next").write_text('{"release": "two", "new_checkout": true}')
    (tmp_path / "next").rename(file)
    assert ask(f"{shop}/reload", "POST") == {"release": "two"}
    assert ask(f"{shop}/")["checkout"] == "new"
    assert begun <= ask(f"{shop}/seen")[str(file)]["two"] <= time.time()


def test_a_shop_keeps_its_flags_when_the_file_makes_no_sense(shop: str, tmp_path: Path) -> None:
    file = tmp_path / "flags.json"
    for text in ('{"release": "two", "new_checkout": true}', "{"):
        (tmp_path / "next").write_text(text)
        (tmp_path / "next").rename(file)
        ask(f"{shop}/reload", "POST")
    assert ask(f"{shop}/")["checkout"] == "new"


# --- timing ---------------------------------------------------------------------------------------


def test_a_flip_is_timed_once_everybody_has_seen_it() -> None:
    answers = iter(
        [
            [{"f": {"two": 11.5}}, {"f": {"one": 9.0}}],
            [{"f": {"two": 11.5}}, {"f": {"one": 9.0, "two": 12.0}}],
        ]
    )
    assert timing.await_release(lambda: next(answers), "f", "two", 11.0, 5, 0) == [0.5, 1.0]


def test_a_flip_that_somebody_never_sees_is_late_and_says_how_many_have() -> None:
    with pytest.raises(timing.Late, match="1 of 2 have seen two in f after"):
        timing.await_release(lambda: [{"f": {"two": 1.0}}, {}], "f", "two", 0.0, 0.0, 0)


# --- on a cluster ---------------------------------------------------------------------------------


def measure(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The measurement, with a kubectl that has no cluster."""
    kubectl = directory / "kubectl"
    pretended = Path(__file__).with_name("pretended_kubectl.py")
    kubectl.write_text(f"#!{sys.executable}\n{pretended.read_text('utf-8')}")
    kubectl.chmod(0o755)
    return subprocess.run(
        [sys.executable, EXAMPLE / "measure.py", *arguments],
        env={**os.environ, "PATH": str(directory), "PRETENDED": str(directory)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_three_ways_are_measured_and_what_was_made_is_removed(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = measure(
        tmp_path,
        *("--context", "kind-x", "--namespace", "team", "--swarm", "prod", "--image", "agent:1"),
        *("--flips", "2", "--json", str(figures)),
    )
    assert done.returncode == 0, done.stderr
    assert "a write beside a sidecar, flip 2: all 3 pods after" in done.stdout
    assert re.search(r"^ConfigMap, as a volume +\d+ ms", done.stdout, re.MULTILINE)
    found = json.loads(figures.read_text())
    assert list(found) == ["a write beside a sidecar", "SwarmConfig", "ConfigMap, as a volume"]
    assert all(0 <= each["p50"] <= each["last_max"] for each in found.values())
    applied = (tmp_path / "apply.yaml").read_text()
    assert applied == "image: agent:1\nlabel: {gossipswarm.io/inject: prod}\nname: prod\n"
    assert (tmp_path / "delete.yaml").read_text() == applied


def test_without_kubectl_the_measurement_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE / "measure.py"],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (1, "kubectl is not on PATH\n")


# --- on one machine -------------------------------------------------------------------------------


@pytest.mark.swarm
async def test_it_runs_on_one_machine_and_leaves_nothing(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("GOSSIPSWARM_SWARM", None)
    (tmp_path / "run").mkdir()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(EXAMPLE / "local.py", "--shops", "3", "--flips", "3"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await asyncio.wait_for(process.communicate(), 600)
    assert process.returncode == 0, stderr
    assert b"3 flips, 3 shops" in stdout
    assert re.search(rb"file beside an edge +\d+ ms", stdout)
    assert not list((tmp_path / "state" / "gossipswarm").glob("shop*"))
