"""Every error of the API is an RFC 9457 problem document that says what was wrong and what to do."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from math import ceil
from typing import Any, Final

import msgspec
from aiohttp import web

from gossipswarm_agent.core.errors import WriteRefused

CONTENT_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:gossipswarm:problem:"

_RETRIED_BY_DEFAULT: Final = {429: 1.0, 503: 1.0, 507: 10.0}
"""Seconds of Retry-After where nobody knows better."""


class Problem(Exception):
    """Ends a request with a problem document.

    ``reason`` is a stable slug that programs may branch on, ``detail`` is for people. ``extensions``
    become further members of the document. ``close`` ends the connection after the answer, for when
    the rest of the request will not be read.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        *,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        close: bool = False,
        **extensions: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.retry_after = _RETRIED_BY_DEFAULT.get(status) if retry_after is None else retry_after
        self.headers = headers or {}
        self.close = close
        self.extensions = {name: value for name, value in extensions.items() if value is not None}

    @classmethod
    def of_refusal(cls, refused: WriteRefused) -> Problem:
        """What the core or the runtime refused, as a problem."""
        return cls(refused.status, refused.reason, refused.detail, retry_after=refused.retry_after)

    def document(self) -> dict[str, Any]:
        """The members of the problem document."""
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.reason,
            "title": self.reason.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "reason": self.reason,
        }
        if self.retry_after is not None:
            document["retry_after_ms"] = round(self.retry_after * 1000)
        return document | self.extensions

    def response(self) -> web.Response:
        """The document as an HTTP response."""
        response = web.Response(
            body=msgspec.json.encode(self.document()) + b"\n",
            status=self.status,
            content_type=CONTENT_TYPE,
            headers=self.headers,
        )
        if self.retry_after is not None:
            response.headers["Retry-After"] = str(max(1, ceil(self.retry_after)))
        if self.close:
            response.force_close()
        return response


def suggestion(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` was probably meant to be."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return near[0] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown ``word``: a suggestion, or what there is."""
    words = list(known)
    near = suggestion(word, words)
    if near is not None:
        return f"; did you mean {near!r}?"
    return f"; known: {', '.join(words)}" if words else "; none is known here"


def malformed_json(body: bytes, error: Exception, *, what: str = "the body") -> Problem:
    """What is wrong with JSON that does not parse, and where.

    The extensions ``position`` (bytes from the start), ``line`` and ``column`` (from 1) point at it.
    """
    if not body.strip():
        return Problem(400, "malformed-json", f"{what} is empty; a JSON document was expected")
    cause, position = _what_and_where(body, error)
    before = body[:position]
    line = before.count(b"\n") + 1
    column = len(before[before.rfind(b"\n") + 1 :].decode(errors="replace")) + 1
    return Problem(
        400,
        "malformed-json",
        f"{what} is not JSON: {cause} (line {line}, column {column})",
        line=line,
        column=column,
        position=position,
    )


def _what_and_where(body: bytes, error: Exception) -> tuple[str, int]:
    try:
        text = body.decode()
    except UnicodeDecodeError as undecodable:
        return f"{undecodable.reason} in UTF-8", undecodable.start
    if text.startswith("\ufeff"):
        return "it starts with a byte order mark; plain UTF-8 was expected", 0
    # The standard library says exactly where a document goes wrong, which the fast parser does not. It is
    # laxer, too, so what only the fast parser objects to is told in its words.
    try:
        json.loads(text)
    except json.JSONDecodeError as found:
        position = len(text[: found.pos].encode())
        if not text[found.pos :].strip():
            return "it ends too early", position
        return found.msg[0].lower() + found.msg[1:].removesuffix(" at"), position
    except (ValueError, RecursionError):
        pass
    cause, _, where = str(error).removeprefix("JSON is malformed: ").partition(" (byte ")
    return cause[0].lower() + cause[1:], int(where.rstrip(")")) if where else len(body)


def invalid_document(error: msgspec.ValidationError, kind: type, *, status: int = 422) -> Problem:
    """What is wrong with JSON that parses but is not what the operation takes."""
    cause, _, where = str(error).partition(" - at `")
    where = where.rstrip("`").removeprefix("$").lstrip(".")
    fields: tuple[str, ...] = getattr(kind, "__struct_encode_fields__", ())
    reason = "invalid-field"
    if cause.startswith("Object contains unknown field"):
        name = cause.split("`")[1]
        reason, where = "unknown-field", f"{where}.{name}" if where else name
        cause = f"unknown field {name!r}{did_you_mean(name, fields)}"
    elif cause.startswith("Object missing required field"):
        name = cause.split("`")[1]
        reason, where = "missing-field", f"{where}.{name}" if where else name
        cause = f"the field {name!r} is required"
    else:
        cause = f"{where or 'the document'}: {cause[0].lower()}{cause[1:].replace('`', '')}"
    return Problem(status, reason, cause, field=where or None)


def http_phrase(status: int) -> str:
    """The standard phrase of a status code."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
