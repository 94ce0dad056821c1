"""Everything that the operator owns of a swarm."""

from __future__ import annotations

from typing import Any

from gossipswarm_operator.builders import configuration, cuts, policies, services, stateful_set
from gossipswarm_operator.builders.facts import Facts
from gossipswarm_operator.model import Region, Swarm


def build(swarm: Swarm, facts: Facts) -> list[dict[str, Any]]:
    """All objects, in the order in which they are to be made: pods need everything else."""
    objects = [
        configuration.service_account(swarm),
        configuration.tokens_secret(swarm, facts),
        *([configuration.keyring_secret(swarm, facts)] if facts.keys else []),
        configuration.config_map(swarm, facts),
        *([cuts.cut_config_map(swarm, facts.cut)] if facts.cut else []),
        services.client_service(swarm),
    ]
    for region in swarm.spec.regions:
        objects += build_region(swarm, region, facts)
    return objects


def build_region(swarm: Swarm, region: Region, facts: Facts) -> list[dict[str, Any]]:
    """The objects of one region."""
    objects = [services.headless_service(swarm, region.name)]
    if swarm.spec.network_policy.mode == "Enabled":
        objects.append(
            policies.network_policy(
                swarm, region.name, facts.cut.for_policies(), facts.inhabited, facts.ports
            )
        )
    if swarm.spec.pdb.mode == "Enabled":
        objects.append(policies.disruption_budget(swarm, region.name))
    objects.append(stateful_set.stateful_set(swarm, region, facts))
    return objects
