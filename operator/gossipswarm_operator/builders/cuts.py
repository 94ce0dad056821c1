"""The cut that new agents of a swarm are born into, as a ConfigMap that their pods mount if it is there."""

from __future__ import annotations

from typing import Any, Final

import yaml

from gossipswarm_operator import names
from gossipswarm_operator.builders.metadata import described
from gossipswarm_operator.model import Swarm
from gossipswarm_operator.partition.severing import Cut

CUT_FILE: Final = "cut.yaml"


def cut_config_map(swarm: Swarm, cut: Cut) -> dict[str, Any]:
    """Pairs of regions that do not hear each other, for agents that start now.

    A CNI may take a second to cover the address of a new pod, so its agent keeps to its own side by itself.
    """
    document: dict[str, Any] = {"links": [f"{a}|{b}" for a, b in sorted(cut.severed)]}
    if cut.until is not None:
        document["until_ms"] = round(cut.until.timestamp() * 1000)
    body = described(swarm, "v1", "ConfigMap", names.cut_config_map(swarm.name), component="cut")
    body["metadata"]["labels"][names.PARTITION_LABEL] = names.label_value(*cut.names)
    body["data"] = {CUT_FILE: yaml.safe_dump(document, sort_keys=False, width=10_000)}
    return body
