"""What an agent and an edge say to each other on ``GET /v1/replica``: one MessagePack array a WebSocket message.

    edge                                agent
    Hello   who I am, what I have  ->
                                   <-   Welcome   who I am, the terms on which I read
                                   <-   Begin, Rows..., End       the whole state, in place of what the edge has
                                   <-   Rows                      what the edge lacks, and then what is new
    Taken   how far I am           ->
                                   <-   Beat, Terms, Collect

Fields are positional; a newer version may append fields, never reorder them.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

from gossipswarm_agent.core.messages import Ranges

VERSION: Final = 1
"""Of all this; given in the query, so that those who do not agree learn it from a problem document."""
FRAME_LIMIT: Final = 8 << 20
"""Bytes of one message: the rows of a single write may be that many, everything else is cut into pieces."""
PIECE_BYTES: Final = 48 << 10
"""Rows are sent in pieces of about this size."""
BEAT_SECONDS: Final = 0.2
"""An agent is never silent for longer."""
SILENCE_SECONDS: Final = 0.6
"""An agent that is silent for so long is lost to its edges; with finding another one that is below a second."""
TAKEN_SECONDS: Final = 1.0
"""Between two reports of one edge, at least."""
IDLE_TAKEN_SECONDS: Final = 5.0
"""Between two reports of an edge with nothing to report, at most."""
PREFIXES_LIMIT: Final = 64
REPORT_LIMIT: Final = 8 << 10
"""Bytes of what an edge reports beside how far it is."""


class Frame(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Base of all of them."""


class Hello(Frame, tag=1, frozen=True):
    """The first message. ``seen``, ``ahead``: the version vector of what the edge has."""

    name: Annotated[str, Meta(min_length=1, max_length=253)]
    region: str
    prefixes: Annotated[list[str], Meta(max_length=PREFIXES_LIMIT)] | None
    """Keys whose subtrees the edge holds; None = all there are, the swarm's own included."""
    seen: dict[str, int]
    ahead: Ranges = {}
    labels: dict[str, str] = {}


class Taken(Frame, tag=2, frozen=True):
    """Everything up to the frame with this number is applied."""

    number: int
    report: Annotated[str, Meta(max_length=REPORT_LIMIT)] | None = None
    """What the edge says of those that use it, as JSON; None = as before."""


class Welcome(Frame, tag=11, frozen=True):
    """The first answer: who serves the edge."""

    agent: str
    region: str


class Rows(Frame, tag=12, frozen=True):
    """Encoded batches, and dots that need no row at this edge. A dot's rows all come in one frame, but between Begin
    and End."""

    number: int
    batches: list[bytes]
    claims: Ranges = {}


class Begin(Frame, tag=13, frozen=True):
    """The whole follows, in any order; what it lacks of what the agent has seen is gone."""


class End(Frame, tag=14, frozen=True):
    """That was the whole, and what the agent had seen then."""

    seen: dict[str, int]
    ahead: Ranges = {}


class Terms(Frame, tag=15, frozen=True):
    """How the agent reads: parameters in force, and whether it is read-only at the moment."""

    settings: dict[str, Any]
    settings_version: int
    degraded: bool


class Beat(Frame, tag=16, frozen=True):
    """The agent lives. ``leaving``: it is about to go, so look for another."""

    leaving: bool = False
    vector: int | None = None
    """Hash of everything the agent has sent, and..."""
    state: int | None = None
    """...of its rows: an edge that has seen the same must hold the same. None = not said this time."""


class Collect(Frame, tag=17, frozen=True):
    """Every member has seen this: deletions among it may be forgotten."""

    floor: dict[str, int]


ToAgent: TypeAlias = Hello | Taken
ToEdge: TypeAlias = Welcome | Rows | Begin | End | Terms | Beat | Collect

encode = msgspec.msgpack.Encoder().encode
decode_from_edge = msgspec.msgpack.Decoder(ToAgent).decode
decode_from_agent = msgspec.msgpack.Decoder(ToEdge).decode
"""Both raise ``msgspec.MsgspecError`` or ``UnicodeDecodeError`` on anything that is no frame."""
