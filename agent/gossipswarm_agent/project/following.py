"""One projection as it follows the state: changes are coalesced, written, tried again, and told.

Nothing queues here: a change raises a flag, and whatever is there by the time that the flag is looked at is written. A
burst costs as many writes as its duration allows, not as many as it has changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final

from msgspec.structs import replace

from gossipswarm_agent.project import overlays
from gossipswarm_agent.project.overlays import Reads, View
from gossipswarm_agent.project.ownership import NotOurs
from gossipswarm_agent.project.projections import Projection
from gossipswarm_agent.project.receipts import Counts, Receipt, Told, Written
from gossipswarm_agent.project.reloading import Attempt, Reloader
from gossipswarm_agent.project.rendering import NotRenderable, render
from gossipswarm_agent.project.writing import Target
from gossipswarm_agent.runtime.clocks import read_clocks
from gossipswarm_agent.runtime.watch import covers

GAP_SECONDS: Final = 0.05
"""Least time between two writes of one projection. The first change after a rest is written at once."""
READING_SHARE: Final = 0.05
"""Most of the event loop's time that reading for one projection may take."""
CHECK_SECONDS: Final = 30.0
"""Between two looks at whether the files are still what they ought to be."""
_WRITE_AGAIN: Final = (0.1, 5.0)
_TELL_AGAIN: Final = (0.2, 10.0)
"""Shortest and longest pause before what failed is tried again, in seconds."""
_CLOSE_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class Follower:
    """Keeps one projection's files at what the state says."""

    def __init__(
        self,
        projection: Projection,
        state: Reads,
        region: str,
        target: Target,
        executor: Executor | None,
    ) -> None:
        self.projection = projection
        self.counts = Counts(projection)
        self.on_receipt: Callable[[Receipt], None] = _ignore
        """Told of every new receipt."""
        self._state = state
        self._region = region
        self._trial = overlays.trial_key(region, projection.prefix)
        self._target = target
        self._executor = executor
        self._changed = asyncio.Event()
        self._changed.set()
        self._seen = read_clocks().mono
        """When the oldest change was seen that is not on disk."""
        self._job: asyncio.Future[tuple[bool, int, int]] | None = None
        self._told = asyncio.Event()
        self._reloader = (
            None if projection.reload is None else Reloader(projection.reload, executor)
        )

    # --- changes ----------------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether a change is noted that is not on disk."""
        return self._changed.is_set()

    def concerns(self, key: str) -> bool:
        """Whether a change of this leaf may be one of what is shown: it is below, or above and hides it."""
        prefix, trial = self.projection.prefix, self._trial
        return (
            covers(prefix, key) or covers(key, prefix) or covers(trial, key) or covers(key, trial)
        )

    def note(self) -> None:
        """Something changed."""
        if not self._changed.is_set():
            self._seen = read_clocks().mono
            self._changed.set()

    # --- files ------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Write whatever is new, until cancelled."""
        shortest, longest = _WRITE_AGAIN
        again = shortest
        while True:
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                self._seen = read_clocks().mono
            self._changed.clear()
            seen, begun = self._seen, read_clocks().mono
            try:
                shown = overlays.view(self._state, self._region, self.projection.prefix)
                reading = read_clocks().mono - begun
                await self._write(shown, seen)
            except Exception as error:  # noqa: BLE001 - a fault must not end the other projections
                self._failed(error)
                await asyncio.sleep(again)
                again = min(2 * again, longest)
                self._seen = seen
                self._changed.set()
                continue
            again = shortest
            took = read_clocks().mono - begun
            await asyncio.sleep(max(GAP_SECONDS, took, reading / READING_SHARE))

    async def _write(self, shown: View, seen: float) -> None:
        loop = asyncio.get_running_loop()
        self._job = loop.run_in_executor(self._executor, self._write_now, shown.value)
        # A thread cannot be interrupted: who cancels waits for it in ``close``.
        changed, size, files = await asyncio.shield(self._job)
        before, now = self.counts.receipt.written, read_clocks()
        generation = 0 if before is None else before.generation
        if changed:
            generation += 1
            self.counts.writes += 1
            self.counts.delay.observe(now.mono - seen)
        written = Written(
            shown.version,
            shown.etag,
            shown.dot,
            shown.on_trial,
            now.wall if changed or before is None else before.written_ms,
            generation,
            size,
            files,
        )
        self._succeeded(written, changed)

    def _write_now(self, value: Any) -> tuple[bool, int, int]:
        """Render and write; whether anything changed, bytes and files. Blocks."""
        projection = self.projection
        content = render(value, projection.format, projection.prefix)
        changed = self._target.replace(content)
        if isinstance(content, bytes):
            return changed, len(content), 1
        return changed, sum(map(len, content.values())), len(content)

    def _succeeded(self, written: Written, changed: bool) -> None:
        former = self.counts.receipt
        if former.trouble is not None or former.written is None:
            _log.info("projected", extra=self._about(version=written.version, changed=changed))
        elif changed and former.written.etag == written.etag:
            _log.warning("the projected files were changed by somebody else; put back",
                         extra=self._about(version=written.version))  # fmt: skip
        self._show(replace(former, written=written, trouble=None))
        news = changed or (former.written is None and self._asks_at_start)
        if news and self._reloader is not None:
            self._told.set()

    @property
    def _asks_at_start(self) -> bool:
        """Whether the application is told of a version that was there already: it can answer that it has it."""
        reload = self.projection.reload
        return reload is not None and reload.http is not None

    def _failed(self, error: Exception) -> None:
        self.counts.failures += 1
        trouble = _describe(error)
        former = self.counts.receipt
        if trouble != former.trouble:
            expected = isinstance(error, NotRenderable | NotOurs | OSError)
            _log.error(
                "cannot project",
                extra=self._about(error=trouble),
                exc_info=None if expected else error,
            )
            self._show(replace(former, trouble=trouble))

    # --- the application --------------------------------------------------------------------------

    async def tell(self) -> None:
        """Tell the application of every version, until cancelled. One that waits is told of the latest."""
        reloader = self._reloader
        if reloader is None:
            return
        shortest, longest = _TELL_AGAIN
        again = shortest
        while True:
            await self._told.wait()
            self._told.clear()
            written = self.counts.receipt.written
            assert written is not None
            attempt = await self._attempt(reloader, written)
            self.counts.reloads[attempt.result] += 1
            told = Told(attempt.result, attempt.detail, read_clocks().wall, written.generation)
            self._log_told(told)
            self._show(replace(self.counts.receipt, told=told))
            if attempt.again:
                await asyncio.sleep(again)
                again = min(2 * again, longest)
                self._told.set()
            else:
                again = shortest

    async def _attempt(self, reloader: Reloader, written: Written) -> Attempt:
        news = {
            "path": self.projection.path,
            "prefix": self.projection.prefix,
            "version": written.version,
            "etag": written.etag,
            "dot": written.dot,
        }
        try:
            return await reloader.attempt(news)
        except Exception as error:  # noqa: BLE001 - a fault must not end the other projections
            _log.error("cannot tell the application", extra=self._about(), exc_info=error)
            return Attempt("failed", _describe(error), again=True)

    def _log_told(self, told: Told) -> None:
        former = self.counts.receipt.told
        if former is not None and (former.result, former.detail) == (told.result, told.detail):
            return
        if told.result == "failed":
            _log.warning("cannot tell the application", extra=self._about(error=told.detail))
        elif former is None or former.result != told.result:
            _log.info("told the application", extra=self._about(how=told.detail))

    # --- receipts ---------------------------------------------------------------------------------

    def _show(self, receipt: Receipt) -> None:
        self.counts.receipt = receipt
        self.on_receipt(receipt)

    def _about(self, **more: Any) -> dict[str, Any]:
        return {"prefix": self.projection.prefix, "path": self.projection.path, **more}

    async def close(self) -> None:
        """Finish the write that is under way and let others have the place. ``follow`` and ``tell`` have ended."""
        if self._reloader is not None:
            await self._reloader.close()
        job = self._job
        if job is not None:
            await asyncio.wait((job,), timeout=_CLOSE_SECONDS)
            if not job.done():
                _log.error(
                    "a disk does not answer; a projection is left as it is", extra=self._about()
                )
                return
            if not job.cancelled():
                job.exception()  # it was nobody's any more; asyncio would complain
        self._target.release()


def _describe(error: Exception) -> str:
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror or type(error).__name__}{where}"
    if isinstance(error, NotRenderable | NotOurs):
        return str(error)
    return f"a fault in the agent, its log says more: {type(error).__name__}: {error}"


def _ignore(receipt: Receipt) -> None:
    del receipt
