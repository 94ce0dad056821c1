"""The names of all commands. Data only: importing this must cost nothing."""

from __future__ import annotations

NOUNS: dict[str, str] = {
    "swarm": "create, inspect and remove swarms",
    "agent": "spawn, list and stop agents",
    "gossip": "read and write the shared state, and watch it spread",
    "network": "cut and heal the network between regions",
    "memory": "keep values across sessions, replicated and durable",
    "hooks": "see and try what happens on events",
}

VERBS: dict[str, dict[str, tuple[str, str]]] = {
    "swarm": {
        "init": ("create a swarm and start it", "swarm"),
        "status": ("show how the swarm is", "swarm"),
        "list": ("list the swarms on this machine", "swarm"),
        "apply": ("make a swarm what a manifest says", "swarm"),
        "up": ("start a stopped swarm with all its agents", "swarm"),
        "down": ("stop a swarm and keep its data", "swarm"),
        "delete": ("stop a swarm and delete its data", "swarm"),
    },
    "agent": {
        "spawn": ("start one agent, or many", "agent"),
        "list": ("list agents", "agent"),
        "logs": ("print an agent's log", "agent"),
        "env": ("print how to reach an agent's HTTP API", "agent"),
        "stop": ("stop an agent", "agent"),
    },
    "gossip": {
        "config": ("show and change the swarm's parameters, live", "gossip.config"),
        "state-update": ("write a value", "gossip.state"),
        "query-state": ("read a value at one agent", "gossip.state"),
        "delete": ("delete a key and everything below it", "gossip.state"),
        "watch": ("follow changes as they arrive", "gossip.watch"),
        "convergence": ("show how a write reached the agents", "gossip.convergence"),
        "metrics": ("show the convergence table or any metric", "gossip.metrics"),
        "conflicts": ("show concurrent writes and what won", "gossip.conflicts"),
        "anti-entropy": ("compare agents in full and repair them now", "gossip.repair"),
        "degraded-mode": ("refuse writes and go on serving reads", "gossip.repair"),
        "benchmark": ("measure throughput and convergence", "gossip.benchmark"),
    },
    "network": {
        "partition": ("cut regions off from each other", "network"),
        "partition-status": ("show cuts, groups and past partitions", "network"),
        "heal-partition": ("end every cut", "network"),
        "verify-connectivity": ("check every link between regions", "network"),
    },
    "memory": {
        "store": ("keep a value", "memory"),
        "retrieve": ("print a kept value", "memory"),
        "list": ("list kept values", "memory"),
        "delete": ("forget a value", "memory"),
    },
    "hooks": {
        "list": ("list the actions of each event", "hooks"),
        "test": ("run an event's actions now", "hooks"),
    },
}

SINGLE: dict[str, tuple[str, str]] = {
    "wait": ("wait until the swarm has converged, is ready or has healed", "wait"),
    "dashboard": ("a live view in the terminal", "dashboard"),
    "install": ("print the manifests that install GossipSwarm in a cluster", "install"),
    "simulate": ("run the protocol in virtual time", "simulate"),
    "completion": ("print the completion script of a shell", "completion"),
    "version": ("print the version", "version"),
}
"""Commands without a noun."""
