"""The smoke test: everything that a user does, once, from installing to removing. ``make e2e-smoke``.

It has a cluster without GossipSwarm for itself, so ``make e2e`` does not collect it. On a cluster that was named a failure leaves
everything as it is, to be looked at.
"""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from e2e import evidence, images
from e2e.cluster import ROOT, Cluster, Failed, until
from e2e.cut import Cut
from e2e.installation import SYSTEM, Installation, reference
from e2e.report import Report
from e2e.rollout import Watcher
from e2e.settings import Refused, Settings
from e2e.swarm import REGIONS, Swarm
from e2e.traffic import COUNTER, Traffic
from gossipctl.backend import Agent
from gossipctl.failures import CommandFailed
from gossipswarm_client.errors import GossipSwarmError

NAMESPACE: Final = "gossipswarm-smoke"
SWARM: Final = "quickstart"
CONFIG: Final = {"database_url": "postgres://db.example.com/prod", "cache_ttl": 3600}


class Smoke:
    """The steps, in order, on one cluster."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cluster = Cluster(settings.context)
        self.installation = Installation(self.cluster, settings)
        self.swarm = Swarm(self.cluster, NAMESPACE, SWARM)
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
        for name in (SYSTEM, NAMESPACE):
            self.installation.namespace(name)
        with step("helm install, until the operator is ready"):
            self._install()
        with step("kubectl apply of 9 agents, until Ready"):
            self._apply_quickstart()
            self.cluster.wait(NAMESPACE, f"gossipswarm/{SWARM}", "Ready", 300)
        with step("and until Converged"):
            self.cluster.wait(NAMESPACE, f"gossipswarm/{SWARM}", "Converged", 120)
        with step("helm test"):
            self.installation.test()
        with step("SwarmConfig applied, until Converged"):
            self._deliver_config()
        with step("read in every region"):
            self._read_in_every_region()
        with step("a parameter changed live"):
            self._change_a_parameter()
        cut = Cut(self.swarm)
        with step("SwarmPartition applied, until probes have shown that it is enforced"):
            cut.make(["us-east"])
            cut.wait("Enforced")
        self._write_on_both_sides()
        with step("and deleted, until all agents have the same again"):
            cut.delete()
            self.swarm.agree("smoke.sides", "west", agents=9)
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

    def _install(self, **values: Any) -> None:
        test = {"swarm": {"namespace": NAMESPACE, "name": SWARM}}
        self.installation.install(swarmNamespaces=[NAMESPACE], test=test, **values)

    def _apply_quickstart(self) -> None:
        manifest = str(ROOT / "examples" / "quickstart.yaml")
        self.cluster.kubectl("-n", NAMESPACE, "apply", "-f", manifest)
        if self.settings.storage_class is not None:
            self.swarm.patch(storage={"storageClassName": self.settings.storage_class})

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
            found = self.swarm.read("app.config", at=f"{region}-0")
            if found != CONFIG:
                raise Failed(f"app.config in {region} is {found}, not {CONFIG}")

    def _change_a_parameter(self) -> None:
        before = self.swarm.lives()
        self.swarm.patch(gossip={"fanout": 4})
        for region in REGIONS:
            agent = self.swarm.agent(f"{region}-0")

            def changed(agent: Agent = agent) -> bool | None:
                return agent.request("GET", "/v1/config")["settings"]["fanout"] == 4 or None

            until(f"fanout 4 at {agent.name}", changed, 30)
        after = self.swarm.lives()
        if before != after:
            raise Failed(f"agents restarted for a parameter: {before}, {after}")

    def _write_on_both_sides(self) -> None:
        for value, agents in (
            ("east", ("us-east-0", "us-east-2")),
            ("west", ("us-west-0", "eu-central-2")),
        ):
            writer, reader = agents
            self.swarm.write("smoke.sides", value, at=writer)

            def arrived(reader: str = reader, value: str = value) -> bool | None:
                return self.swarm.read("smoke.sides", at=reader) == value or None

            until(f"{reader} has what {writer} was told", arrived, 10)
        if self.swarm.read("smoke.sides", at="us-east-1") != "east":
            raise Failed("what was written beyond the cut came through it")

    # --- change -----------------------------------------------------------------------------------

    def _scale_up(self) -> None:
        self.swarm.scale(4)
        self.swarm.settled(12)

    def _upgrade_agents(self) -> None:
        image = self.settings.next_agent_image
        with Watcher(self.cluster, NAMESPACE, SWARM, image) as rollout:
            self.swarm.patch(image=reference(image))
            self.swarm.settled(12, image=image, seconds=600)
        order = sorted(rollout.finished, key=rollout.finished.__getitem__)
        self.report.rows += [
            (f"{region} on the new image after", f"{rollout.finished[region]:.1f} s")
            for region in order
        ]
        self.report.rows.append(("most regions under way at once", str(rollout.together)))
        if set(rollout.finished) != set(REGIONS) or rollout.together > 1:
            raise Failed(f"the update did not go region by region: {rollout}")

    def _upgrade_operator(self) -> None:
        before = self.swarm.lives()
        self._install(log={"level": "debug", "format": "json"})
        self.installation.rollback()
        self.swarm.settled(12)
        if self.swarm.lives() != before:
            raise Failed("agents were replaced when the operator was upgraded and rolled back")

    def _judge(self, traffic: Traffic) -> None:
        seen = traffic.seen_by_now()
        traffic.stop()
        acknowledged = seen["last_acknowledged"]
        counters = [self.swarm.read(COUNTER, at=f"{region}-0") for region in REGIONS]
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
        before = self.swarm.read(COUNTER, at=f"{REGIONS[0]}-0")
        self.swarm.delete()
        self._apply_quickstart()
        self.swarm.settled(9)
        found = [self.swarm.read(COUNTER, at=f"{region}-0") for region in REGIONS]
        if any(value != before for value in found):
            raise Failed(f"{COUNTER} was {before}, and is {found} in the swarm made again")

    def _delete_swarm(self) -> None:
        self.cluster.kubectl("-n", NAMESPACE, "delete", "swarmconfig/app", "--timeout=90s")
        self.swarm.delete()
        volumes = self.cluster.find(NAMESPACE, "pvc", f"gossipswarm.io/swarm={SWARM}")
        if len(volumes) != 12:
            raise Failed(f"{len(volumes)} of 12 volumes were retained")
        self.cluster.kubectl("-n", NAMESPACE, "delete", "pvc", "--all", "--wait", "--timeout=60s")

    def _uninstall(self) -> None:
        self.installation.uninstall()
        self.cluster.kubectl("delete", "namespace", NAMESPACE, "--wait", "--timeout=120s")


def test_everything_that_a_user_does(settings: Settings) -> None:
    evidence.forget()
    smoke = Smoke(settings)
    try:
        smoke.run()
    except Refused as refused:
        pytest.exit(f"refused: {refused}", returncode=2)
    except (Failed, GossipSwarmError, CommandFailed) as failed:
        folder = evidence.gather(smoke.cluster, NAMESPACE, "smoke", str(failed))
        print(f"what there is to know about it: {folder}")
        raise
    print(smoke.report.markdown())
    if settings.results is not None:
        smoke.report.write(settings.results)
