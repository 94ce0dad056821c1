"""What the transport did, as plain integers that the metrics read on a scrape."""

from __future__ import annotations


class Counters:
    """What the transport did since it was opened; ``dropped`` by reason. Bytes are those of payloads."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "datagrams_in",
        "datagrams_out",
        "dropped",
        "stream_frames_in",
        "stream_frames_out",
    )

    def __init__(self) -> None:
        self.datagrams_in = 0
        self.datagrams_out = 0
        self.stream_frames_in = 0
        self.stream_frames_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.dropped: dict[str, int] = {}

    def drop(self, reason: str, count: int = 1) -> None:
        """Count frames that will never be handed over, or never leave."""
        if count:
            self.dropped[reason] = self.dropped.get(reason, 0) + count
