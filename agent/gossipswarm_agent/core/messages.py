"""The wire: MessagePack arrays, one tag a kind. ``sender`` is always the agent that sealed the message.

Fields are positional; a newer version may append fields, never reorder them.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

Ranges: TypeAlias = dict[str, list[tuple[int, int]]]
"""Origin to inclusive ranges of sequence numbers."""

Run: TypeAlias = tuple[str, int, int, int]
"""(origin, first sequence, dots, rows per dot)"""


class Wire(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Base of everything that is encoded."""


class MemberRecord(Wire, frozen=True):
    """What is claimed of one member. Identity is name + incarnation, never the address."""

    name: str
    region: str
    host: str
    port: Annotated[int, Meta(ge=1, le=65_535)]
    api: str
    incarnation: Annotated[int, Meta(ge=0, le=1 << 62)]
    status: Annotated[int, Meta(ge=0, le=3)]
    """0 alive, 1 suspect, 2 dead, 3 left: at one incarnation a higher status wins."""
    labels: dict[str, str] = {}


class Batch(Wire, tag=1, frozen=True):
    """Rows of one or more writes, in columns. See ``batch.py`` for its meaning."""

    sender: str
    runs: list[Run]
    """In row order."""
    keys: list[str]
    values: list[msgspec.Raw]
    clocks: list[int]
    contexts: dict[int, dict[str, int]] = {}
    """Row to what its writer had seen of that leaf: origin to highest sequence."""
    versions: dict[int, int] = {}
    """Row to the key's version, where it is not 1."""
    deleted: list[int] = []
    """Rows that are tombstones; their value is nil."""
    traced: list[tuple[str, int]] = []
    """Dots whose origin wants a receipt."""


class Loss(Wire, frozen=True):
    """A write that lost against a concurrent one, and what beat it. Identity is (key, origin, sequence)."""

    key: str
    value: msgspec.Raw
    origin: str
    sequence: int
    clock: int
    deleted: bool
    winning_value: msgspec.Raw
    winning_origin: str
    winning_sequence: int
    winning_clock: int
    winning_deleted: bool
    resolution: str
    """The policy that decided."""


class Losses(Wire, tag=22, frozen=True):
    """Conflict history, travelling with repair; also a journal record."""

    sender: str
    losses: list[Loss]


class Seen(Wire, tag=23, frozen=True):
    """Journal record: these dots need no row any more."""

    sender: str
    ranges: Ranges
    collected: dict[str, int] = {}
    """Origin to the highest sequence of its tombstones that were collected."""


class Identity(Wire, tag=24, frozen=True):
    """Journal record: who this agent is. The last one counts."""

    sender: str
    origin: str
    """Name and epoch, ``name/epoch``."""
    sequence: int
    """At least this sequence was used."""
    incarnation: int
    clock: int


class Ping(Wire, tag=2, frozen=True):
    """Are you there? ``record`` is what the sender believes of the target, so that it can refute."""

    sender: str
    number: int
    target: str
    record: MemberRecord | None = None
    vector: int | None = None
    """Hash of the sender's version vector, so that idle agents need no digests; None = not said."""
    members: int = 0
    """Hash of the sender's member table."""
    lag: int = 0
    """Milliseconds by which the sender is late."""


class Ack(Wire, tag=3, frozen=True):
    """I am, late by ``lag`` milliseconds."""

    sender: str
    number: int
    lag: int = 0


class PingRequest(Wire, tag=4, frozen=True):
    """Ping the target for me (SWIM's indirect probe)."""

    sender: str
    number: int
    target: str


class Nack(Wire, tag=5, frozen=True):
    """I asked the target for you and it did not answer me either (Lifeguard)."""

    sender: str
    number: int
    target: str


class Members(Wire, tag=6, frozen=True):
    """Membership news, forwarded along the sender's trees while it is news. ``flood`` false = point to point."""

    sender: str
    records: list[MemberRecord]
    flood: bool = True
    whole: bool = False
    """The sender's whole table: answer with what it lacks."""


class Join(Wire, tag=7, frozen=True):
    """Let me in: answered with ``Members`` (all of them, flood false) and a flood of the joiner's record."""

    sender: str
    record: MemberRecord


class Digest(Wire, tag=8, frozen=True):
    """Do we hold the same? Hash of the version vector and of the member table."""

    sender: str
    vector: int
    members: int
    push: bool = True
    """The sender would give what the receiver lacks."""
    pull: bool = True
    """The sender would take what it lacks."""


class Vector(Wire, tag=10, frozen=True):
    """What the sender has seen: contiguous part, and ranges above it. ``want``: send me what I lack."""

    sender: str
    seen: dict[str, int]
    ahead: Ranges = {}
    want: bool = True
    reply: bool = False
    """Also send me your vector, so that I can send what you lack."""
    apart: bool = False
    """We were cut off from each other: nothing that I lack is on its way to me."""


class Delta(Wire, tag=11, frozen=True):
    """Encoded batches the receiver lacked and, in the last part, ranges that need no row any more."""

    sender: str
    batches: list[bytes]
    claims: Ranges = {}
    part: int = 0
    last: bool = True
    losses: list[Loss] = []
    collected: bool = False
    """A tombstone in the ranges was collected: compare in full."""


class Pull(Wire, tag=12, frozen=True):
    """Send me these ranges."""

    sender: str
    ranges: Ranges


class Receipt(Wire, tag=13, frozen=True):
    """I hold these dots: (origin, sequence, hop, my wall clock in ms)."""

    sender: str
    dots: list[tuple[str, int, int, int]]


class ReceiptRequest(Wire, tag=14, frozen=True):
    """Do you hold this dot? Answered with a receipt only by who does."""

    sender: str
    origin: str
    sequence: int


class Heartbeat(Wire, tag=15, frozen=True):
    """Ten times a second between relays: what my region hears, and how old each is in ms."""

    sender: str
    region: str
    lag: int
    ages: dict[str, int]
    """Remote region to milliseconds since this relay last heard anything of it."""
    vector: int | None
    members: int = 0
    """Hash of the sender's member table; 0 = not said."""


class LinkState(Wire, tag=16, frozen=True):
    """A region's relays declare which regions it cannot hear; flooded in the own region and to the others."""

    sender: str
    region: str
    clock: int
    """Hybrid clock of the declaration; a later one replaces an earlier."""
    down: list[str]
    silence: list[int] = []
    """How long each of them had been silent when it was declared, in ms."""


class FloorReport(Wire, tag=17, frozen=True):
    """To the region's first relay: the hash of my durable vector, or the vector itself when asked.

    From the relay to a member: report, with the whole vector unless it is mine, whose hash this is.
    """

    sender: str
    vector: int
    seen: dict[str, int] | None = None
    floors: int = 0
    """Hash of the region floors the member holds, so that the relay can send what it missed."""


class Floors(Wire, tag=18, frozen=True):
    """Minimum vector over a region's members; a later ``clock`` replaces an earlier. Flooded to everyone."""

    sender: str
    region: str
    clock: int
    members: int
    seen: dict[str, int]


class TreeRequest(Wire, tag=19, frozen=True):
    """Full comparison: bucket hashes of the whole state; ``sweep`` identifies the comparison."""

    sender: str
    sweep: int
    hashes: list[int]
    losses: int
    """Hash of the conflict history."""
    vector: int | None = None
    """Hash of the sender's vector: compare only if the receiver's is the same. None: compare in any case."""


class TreeReply(Wire, tag=20, frozen=True):
    """Buckets that differ and the rows the sender has in them, as encoded batches."""

    sender: str
    sweep: int
    buckets: list[int]
    batches: list[bytes]
    seen: dict[str, int]
    """The sender's vector: a row the receiver holds in these buckets, that is covered and absent, is gone."""
    losses: list[Loss] = []
    answer: bool = True
    """Send me yours of these buckets."""


class ClockSkew(Wire, tag=21, frozen=True):
    """Your clock is this many ms ahead of mine; your writes are held here."""

    sender: str
    ahead: int


class HoldRequest(Wire, tag=25, frozen=True):
    """I am going: do you hold all of this, on your disk? Who does says so; who does not fetches it."""

    sender: str
    number: int
    seen: dict[str, int]
    ahead: Ranges = {}


class HoldReply(Wire, tag=26, frozen=True):
    """I hold all that this question was about; or, with ``leaving``, I am going as well, so do not count on me."""

    sender: str
    number: int
    leaving: bool = False


Message: TypeAlias = (
    Batch | Ping | Ack | PingRequest | Nack | Members | Join | Digest | Vector | Delta
    | Pull | Receipt | ReceiptRequest | Heartbeat | LinkState | FloorReport | Floors | TreeRequest
    | TreeReply | ClockSkew | Losses | Seen | Identity | HoldRequest | HoldReply
)  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)

encode = _encoder.encode
decode = _decoder.decode
"""Raises ``msgspec.DecodeError`` or ``msgspec.ValidationError`` on anything that is not a message."""
