"""What every frame from outside passes before the core sees it: seal, replay, cut, compression.

A frame that fails a check is ``Rejected`` with the reason that is counted; nothing else is ever raised,
whatever the bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gossipswarm_agent.core.frames import Address, Frame, Inbound
from gossipswarm_agent.runtime.compression import expand
from gossipswarm_agent.runtime.keyring import Keyring, Rejected

PREFIX_BYTES: Final = 2
"""Hop and tree, in front of the sealed frame because every relay changes them."""
WINDOW: Final = 1024
"""Frames of one session and tree, back from the newest, of which it is known whether they came."""
WINDOWS_KEPT: Final = 4096
"""Sessions times trees that are remembered; the one that was opened first is forgotten first."""

_WINDOW_MASK: Final = (1 << WINDOW) - 1


class ReplayWindows:
    """Which frames of each session came lately, as one bitmap a session and spread tree.

    The same frame legitimately arrives once over each tree, and the core tells those copies apart by what
    is in them. The tree index is not authenticated, so a replay can get in once for each of its 256 values
    and no more. A session that was forgotten starts afresh: what it then lets in again is idempotent.
    """

    __slots__ = ("_windows",)

    def __init__(self) -> None:
        self._windows: dict[bytes, list[int]] = {}

    def check(self, session: bytes, counter: int, tree: int, *, ordered: bool) -> None:
        """Remember the frame; raise Rejected if it came before.

        ``ordered``: it came down a stream, where a large frame may rightly arrive after a thousand small
        ones that were sealed later, so being older than the window is no reason to refuse it.
        """
        key = session + tree.to_bytes(1, "big") if tree else session
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= WINDOWS_KEPT:
                del self._windows[next(iter(self._windows))]
            self._windows[key] = [counter, 1]
            return
        ahead = counter - window[0]
        if ahead > 0:
            window[0] = counter
            window[1] = ((window[1] << ahead) | 1) & _WINDOW_MASK if ahead < WINDOW else 1
            return
        if ahead <= -WINDOW:
            if ordered:
                return
            raise Rejected("stale")
        bit = 1 << -ahead
        if window[1] & bit:
            raise Rejected("duplicate")
        window[1] |= bit

    def __len__(self) -> int:
        return len(self._windows)


class Admission:
    """Turns what came in into an ``Inbound``, or says why not."""

    __slots__ = ("_keyring", "_windows", "refuses")

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._windows = ReplayWindows()
        self.refuses: Callable[[Inbound], bool] | None = None
        """Whether an authenticated frame is from a region that is cut off on purpose; None = none is."""

    def admit(self, data: bytes, source: Address, *, ordered: bool = False) -> Inbound:
        """The frame in ``data`` (prefix and sealed frame). Raises nothing but Rejected."""
        sealed = data[PREFIX_BYTES:]
        body, session, counter = self._keyring.open(sealed)
        tree = data[1]
        self._windows.check(session, counter, tree, ordered=ordered)
        inbound = Inbound(Frame(expand(body), sealed), data[0], tree, source, session, counter)
        if self.refuses is not None and self.refuses(inbound):
            raise Rejected("region")
        return inbound
