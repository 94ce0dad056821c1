"""A swarm in a cluster: the operations of ``local.requests``, by its GossipSwarm, its pods and their agents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from gossipctl import failures, output
from gossipctl.backend import Agent
from gossipctl.failures import CommandFailed, UsageError
from gossipctl.kubernetes.agents import Pod, PodAgent
from gossipctl.kubernetes.api import Api
from gossipctl.kubernetes.resources import API_PORT, agents_of, core, swarms, tokens
from gossipctl.kubernetes.resources import partitions as partition_path
from gossipctl.kubernetes.roster import (
    Place,
    Roster,
    describe,
    details,
    in_order,
    is_ready,
    status,
)
from gossipctl.suggest import did_you_mean, listing

Answer = TypeVar("Answer")
Lines = Iterator[dict[str, Any]]
NO_WAITING = 0.0


class KubernetesSwarm:
    """One GossipSwarm."""

    def __init__(self, api: Api, roster: Roster) -> None:
        self.name = roster.name
        self._api = api
        self._roster = roster
        self._token: str | None = None
        self._operations: dict[str, Callable[..., Any]] = {
            "status": self._status,
            "agents": self._agents,
            "resolve": self._resolve,
            "stats": lambda: {"agents": self.stats(), "declared": self._roster.total},
            "converged": self._converged,
            "config": self._config,
            "partition": self._partition,
            "heal": self._heal,
            "partition-status": self._partition_status,
            "logs": self._logs,
        }
        self._streams: dict[str, Callable[..., Lines]] = {
            "spawn": self._spawn,
            "stop": self._stop,
            "logs": self._follow,
        }

    # --- operations -------------------------------------------------------------------------------

    def request(self, op: str, /, timeout: float = 120.0, **arguments: Any) -> Any:
        """The result of one operation. Time limits are the operations' own."""
        del timeout
        if op in self._operations:
            return self._operations[op](**arguments)
        *_, last = self._streams[op](**arguments)
        return last["result"]

    def stream(self, op: str, /, timeout: float = 120.0, **arguments: Any) -> Lines:
        """Lines of an operation as they come; the last has ``done``."""
        del timeout
        return self._streams[op](**arguments)

    def expected(self) -> int | None:
        """Agents that the GossipSwarm wants."""
        self._refresh()
        return self._roster.total

    def again(self) -> KubernetesSwarm:
        """The same swarm over connections of its own."""
        return KubernetesSwarm(Api(self._api.access), self._roster)

    def _refresh(self) -> None:
        self._roster = Roster(self._api.get(swarms(self._roster.namespace, self.name)))

    def _pods(self, region: str | None = None) -> list[dict[str, Any]]:
        path = core("pods", self._roster.namespace)
        listed = self._api.get(path, labelSelector=agents_of(self.name, region))
        found: list[dict[str, Any]] = listed.get("items") or []
        return in_order(self._roster, found)

    # --- agents -----------------------------------------------------------------------------------

    def agent(self, name: str | None = None) -> Agent:
        """One agent; without a name always the same one of those that are ready, so that who writes and then
        reads finds what was written.
        """
        if name is not None:
            return self._agent_at(self._place(name))
        ready = self._ready()
        if not ready:
            raise self._nobody()
        return self._agent_at(ready[0])

    def agents(self) -> list[Agent]:
        """All agents that are ready. Raises CommandFailed if there is none."""
        ready = self._ready()
        if not ready:
            raise self._nobody()
        return [self._agent_at(place) for place in ready]

    def _nobody(self) -> CommandFailed:
        if not self._roster.total:
            return CommandFailed(
                f"swarm {self.name} has no agents",
                "start some with: gossipctl agent spawn --count 5",
            )
        return failures.Unreachable(
            f"none of the {self._roster.total} agents of {self.name} is ready",
            "see what keeps them with: gossipctl agent list -o wide",
        )

    def _ready(self) -> list[Place]:
        places = [
            self._roster.place(pod["metadata"]["name"]) for pod in self._pods() if is_ready(pod)
        ]
        return [place for place in places if place is not None]

    def _place(self, name: str) -> Place:
        place = self._roster.place(name)
        if place is None or place.ordinal >= self._roster.replicas(place.region):
            known = [pod["metadata"]["name"] for pod in self._pods()]
            if place is not None and place.name in known:
                return place  # it is about to go
            raise UsageError(
                f"no agent {name!r}",
                did_you_mean(name, known, otherwise="see them with: gossipctl agent list"),
            )
        return place

    def _agent_at(self, place: Place) -> Agent:
        pod = Pod(self._roster.namespace, place.name, place.region, self._roster.tls)
        return PodAgent(self._api, pod, self._write_token())

    def _write_token(self) -> str:
        if self._token is None:
            from base64 import b64decode

            name = tokens(self.name)
            secret = self._api.find(core("secrets", self._roster.namespace, name))
            data = (secret or {}).get("data") or {}
            if "write" not in data:
                raise failures.Unreachable(
                    f"the Secret {name} with the agents' tokens is not there yet",
                    "the operator makes it; is it running?",
                )
            self._token = b64decode(data["write"]).decode().strip()
        return self._token

    def _ask_all(self, question: Callable[[Agent], Answer]) -> list[tuple[Agent, Answer]]:
        """What every ready agent answers. Those that do not are left out, unless nobody does."""
        if not self._roster.total:
            return []
        places = self._ready()
        from gossipctl.fan_out import ask

        answers, failure = [], None
        for agent, answer in ask([self._agent_at(place) for place in places], question):
            if isinstance(answer, CommandFailed):
                failure = answer
            else:
                answers.append((agent, answer))
        if not answers and failure is not None:
            raise failure
        order = {place.name: index for index, place in enumerate(places)}
        return sorted(answers, key=lambda answered: order[answered[0].name])

    # --- looking ----------------------------------------------------------------------------------

    def _status(self, *, verbose: bool = False) -> dict[str, Any]:
        from gossipctl.kubernetes import partitions

        self._refresh()
        pods = self._pods()
        cuts = partitions.of_swarm(self._api, self._roster)
        found = status(self._roster, pods, partitioned=bool(cuts))
        if verbose:
            found |= {
                "agents": [describe(pod) for pod in pods],
                "settings": self._settings_of_agent() or self._roster.settings(),
                "partitions": [partitions.describe(cut, self._roster.regions) for cut in cuts],
                **details(self._roster),
            }
        return found

    def _agents(self, filter: str = "all", region: str | None = None) -> dict[str, Any]:  # noqa: A002 - as it is asked
        if region is not None and region not in self._roster.regions:
            raise UsageError(f"no region {region!r}", did_you_mean(region, self._roster.regions))
        found = [describe(pod) for pod in self._pods(region)]
        return {"agents": [each for each in found if filter in ("all", each["status"])]}

    def _resolve(self, name: str | None = None) -> dict[str, Any]:
        host = f"{self.name}.{self._roster.namespace}.svc"
        region = None
        if name is not None:
            place = self._place(name)
            name, region = place.name, place.region
            host = f"{name}.{self.name}-{region}.{self._roster.namespace}.svc"
        scheme = "https" if self._roster.tls else "http"
        output.note("this address is one of the cluster; from outside, use gossipctl itself")
        return {
            "name": name,
            "region": region,
            "api": f"{scheme}://{host}:{API_PORT}",
            "token": self._write_token(),
        }

    def stats(self) -> list[dict[str, Any]]:
        """Every ready agent's own figures: name, region, state_hash, leaves, ..."""
        return [
            {**answer, "newest_trace": _trace(answer["newest_trace"])}
            for _, answer in self._ask_all(lambda agent: dict(agent.agent().raw))
        ]

    def _converged(self, threshold: float) -> dict[str, Any]:
        self._refresh()
        hashes = Counter(each["state_hash"] for each in self.stats())
        (commonest, agreeing), *_ = hashes.most_common(1) or [(None, 0)]
        agents = self._roster.total
        share = agreeing / agents if agents else 0.0
        return {
            "converged": bool(agents) and share >= threshold,
            "share": round(share, 4),
            "agents": agents,
            "agreeing": agreeing,
            "state_hash": commonest,
        }

    # --- parameters -------------------------------------------------------------------------------

    def _settings_of_agent(self) -> dict[str, Any] | None:
        """What an agent applies; None where none answers."""
        try:
            found: dict[str, Any] = self.agent().request("GET", "/v1/config")["settings"]
        except failures.Unreachable:
            return None
        except CommandFailed:
            if self._roster.total:
                raise
            return None
        return found

    def _config(self, changes: dict[str, Any]) -> dict[str, Any]:
        from gossipctl.kubernetes import settings

        before = self._settings_of_agent()
        if changes:
            self._roster = settings.change(self._api, self._roster, changes)
            if before is not None:
                before = settings.until_applied(changes, self._settings_of_agent)
        if before is None:
            output.note("no agent is up: this is what the GossipSwarm says of parameters")
            before = self._roster.settings()
        return {"settings": before, "changed": list(changes)}

    def set_degraded(self, *, enabled: bool) -> bool:
        """Make the swarm read-only, or writable again; whether it is read-only now.

        It is said to the agents. The spec is changed only where it has an opinion: the operator would put
        the swarm back to that.
        """
        from gossipctl.kubernetes import settings

        wanted = {"degraded_mode": enabled}
        if "degraded_mode" in self._roster.settings():
            self._roster = settings.change(self._api, self._roster, wanted)
        return self.agent().degraded_mode(enabled)

    # --- coming and going -------------------------------------------------------------------------

    def _spawn(
        self,
        name: str | None = None,
        region: str | None = None,
        count: int = 1,
        wait: bool = True,
        **described: Any,
    ) -> Lines:
        from gossipctl.kubernetes import scaling

        ignored = [flag for flag, value in described.items() if value and value != "worker"]
        if ignored:
            output.note(f"pods are all alike: {listing(ignored)} left out")
        places = scaling.add(self._api, self._roster, region, count)
        if name is not None and self._roster.place(name) is None:
            output.note(f"pods are named by their regions: {places[0].name} rather than {name}")
        agents: list[dict[str, Any]] = []
        if wait:
            for agent in scaling.until_active(self._api, self._roster, places):
                agents.append(agent)
                yield {"agent": agent}
            order = [place.name for place in places]
            agents.sort(key=lambda agent: order.index(agent["name"]))
        else:
            agents = [{"name": place.name, "region": place.region} for place in places]
        yield {"done": True, "result": {"agents": agents}}

    def _stop(
        self,
        name: str | None = None,
        region: str | None = None,
        all: bool = False,  # noqa: A002 - as it is asked
        remove: bool = False,
    ) -> Lines:
        from gossipctl.kubernetes import scaling

        del all
        if name is not None:
            places = scaling.drop_last(self._api, self._roster, self._place(name))
        else:
            if region is not None and region not in self._roster.regions:
                raise UsageError(
                    f"no region {region!r}", did_you_mean(region, self._roster.regions)
                )
            regions = [region] if region else self._roster.regions
            places = scaling.empty(self._api, self._roster, regions)
        for gone in scaling.until_gone(self._api, self._roster, places):
            if remove:
                scaling.erase(self._api, self._roster.namespace, gone)
            yield {"agent": gone}
        yield {"done": True, "result": {"agents": [place.name for place in places]}}

    # --- partitions -------------------------------------------------------------------------------

    def _partition(self, **request: Any) -> dict[str, Any]:
        from gossipctl.kubernetes import partitions

        groups, transit = partitions.sides_of(request, self._roster.regions)
        duration = request.get("duration_ms")
        wanted = partitions.manifest(self._roster, groups, transit=transit, milliseconds=duration)
        path = partition_path(self._roster.namespace)
        cut = partitions.until_enforced(self._api, self._api.create(path, wanted))
        found = partitions.describe(cut, self._roster.regions)
        if duration is not None and found["mechanism"] == "NetworkPolicy":
            output.note(
                "NetworkPolicies do not end by themselves: it is the operator that ends the cut in time, and where it "
                "does not run, gossipctl network heal-partition"
            )
        return {**found, "duration_ms": duration, "agents": self._roster.total}

    def _heal(self) -> dict[str, Any]:
        from gossipctl.kubernetes import partitions

        cuts = partitions.of_swarm(self._api, self._roster)
        if cuts and not partitions.heal(self._api, self._roster, cuts):
            output.warn(
                "the operator does not heal it: what holds the cut was taken away by its label"
            )
            self._ask_all(lambda agent: agent.set_drop_list())
        return {"healed": [cut["metadata"]["name"] for cut in cuts], "agents": self._roster.total}

    def _partition_status(self) -> dict[str, Any]:
        from gossipctl.kubernetes import partitions

        reports = [
            {"name": agent.name, "region": agent.region, "partition": answer}
            for agent, answer in self._ask_all(lambda agent: dict(agent.partition().raw))
        ]
        cuts = partitions.of_swarm(self._api, self._roster)
        for name in partitions.overdue(cuts, self._roster.regions):
            output.warn(
                f"partition {name} is over and still there: does the operator run? "
                "gossipctl network heal-partition ends it without"
            )
        return partitions.status(self._roster, cuts, reports)

    # --- logs -------------------------------------------------------------------------------------

    def _whose_logs(self, name: str | None) -> Sequence[str]:
        if name is not None:
            return [self._place(name).name]
        return [
            pod["metadata"]["name"]
            for pod in self._pods()
            if (pod.get("spec") or {}).get("nodeName")
        ]

    def _logs(self, name: str | None = None, lines: int = 100) -> dict[str, Any]:
        from gossipctl.kubernetes import pod_logs

        pods = self._whose_logs(name)
        return {"lines": pod_logs.last(self._api, self._roster.namespace, pods, lines)}

    def _follow(self, name: str | None = None, lines: int = 100, follow: bool = True) -> Lines:
        from gossipctl.kubernetes import pod_logs

        del follow
        pods = self._whose_logs(name)
        for line in pod_logs.follow(self._api, self._roster.namespace, pods, lines):
            yield {"line": line}
        yield {"done": True, "result": {}}


def _trace(found: dict[str, str] | None) -> tuple[str, str, str] | None:
    """Dot, key and start of a traced write, as the supervisor of a local swarm gives them."""
    return (found["dot"], found["key"], found["started_at"]) if found else None
