"""One example of each document of the API, for the OpenAPI document. A test decodes every one."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gossipswarm_agent.api import types
from gossipswarm_agent.core.settings import DEFAULTS, Settings

_AT: Final = "2025-11-02T11:01:00.700Z"
_DOT: Final = "gossip-us-east-1/1:42"
_CONFIG: Final = {
    "database_url": "postgres://db.example.com/prod",
    "cache_ttl": 3600,
    "feature_flags": {"new_ui": True, "beta_api": False},
}
_CONVERGENCE: Final = {
    "dot": _DOT,
    "key": "app.config",
    "origin": "gossip-us-east-1",
    "started_at": _AT,
    "agents": 150,
    "received": 148,
    "share": 0.9867,
    "threshold": 0.95,
    "converged": True,
    "duration_ms": 11.2,
    "full_ms": None,
    "mode": "eager",
    "rounds": [
        {"round": 1, "agents": 1, "share": 0.0067, "duration_ms": 0.0},
        {"round": 2, "agents": 85, "share": 0.5667, "duration_ms": 6.1},
        {"round": 3, "agents": 148, "share": 0.9867, "duration_ms": 12.9},
    ],
    "missing": ["gossip-us-west-7", "gossip-us-west-9"],
}
_CONFLICT: Final = {
    "key": "app.config.cache_ttl",
    "conflict_detected": True,
    "resolution_strategy": "vector-clock",
    "winning_value": 1800,
    "winning_timestamp": "2025-11-02T11:01:25.000Z",
    "winning_origin": "gossip-us-west-1",
    "losing_value": 7200,
    "losing_timestamp": "2025-11-02T11:01:20.000Z",
    "losing_origin": "gossip-us-east-1",
    "affected_agents": 150,
}
_HOOK_OUTCOME: Final = {
    "event": "partition-detected",
    "action": "degraded-mode enabled",
    "status": "done",
    "message": "writes are refused",
    "duration_ms": 3.2,
    "at": _AT,
}
_WRITTEN: Final = {
    "key": "app.config",
    "version": 2,
    "etag": "8f1c2ab0d94e7710",
    "dot": _DOT,
    "last_updated": _AT,
    "changed": 4,
    "agent": "gossip-us-east-1",
    "region": "us-east",
}

EXAMPLES: Final[dict[Any, Any]] = {
    types.Value: {
        "key": "app.config",
        "value": _CONFIG,
        "version": 1,
        "etag": "8f1c2ab0d94e7710",
        "last_updated": _AT,
        "origin": "gossip-us-east-1",
        "conflict": False,
        "region": "us-east",
        "agent": "gossip-us-east-10",
        "degraded": False,
    },
    types.Keys: {"keys": ["app.config.cache_ttl", "app.config.database_url"], "next": None},
    types.Written: _WRITTEN,
    types.Changed: {
        "key": "app.config.cache_ttl",
        "value": 1800,
        "deleted": False,
        "version": 2,
        "last_updated": _AT,
        "origin": "gossip-us-west-1",
    },
    types.BatchLine: {"op": "put", "key": "app.config.cache_ttl", "value": 1800, "id": 1},
    types.BatchAck: {"id": 1, "dot": _DOT, "version": 2},
    types.AgentInfo: {
        "name": "gossip-us-east-1",
        "region": "us-east",
        "swarm": "swarm-gossip-001",
        "status": "alive",
        "ready": True,
        "incarnation": 1,
        "origin": "gossip-us-east-1/1",
        "gossip": "10.0.1.7:7946",
        "api": "10.0.1.7:7947",
        "state_hash": "8f1c2ab0d94e7710",
        "losses_hash": "0000000000000000",
        "vector_hash": "1b44f0a97ce3d025",
        "leaves": 4,
        "tombstones": 0,
        "held": 0,
        "sequence": 42,
        "members_alive": 150,
        "groups": [["eu-central", "us-east", "us-west"]],
        "cut_by": None,
        "degraded": False,
        "settings_version": 1,
        "newest_trace": {"dot": _DOT, "key": "app.config", "started_at": _AT},
        "started_at": _AT,
        "labels": {"type": "worker"},
        "version": "0.1.0",
        "pid": 4711,
        "clock_skew_ms": 0.0,
        "loop_lag_ms": 0.4,
        "journal": {"bytes": 20480, "fsync_p99_ms": 2.1, "records": 57, "trouble": None},
    },
    types.Members: {
        "members": [
            {
                "name": "gossip-us-east-1",
                "region": "us-east",
                "status": "alive",
                "incarnation": 1,
                "gossip": "10.0.1.7:7946",
                "api": "10.0.1.7:7947",
                "labels": {"type": "worker"},
                "since": _AT,
            }
        ]
    },
    types.Regions: {
        "regions": [
            {
                "name": "us-east",
                "agents": 50,
                "alive": 50,
                "unreachable": 0,
                "relays": ["gossip-us-east-3", "gossip-us-east-17", "gossip-us-east-40"],
                "reachable": True,
                "links": {"us-west": "up", "eu-central": "up"},
            }
        ]
    },
    types.Partition: {
        "status": "partitioned",
        "groups": [["us-east"], ["eu-central", "us-west"]],
        "cuts": [
            {"a": "us-east", "b": "us-west", "since": _AT, "detection_ms": 341.0},
        ],
        "history": [
            {
                "partition_start": _AT,
                "partition_end": None,
                "affected_regions": ["us-east", "us-west", "eu-central"],
                "groups": [["us-east"], ["eu-central", "us-west"]],
                "conflicts_resolved": 0,
                "healing_time_ms": None,
                "detection_ms": 341.0,
            }
        ],
    },
    types.Convergence: _CONVERGENCE,
    types.ConvergenceList: {"writes": [_CONVERGENCE]},
    types.ConvergenceStats: {
        "samples": 64,
        "avg_ms": 14.0,
        "p50_ms": 12.5,
        "p95_ms": 21.0,
        "p99_ms": 26.3,
        "max_ms": 31.0,
    },
    types.Conflicts: {"open": [], "history": [_CONFLICT]},
    types.Config: {"version": 1, "settings": msgspec.to_builtins(DEFAULTS)},
    Settings: {"fanout": 5, "interval": 50, "mode": "push-pull"},
    types.DegradedMode: {"enabled": True, "scope": "swarm"},
    types.AntiEntropy: {"peer": "gossip-us-west-1"},
    types.AntiEntropyReport: {
        "peer": "gossip-us-west-1",
        "buckets_compared": 256,
        "buckets_different": 2,
        "rows_received": 3,
        "rows_sent": 1,
        "dropped": 0,
        "duration_ms": 8.4,
    },
    types.KeyringAction: {"action": "use", "id": "5f0e12ab"},
    types.Keyring: {"keys": ["5f0e12ab", "c03d9917"], "primary": "5f0e12ab"},
    types.Drain: {"timeout": "30s", "leaving": ["gossip-us-east-2"]},
    types.Drained: {
        "holders": ["gossip-us-east-7", "gossip-us-west-3"],
        "duration_ms": 12.6,
        "until": _AT,
    },
    types.ResetPeers: {"closed": 12},
    types.DropRequest: {"inbound": ["us-west"], "outbound": ["us-west"], "duration_ms": 30000},
    types.DropList: {
        "inbound": ["us-west"],
        "outbound": ["us-west"],
        "until": _AT,
        "by": "drill of Tuesday",
    },
    types.ProbeRequest: {"address": "10.0.2.9:7600"},
    types.Probed: {
        "address": "10.0.2.9:7600",
        "flows": [
            {"kind": "udp", "age": "fresh", "open": True, "rtt_ms": 61.2},
            {"kind": "tcp", "age": "fresh", "open": True, "rtt_ms": 124.9},
            {"kind": "udp", "age": "live", "open": True, "rtt_ms": 61.3},
            {"kind": "tcp", "age": "live", "open": False, "rtt_ms": None},
        ],
    },
    types.Released: {"regions": ["us-west"]},
    types.Nothing: {},
    types.Hooks: {
        "events": {"partition-detected": ["degraded-mode enabled"]},
        "outcomes": [_HOOK_OUTCOME],
    },
    types.HookCall: {"event": "partition-detected", "detail": {"groups": [["us-east"]]}},
    types.HookOutcomes: {"outcomes": [_HOOK_OUTCOME]},
    types.Projections: {
        "projections": [
            {
                "prefix": "app.config",
                "path": "/config/app.json",
                "format": "json",
                "version": 7,
                "etag": "553724a0db1eb3ad",
                "dot": _DOT,
                "on_trial": False,
                "written_at": _AT,
                "bytes": 132,
                "files": 1,
                "writes": 3,
                "failures": 0,
                "trouble": None,
                "reload": {
                    "result": "acknowledged",
                    "detail": "http://127.0.0.1:8080/reload answered 204",
                    "at": _AT,
                },
                "applied": True,
            }
        ]
    },
    types.Edges: {
        "edges": [
            {
                "name": "shop-7d9f",
                "region": "us-east",
                "labels": {},
                "prefixes": ["app.config"],
                "since": _AT,
                "level": True,
                "lag_ms": 0.0,
                "report": None,
            }
        ]
    },
    types.Health: {"status": "ok"},
    types.Problem: {
        "type": "urn:gossipswarm:problem:not-found",
        "title": "Not found",
        "status": 404,
        "detail": "nothing is stored at 'app.confg'; did you mean 'app.config'?",
        "reason": "not-found",
        "key": "app.confg",
        "suggestions": ["app.config"],
    },
}
