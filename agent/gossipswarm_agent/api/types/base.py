"""What the documents of the API have in common."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

Share: TypeAlias = Annotated[float, Meta(ge=0.0, le=1.0, description="a share of the agents")]
Count: TypeAlias = Annotated[int, Meta(ge=0)]
Timestamp: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
        description="RFC 3339, UTC, milliseconds",
    ),
]
Dot: TypeAlias = Annotated[
    str, Meta(description="identity of one write: `origin:sequence`; empty when nothing changed")
]


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of what is decoded and encoded: an unknown field is an error."""
