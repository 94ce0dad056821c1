"""What an API server refuses, in words that help."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from gossipctl.failures import CommandFailed

DOCUMENTATION = "docs/kubernetes-cli.md"
_FORBIDDEN = re.compile(
    r'.*User "(?P<user>[^"]*)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]*)" '
    r'in API group "(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]*)")?',
    re.DOTALL,
)
_PASSING = (429, 502, 503, 504)


class Refusal(CommandFailed):
    """The API server said no. ``document`` is its Status object."""

    def __init__(
        self, status: int, document: Mapping[str, Any], message: str, hint: str | None
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.document = document
        if self.is_missing_kind:
            self.exit_code = 4
        elif status in (400, 422) or self.is_absent:
            self.exit_code = 2

    @classmethod
    def of(cls, status: int, body: bytes) -> Refusal:
        """From an answer that is none of success."""
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        document: dict[str, Any] = found if isinstance(found, dict) else {}
        text = str(document.get("message") or body[:200].decode(errors="replace").strip())
        message, hint = _explained(status, document, text or f"HTTP {status}")
        return cls(status, document, message, hint)

    @property
    def reason(self) -> str:
        """The server's own slug, such as ``Conflict``."""
        return str(self.document.get("reason", ""))

    @property
    def is_missing_kind(self) -> bool:
        """The server does not know this kind of object."""
        # Where the kind is known, the status names what was not found.
        named = (self.document.get("details") or {}).get("name")
        return self.status == 404 and not named

    @property
    def is_absent(self) -> bool:
        """There is no object of that name."""
        return self.status == 404 and not self.is_missing_kind

    @property
    def is_conflict(self) -> bool:
        """The object is another one than was thought: also a JSON patch whose test failed."""
        return self.status in (409, 422)

    @property
    def is_passing(self) -> bool:
        """The same request may succeed in a moment."""
        return self.status in _PASSING or (
            self.status == 500 and "etcdserver" in str(self.document.get("message"))
        )


def _explained(status: int, document: Mapping[str, Any], text: str) -> tuple[str, str | None]:
    if status == 401:
        return (
            "the cluster does not accept your credentials",
            "log in again, or choose another context; try: kubectl auth whoami",
        )
    if status == 403:
        return _forbidden(text)
    if status == 404 and not (document.get("details") or {}).get("name"):
        return (
            "GossipSwarm is not installed in this cluster",
            "install it with: gossipctl install | kubectl apply --server-side -f -",
        )
    if status == 422:
        return _invalid(document, text), None
    return text, None


def _forbidden(text: str) -> tuple[str, str]:
    found = _FORBIDDEN.match(text)
    if found is None:
        return text, f"which rights commands need is told in {DOCUMENTATION}"
    resource, _, sub = found["resource"].partition("/")
    kind = f"{resource}.{found['group']}" if found["group"] else resource
    place = f" -n {found['namespace']}" if found["namespace"] else ""
    asked = f"kubectl auth can-i {found['verb']} {kind}{place}"
    if sub:
        asked += f" --subresource={sub}"
    where = f" in namespace {found['namespace']}" if found["namespace"] else ""
    what = f"{kind}/{sub}" if sub else kind
    return (
        f"{found['user']} may not {found['verb']} {what}{where}",
        f"ask for that right ({DOCUMENTATION} lists all that commands need); check with: {asked}",
    )


def _invalid(document: Mapping[str, Any], text: str) -> str:
    """Fields and what is wrong with them, without the server's way of repeating the object."""
    causes = (document.get("details") or {}).get("causes") or []
    parts = []
    for cause in causes:
        message = str(cause.get("message", ""))
        field = str(cause.get("field", ""))
        # As in: Invalid value: 99: spec.gossip.fanout in body should be less than or equal to 16
        message = re.sub(r"^Invalid value: (\".*?\"|[^:]*): ", "", message, flags=re.DOTALL)
        message = message.removeprefix(f"{field} in body ")
        parts.append(f"{field}: {message}" if field else message)
    return "; ".join(dict.fromkeys(parts)) or text
