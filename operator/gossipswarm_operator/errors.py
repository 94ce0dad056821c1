"""What can go wrong with the Kubernetes API, by what it means for a reconcile: wait, or tell the user."""

from __future__ import annotations

import json
from typing import Final, Literal

QUOTA_EXCEEDED: Final = "QuotaExceeded"
NAMESPACE_TERMINATING: Final = "NamespaceTerminating"
FORBIDDEN: Final = "Forbidden"

Kind = Literal["transient", "conflict", "refused"]
"""transient: the same call may succeed later. conflict: somebody was faster, look again.
refused: it will not succeed until somebody changes something."""


class ApiError(Exception):
    """The API server refused a call, or did not answer (``status`` 0).

    ``reason`` is CamelCase and may stand in a condition; ``retry_after`` is in seconds.
    """

    def __init__(
        self, status: int, reason: str, message: str, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after

    @property
    def kind(self) -> Kind:
        """What it means for a reconcile."""
        if self.status == 409:
            return "conflict"
        if self.status in (0, 401, 408, 410, 429) or self.status >= 500:
            return "transient"
        return "refused"


def api_error(status: int, body: bytes, retry_after: str | None) -> ApiError:
    """The error that an answer of the API server stands for; its body is a ``Status`` object, usually."""
    reason, message = "", ""
    try:
        document = json.loads(body)
        reason, message = str(document.get("reason") or ""), str(document.get("message") or "")
    except (ValueError, AttributeError):
        message = body.decode(errors="replace")[:500]
    if status == 403 and "exceeded quota" in message:
        reason = QUOTA_EXCEEDED
    if status == 403 and "because it is being terminated" in message:
        reason = NAMESPACE_TERMINATING
    if not reason.isalpha():
        reason = _REASONS.get(status, "ServerError" if status >= 500 else "Refused")
    try:
        seconds = float(retry_after) if retry_after is not None else None
    except ValueError:
        seconds = None
    return ApiError(status, reason, message or f"the API server answered {status}", seconds)


_REASONS: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: FORBIDDEN,
    404: "NotFound",
    408: "Timeout",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    422: "Invalid",
    429: "TooManyRequests",
}
