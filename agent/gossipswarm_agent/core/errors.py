"""Refusals a caller can act on. The HTTP layer turns them into RFC 9457 problem documents."""

from __future__ import annotations


class WriteRefused(Exception):
    """A write was not applied, and nothing of it was.

    ``status`` is the HTTP status that fits, ``reason`` a stable slug, ``retry_after`` seconds or None.
    """

    def __init__(
        self, status: int, reason: str, detail: str, retry_after: float | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.retry_after = retry_after


class InvalidKey(WriteRefused):
    """A key is empty, too long, too deep or malformed."""

    def __init__(self, detail: str) -> None:
        super().__init__(422, "invalid-key", detail)
