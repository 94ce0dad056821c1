"""One request: its agent, its parameters and its body."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import parse_qsl, unquote

import msgspec
from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestPayloadError

from gossipswarm_agent.api.limits import (
    BODY_SECONDS,
    MAX_BODY_BYTES,
    MAX_NESTING,
    MAX_PARAMETERS,
    MAX_REQUEST_ID,
)
from gossipswarm_agent.api.problems import (
    Problem,
    did_you_mean,
    invalid_document,
    malformed_json,
)

if TYPE_CHECKING:
    from gossipswarm_agent.api.holder import Holder
    from gossipswarm_agent.runtime.agent import Agent

T = TypeVar("T")
P = TypeVar("P", bound=msgspec.Struct)

encode_json: Final = msgspec.json.Encoder().encode
_BIG_NUMBER: Final = re.compile(rb"[0-9]{19}")
_JSON_MEDIA: Final = re.compile(r"application/([a-z0-9.+-]+\+)?json|text/json")


class Call:
    """A request on its way through one operation."""

    __slots__ = ("closing", "holder", "query", "request", "tail")

    def __init__(
        self,
        holder: Holder,
        request: web.BaseRequest,
        tail: str,
        query: str,
        closing: asyncio.Future[None],
    ) -> None:
        self.holder = holder
        """Who answers."""
        self.request = request
        self.tail = tail
        """What stands in the path's parameter, percent-encoded."""
        self.query = query
        self.closing = closing
        """Done when the server closes: streams end then."""

    @property
    def agent(self) -> Agent:
        """The agent that answers; for operations that only agents have."""
        return cast("Agent", self.holder)

    def key(self) -> str:
        """The key in the path. Raises Problem 400 where it is not UTF-8."""
        if "%" not in self.tail:
            return self.tail
        try:
            return unquote(self.tail, errors="strict")
        except UnicodeDecodeError:
            raise Problem(400, "malformed-path", "the path is not percent-encoded UTF-8") from None

    def parameters(self, kind: type[P]) -> P:
        """The query string as its type. Raises Problem 400 naming the parameter."""
        return parse_parameters(self.query, kind) if self.query else kind()

    async def body(self, limit: int = MAX_BODY_BYTES) -> bytes:
        """The whole body.

        Raises:
            Problem: 408 too slow, 413 beyond ``limit`` bytes, 417 for an expectation that is not known.
        """
        request = self.request
        length = request.headers.get(hdrs.CONTENT_LENGTH)
        if length is not None and int(length) > limit:
            raise _too_large(limit)
        if hdrs.EXPECT in request.headers:
            await self.expect_continue()
        content = request.content
        if content.is_eof():  # as a rule it came with the head
            return self._checked(content.read_nowait(), limit)
        parts, size = [], 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while not content.at_eof() and size <= limit:
                    part = await content.readany()
                    parts.append(part)
                    size += len(part)
        except TimeoutError:
            raise Problem(
                408,
                "request-timeout",
                f"the body did not come within {BODY_SECONDS:g} s",
                close=True,
            ) from None
        except RequestPayloadError as error:
            raise Problem(
                400, "malformed-request", f"the body broke: {error}", close=True
            ) from None
        return self._checked(b"".join(parts), limit)

    def _checked(self, body: bytes, limit: int) -> bytes:
        if len(body) > limit:
            raise _too_large(limit)
        return body

    async def expect_continue(self) -> None:
        """Tell a client that waits for permission to send its body. Raises Problem 417."""
        if self.request.headers.get(hdrs.EXPECT, "").lower() != "100-continue":
            raise Problem(417, "expectation-failed", "only Expect: 100-continue is understood")
        writer = self.request.writer
        await writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        writer.output_size = 0  # the interim answer must not count as a begun response

    async def json_and_body(self) -> tuple[Any, bytes]:
        """The body as a JSON value that every agent can hold, and as it came.

        Raises:
            Problem: 400 malformed, 413 too large, 415 not JSON by its own account, 422 beyond limits.
        """
        self.expect_json()
        body = await self.body()
        return decode_value(body), body

    async def document(self, decoder: msgspec.json.Decoder[T]) -> T:
        """The body as the decoder's type; an empty body is an empty object.

        Raises:
            Problem: as ``json_and_body``, and 422 naming the field.
        """
        self.expect_json()
        body = await self.body() or b"{}"
        return decode_document(body, decoder)

    def expect_json(self) -> None:
        """Raises Problem 415 unless the body says it is JSON, or says nothing that contradicts it.

        What curl says of a ``--data`` body by default is let through.
        """
        declared = self.request.headers.get(hdrs.CONTENT_TYPE)
        if declared is None or declared.startswith("application/json"):
            return
        media = declared.partition(";")[0].strip().lower()
        if media == "application/x-www-form-urlencoded" or _JSON_MEDIA.fullmatch(media):
            return
        raise Problem(
            415,
            "unsupported-media-type",
            f"the body is {media!r}; application/json was expected",
            headers={"Accept": "application/json"},
            close=True,
        )

    def request_id(self) -> str | None:
        """The caller's X-Request-Id. Raises Problem 400 when it is too long or not plain text."""
        given = self.request.headers.get("X-Request-Id")
        if given is not None and not (
            0 < len(given) <= MAX_REQUEST_ID and given.isascii() and given.isprintable()
        ):
            raise Problem(
                400,
                "invalid-request-id",
                f"X-Request-Id has 1 to {MAX_REQUEST_ID} printable ASCII characters",
            )
        return given


def _too_large(limit: int) -> Problem:
    return Problem(
        413,
        "body-too-large",
        f"the body has over {limit} bytes; split it into several writes or use /v1/batch",
        limit=limit,
        close=True,
    )


def parse_parameters(query: str, kind: type[P]) -> P:
    """A query string as its type; a bare name is a flag.

    Raises:
        Problem: 400 naming the parameter and what is allowed.
    """
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS
        )
    except UnicodeDecodeError:
        raise Problem(400, "malformed-query", "the query is not percent-encoded UTF-8") from None
    except ValueError:
        raise Problem(
            400, "too-many-parameters", f"a request has at most {MAX_PARAMETERS} parameters"
        ) from None
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    given: dict[str, str] = {}
    for name, value in pairs:
        if name not in fields:
            raise Problem(
                400,
                "unknown-parameter",
                f"unknown query parameter {name!r}{did_you_mean(name, fields)}",
                field=name,
                allowed=list(fields),
            )
        if name in given:
            raise Problem(
                400, "repeated-parameter", f"query parameter {name!r} is given twice", field=name
            )
        is_flag = fields[name].default is False
        given[name] = "true" if is_flag and value == "" else value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        problem = invalid_document(error, kind, status=400)
        problem.reason = "invalid-parameter"
        raise problem from None


def decode_document(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """JSON as the decoder's type. Raises Problem 400 malformed, 422 naming the field."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid_document(error, decoder.type) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed_json(body, error) from None
    except RecursionError:
        raise too_deep() from None


_value_decoder: Final = msgspec.json.Decoder()


def decode_value(body: bytes) -> Any:
    """JSON of any shape within the limits of what the wire can carry.

    Raises:
        Problem: 400 malformed, 422 too deep or with a number beyond 64 bits.
    """
    try:
        value = _value_decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid-value", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed_json(body, error) from None
    except RecursionError:
        raise too_deep() from None
    check_value(value, body)
    return value


def check_value(value: Any, encoded: bytes) -> None:
    """Raises Problem 422 for a decoded value that MessagePack or a deep stack could not carry.

    ``encoded`` is the JSON it came from: looking at it first makes the check free for small values.
    """
    if encoded.count(b"[") + encoded.count(b"{") > MAX_NESTING and _depth(value) > MAX_NESTING:
        raise too_deep()
    if _BIG_NUMBER.search(encoded) is not None:
        try:
            msgspec.msgpack.encode(value)
        except OverflowError:
            raise Problem(
                422, "number-out-of-range", "an integer is beyond 64 bits; write it as a string"
            ) from None


def too_deep() -> Problem:
    """422 for a value that nests further than the limit."""
    return Problem(
        422,
        "too-deep",
        f"the value nests over {MAX_NESTING} objects and arrays inside one another",
        limit=MAX_NESTING,
    )


def _depth(value: Any) -> int:
    """Nesting of a value, level by level: recursion is what must be guarded against."""
    depth, level = 0, [value]
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below and not any(isinstance(item, dict | list) for item in level):
            break
        depth += 1
        level = below
    return depth
