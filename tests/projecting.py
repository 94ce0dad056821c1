"""An agent that keeps parts of the state as files, and what tests look at: its files, receipts and metrics."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agents import config_of, running
from gossipswarm_agent.project.projections import parse_projections
from gossipswarm_agent.project.receipts import Receipt
from gossipswarm_agent.runtime.agent import Agent


def projected(path: Path, prefix: str = "app", **more: Any) -> dict[str, Any]:
    return {"prefix": prefix, "path": str(path), **more}


@asynccontextmanager
async def projecting(
    *entries: dict[str, Any], name: str = "one", **others: Any
) -> AsyncIterator[Agent]:
    config = config_of(
        name, project=parse_projections(entries), declared={name: "us-east"}, **others
    )
    async with running(config) as agent:
        yield agent


def document(path: Path) -> Any:
    return json.loads(path.read_text())


def contents(path: Path) -> bytes:
    return path.read_bytes()


def shows(path: Path, value: Any) -> bool:
    return path.exists() and document(path) == value


def receipt_of(agent: Agent) -> Receipt:
    (receipt,) = agent.projector.receipts
    return receipt


def metric(agent: Agent, name: str, **labels: str) -> float | None:
    """A sample of the first projection."""
    path = agent.config.project[0].path
    for family in agent.metrics.collect():
        for sample in family.samples:
            if sample.name == f"gossipswarm_projection_{name}" and sample.labels == {
                "path": path,
                **labels,
            }:
                return float(sample.value)
    return None


@pytest.fixture(name="file")
def projected_file(tmp_path: Path) -> Path:
    return tmp_path / "app.json"
