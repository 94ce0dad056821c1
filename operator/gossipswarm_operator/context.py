"""What handlers and reconcilers share."""

from __future__ import annotations

from dataclasses import dataclass

from gossipswarm_operator.agents_api import AgentsApi
from gossipswarm_operator.client import KubeClient
from gossipswarm_operator.events import Events
from gossipswarm_operator.metrics import Metrics
from gossipswarm_operator.settings import Settings


@dataclass(frozen=True)
class Context:
    """One of each, for the whole operator."""

    settings: Settings
    kube: KubeClient
    agents: AgentsApi
    events: Events
    metrics: Metrics
