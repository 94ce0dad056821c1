"""The smoke test: ``make e2e-smoke E2E_CONTEXT=kind-NAME E2E_KIND=NAME``.

Exit codes: 0 all went well, 1 something did not, 2 it was not allowed to, or could not, run.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

from e2e import images
from e2e.cluster import ROOT, Cluster, Failed, Object, until
from e2e.report import Report
from e2e.rollout import Watcher
from e2e.settings import Refused, Settings, from_environment
from e2e.traffic import COUNTER, Traffic

SYSTEM: Final = "gossipswarm-system"
NAMESPACE: Final = "gossipswarm-smoke"
RELEASE: Final = "gossipswarm"
SWARM: Final = "quickstart"
REGIONS: Final = ("us-east", "us-west", "eu-central")
CONFIG: Final = {"database_url": "postgres://db.example.com/prod", "cache_ttl": 3600}
SELECTOR: Final = f"gossipswarm.io/swarm={SWARM},gossipswarm.io/role=agent"
_GET: Final = """
import json, sys
from pathlib import Path
from gossipswarm_client import Client
token = Path("/etc/gossipswarm/tokens/read").read_text().strip()
with Client(f"http://{sys.argv[1]}:7601", token=token) as client:
    print(json.dumps(client.request("GET", sys.argv[2])))
"""


class Smoke:
    """The steps, in order, on one cluster."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cluster = Cluster(settings.context)
        self.report = Report()

    def run(self) -> None:
        """Everything. Raises Failed or Refused."""
        step = self.report.step
        self.cluster.refuse_unless_empty([SYSTEM, NAMESPACE])
        self._describe_cluster()
        if self.settings.kind is not None:
            with step("build the images"):
                images.build(self.settings)
            with step("load them into the nodes"):
                images.load(self.settings)
        self._namespaces()
        with step("helm install, until the operator is ready"):
            self._helm("install")
        with step("kubectl apply of 9 agents, until Ready"):
            self._apply_quickstart()
            self.cluster.wait(NAMESPACE, f"gossipswarm/{SWARM}", "Ready", 300)
        with step("and until Converged"):
            self.cluster.wait(NAMESPACE, f"gossipswarm/{SWARM}", "Converged", 120)
        with step("helm test"):
            self.cluster.helm("test", RELEASE, "--namespace", SYSTEM, "--timeout", "4m")
        with step("SwarmConfig applied, until Converged"):
            self._deliver_config()
        with step("read in every region"):
            self._read_in_every_region()
        with step("a parameter changed live"):
            self._change_a_parameter()
        with step("kubectl scale from 9 to 12 agents, until Ready and Converged"):
            self._scale_up()
        traffic = Traffic(self.cluster, NAMESPACE, SWARM, self.settings.agent_image, CONFIG)
        traffic.start()
        with step("agents upgraded, region by region"):
            self._upgrade_agents()
        with step("operator upgraded and rolled back"):
            self._upgrade_operator()
        self._judge(traffic)
        with step("swarm deleted by mistake and made again, until its state is back"):
            self._lose_and_find()
        with step("kubectl delete gossipswarm, until every agent is gone"):
            self._delete_swarm()
        with step("helm uninstall, until nothing is left"):
            self._uninstall()

    # --- setting up -------------------------------------------------------------------------------

    def _describe_cluster(self) -> None:
        version = json.loads(self.cluster.kubectl("version", "-o", "json"))["serverVersion"]
        nodes = self.cluster.find("default", "nodes")
        self.report.cluster = [
            ("Kubernetes", version["gitVersion"]),
            ("nodes", str(len(nodes))),
            ("made by", "kind" if self.settings.kind is not None else "somebody else"),
        ]

    def _namespaces(self) -> None:
        for name in (SYSTEM, NAMESPACE):
            labels = {"pod-security.kubernetes.io/enforce": "restricted"}
            self.cluster.apply(
                name,
                {
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {"name": name, "labels": labels},
                },
            )

    def _helm(self, verb: str, **more: Any) -> None:
        values = {
            "crds": {"keep": False},
            "swarmNamespaces": [NAMESPACE],
            "image": _image(self.settings.operator_image),
            "agentImage": _image(self.settings.agent_image),
            "test": {"swarm": {"namespace": NAMESPACE, "name": SWARM}},
            **more,
        }
        self.cluster.helm(
            verb, RELEASE, str(ROOT / "charts" / "gossipswarm"), "--namespace", SYSTEM,
            "--values", "-", "--wait", "--timeout", "4m", stdin=json.dumps(values),
        )  # fmt: skip

    def _apply_quickstart(self) -> None:
        manifest = str(ROOT / "examples" / "quickstart.yaml")
        self.cluster.kubectl("-n", NAMESPACE, "apply", "-f", manifest)
        if self.settings.storage_class is not None:
            self._patch({"storage": {"storageClassName": self.settings.storage_class}})

    # --- delivery ---------------------------------------------------------------------------------

    def _deliver_config(self) -> None:
        self.cluster.apply(
            NAMESPACE,
            {
                "apiVersion": "gossipswarm.io/v1alpha1",
                "kind": "SwarmConfig",
                "metadata": {"name": "app"},
                "spec": {"swarmRef": {"name": SWARM}, "prefix": "app.config", "data": CONFIG},
            },
        )
        self.cluster.wait(NAMESPACE, "swarmconfig/app", "Converged", 60)

    def _read_in_every_region(self) -> None:
        for region in REGIONS:
            found = self._value(f"{SWARM}-{region}-0", "app.config")
            if found != CONFIG:
                raise Failed(f"app.config in {region} is {found}, not {CONFIG}")

    def _change_a_parameter(self) -> None:
        before = {pod["metadata"]["name"]: _restarts(pod) for pod in self._agents()}
        self._patch({"gossip": {"fanout": 4}})
        for region in REGIONS:
            pod = f"{SWARM}-{region}-0"

            def changed(pod: str = pod) -> bool | None:
                return self._get(pod, "/v1/config")["settings"]["fanout"] == 4 or None

            until(f"fanout 4 at {pod}", changed, 30)
        after = {pod["metadata"]["name"]: _restarts(pod) for pod in self._agents()}
        if before != after:
            raise Failed(f"agents restarted for a parameter: {before}, {after}")

    # --- change -----------------------------------------------------------------------------------

    def _scale_up(self) -> None:
        self.cluster.kubectl("-n", NAMESPACE, "scale", f"gossipswarm/{SWARM}", "--replicas", "4")
        self._settled(12)

    def _upgrade_agents(self) -> None:
        image = self.settings.next_agent_image
        with Watcher(self.cluster, NAMESPACE, SWARM, image) as rollout:
            self._patch({"image": _image(image)})
            self._settled(12, image)
        order = sorted(rollout.finished, key=rollout.finished.__getitem__)
        self.report.rows += [
            (f"{region} on the new image after", f"{rollout.finished[region]:.1f} s")
            for region in order
        ]
        self.report.rows.append(("most regions under way at once", str(rollout.together)))
        if set(rollout.finished) != set(REGIONS) or rollout.together > 1:
            raise Failed(f"the update did not go region by region: {rollout}")

    def _upgrade_operator(self) -> None:
        before = [pod["metadata"]["uid"] for pod in self._agents()]
        self._helm("upgrade", log={"level": "debug", "format": "json"})
        self.cluster.helm("rollback", RELEASE, "1", "--namespace", SYSTEM, "--wait")
        self._settled(12)
        if [pod["metadata"]["uid"] for pod in self._agents()] != before:
            raise Failed("agents were replaced when the operator was upgraded and rolled back")

    def _judge(self, traffic: Traffic) -> None:
        seen = traffic.seen_by_now()
        traffic.stop()
        acknowledged = seen["last_acknowledged"]
        counters = [self._value(f"{SWARM}-{region}-0", COUNTER) for region in REGIONS]
        lost = [found for found in counters if found < acknowledged]
        self.report.figures["client"] = seen
        self.report.rows += [
            ("reads through the Service", f"{seen['reads']:,}"),
            ("of them failed at once", f"{seen['failed_reads']:,}"),
            ("of them failed again when repeated at once", f"{seen['twice_failed_reads']:,}"),
            ("of them wrong", f"{seen['wrong_reads']:,}"),
            ("longest time without an answer", f"{seen['longest_gap_ms']:.0f} ms"),
            ("writes", f"{seen['writes']:,}"),
            ("of them not acknowledged within 2 s", f"{seen['failed_writes']:,}"),
            ("regions that lack an acknowledged write", str(len(lost))),
        ]
        if lost or seen["wrong_reads"] or seen["twice_failed_reads"]:
            raise Failed(f"the client of the swarm saw {seen}; regions then had {counters}")

    # --- the end ----------------------------------------------------------------------------------

    def _lose_and_find(self) -> None:
        before = self._value(f"{SWARM}-{REGIONS[0]}-0", COUNTER)
        self._delete(f"gossipswarm/{SWARM}")
        self._apply_quickstart()
        self._settled(9)
        found = [self._value(f"{SWARM}-{region}-0", COUNTER) for region in REGIONS]
        if any(value != before for value in found):
            raise Failed(f"{COUNTER} was {before}, and is {found} in the swarm made again")

    def _delete_swarm(self) -> None:
        self._delete("swarmconfig/app")
        self._delete(f"gossipswarm/{SWARM}")
        volumes = self.cluster.find(NAMESPACE, "pvc", f"gossipswarm.io/swarm={SWARM}")
        if len(volumes) != 12:
            raise Failed(f"{len(volumes)} of 12 volumes were retained")
        self.cluster.kubectl("-n", NAMESPACE, "delete", "pvc", "--all", "--wait", "--timeout=60s")

    def _delete(self, what: str) -> None:
        """Delete an object; of a swarm also wait until all that belonged to it is gone."""
        self.cluster.kubectl("-n", NAMESPACE, "delete", what, "--wait", "--timeout=90s")
        if not what.startswith("gossipswarm/"):
            return
        owned = "pods,statefulsets,services,configmaps,secrets,serviceaccounts,networkpolicies,pdb"

        def gone() -> bool | None:
            left = self.cluster.find(NAMESPACE, owned, f"gossipswarm.io/swarm={SWARM}")
            return True if not left else None

        until("nothing of the swarm is left", gone, 120)

    def _uninstall(self) -> None:
        self.cluster.helm("uninstall", RELEASE, "--namespace", SYSTEM, "--wait")
        for kind in ("crd", "clusterrole", "clusterrolebinding"):

            def gone(kind: str = kind) -> bool | None:
                left = [name for name in self.cluster.names(kind) if "gossipswarm" in name]
                return True if not left else None

            until(f"no {kind} is left", gone, 60)
        for name in (NAMESPACE, SYSTEM):
            self.cluster.kubectl("delete", "namespace", name, "--wait", "--timeout=120s")

    # --- looking ----------------------------------------------------------------------------------

    def _agents(self) -> list[Object]:
        pods = self.cluster.find(NAMESPACE, "pods", SELECTOR)
        return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))

    def _value(self, pod: str, key: str) -> Any:
        """What an agent holds at a key."""
        return self._get(pod, f"/v1/state/{key}")["value"]

    def _get(self, pod: str, path: str) -> Any:
        """What an agent answers on its own address."""
        address = self.cluster.get(NAMESPACE, "pod", pod)["status"]["podIP"]
        return json.loads(self.cluster.python(NAMESPACE, pod, _GET, address, path))

    def _patch(self, spec: Object) -> None:
        patch = json.dumps({"spec": spec})
        self.cluster.kubectl(
            "-n", NAMESPACE, "patch", f"gossipswarm/{SWARM}", "--type", "merge", "--patch", patch
        )

    def _settled(self, agents: int, image: str = "") -> None:
        """Wait until the swarm says that as many agents are ready and hold the same, all on one image."""

        def settled() -> bool | None:
            swarm = self.cluster.get(NAMESPACE, "gswarm", SWARM)
            status = swarm.get("status", {})
            conditions = {each["type"]: each["status"] for each in status.get("conditions", [])}
            well = (
                status.get("observedGeneration") == swarm["metadata"]["generation"]
                and status.get("readyReplicas") == agents
                and conditions.get("Ready") == conditions.get("Converged") == "True"
            )
            pods = self._agents() if well else []
            images = {pod["spec"]["containers"][0]["image"] for pod in pods}
            return (well and len(pods) == agents and (not image or images == {image})) or None

        until(f"{agents} agents ready and converged {image}".rstrip(), settled, 600)


def _image(reference: str) -> Object:
    repository, _, tag = reference.rpartition(":")
    return {"repository": repository, "tag": tag}


def _restarts(pod: Object) -> tuple[str, int]:
    (container,) = pod["status"]["containerStatuses"]
    return pod["metadata"]["uid"], container["restartCount"]


def main() -> int:
    """Run it, print and write what it measured."""
    try:
        smoke = Smoke(from_environment(os.environ))
        smoke.run()
    except Refused as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    except Failed as error:
        print(f"FAILED: {error}", file=sys.stderr)
        print("everything is left as it is, to be looked at", file=sys.stderr)
        return 1
    print(smoke.report.markdown())
    smoke.report.write(ROOT / "docs" / "results")
    return 0


if __name__ == "__main__":
    sys.exit(main())
