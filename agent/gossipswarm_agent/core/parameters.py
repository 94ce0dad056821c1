"""The parameters in force: what the agent was started with, under what the swarm's own state says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gossipswarm_agent.core.context import Context
from gossipswarm_agent.core.effects import Notify
from gossipswarm_agent.core.errors import WriteRefused
from gossipswarm_agent.core.events import LocalWrite
from gossipswarm_agent.core.settings import InvalidSetting, Settings, merge
from gossipswarm_agent.core.state import State

SETTINGS_KEY: Final = "$swarm.config"
SETTINGS_END: Final = "$swarm.config/"
"""After every key of the settings."""


class Parameters:
    """Keeps ``ctx.settings`` up to date, and knows whether writes are taken.

    ``reschedule()`` is called when intervals may have changed.
    """

    def __init__(
        self, ctx: Context, state: State, base: Settings, reschedule: Callable[[], None]
    ) -> None:
        self._ctx = ctx
        self._state = state
        self._base = base
        self._reschedule = reschedule
        self.version = 0
        self.local_degraded = False
        """Read-only by an order to this agent alone."""
        self._degraded_before = False

    @property
    def degraded(self) -> bool:
        """Read-only."""
        return self.local_degraded or self._ctx.settings.degraded_mode

    def apply(self) -> None:
        """Read the swarm's settings anew."""
        reading = self._state.read(SETTINGS_KEY)
        changes = reading.value if reading is not None and isinstance(reading.value, dict) else {}
        self.version = reading.version if reading is not None else 0
        try:
            settings = merge(self._base, changes)
        except InvalidSetting as error:
            # An older agent may not know a newer one's parameter: it keeps what it has, and says so.
            self._ctx.count("settings_refused")
            self._ctx.effects.append(Notify("settings", {"refused": str(error)}))
            return
        if settings != self._ctx.settings:
            self._ctx.settings = settings
            self._reschedule()
            self._ctx.effects.append(
                Notify("settings", {"version": self.version, "changes": changes})
            )
        self._note_degraded()

    def degrade(self, enabled: bool) -> None:
        """Refuse writes at this agent, or take them again."""
        self.local_degraded = enabled
        self._note_degraded()

    def _note_degraded(self) -> None:
        if self.degraded != self._degraded_before:
            self._degraded_before = self.degraded
            self._ctx.effects.append(Notify("degraded", {"enabled": self.degraded}))

    def refusal(self, event: LocalWrite) -> WriteRefused | None:
        """Why this write is not taken at the moment."""
        if event.system or not self.degraded:
            return None
        where = "this agent" if self.local_degraded else "the swarm"
        detail = f"{where} is in degraded mode: reads go on, writes are refused"
        return WriteRefused(503, "degraded", detail, 1.0)
