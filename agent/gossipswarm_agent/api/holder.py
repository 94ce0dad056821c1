"""What the API asks of whoever holds the state: an agent, or an edge."""

from __future__ import annotations

from typing import Protocol

from gossipswarm_agent.core.results import Reading
from gossipswarm_agent.project.projector import Projector
from gossipswarm_agent.runtime.watch import Watcher


class Place(Protocol):
    """Who answers, and where it is."""

    @property
    def name(self) -> str:
        """Its own name."""

    @property
    def region(self) -> str:
        """The region it is in."""


class Shown(Protocol):
    """Metrics that can be scraped."""

    def render(self) -> bytes:
        """All of them in Prometheus' text format."""


class Holder(Protocol):
    """Serves reads and watches."""

    @property
    def config(self) -> Place:
        """Who it is."""

    @property
    def metrics(self) -> Shown:
        """How it is doing."""

    @property
    def projector(self) -> Projector:
        """Parts of the state that it keeps as files."""

    @property
    def degraded(self) -> bool:
        """Writes are refused here at the moment."""

    @property
    def unreadiness(self) -> str | None:
        """Why clients should not be sent here, in words; None = they may be."""

    def read(self, key: str) -> Reading | None:
        """The visible value of a key; None if there is nothing at or below it."""

    def list_keys(self, prefix: str, limit: int, after: str = "") -> list[str]:
        """Keys of visible leaves at and below a prefix that come after ``after``, in order."""

    def watch(self, prefix: str, since: str | None) -> Watcher:
        """Changes at or below ``prefix``, from now on or from a change on. Raises WriteRefused 429."""
