"""Compression of what is too large for a datagram: one zstandard frame around the message.

A message is a MessagePack array and never starts with zstandard's magic number, so a receiver sees by
itself whether a body is compressed, and agents of one swarm may differ in the setting.
"""

from __future__ import annotations

import functools
from typing import Final

import zstandard

from gossipswarm_agent.runtime.keyring import Rejected

LARGEST_BODY: Final = 64 << 20
"""Bytes that a compressed body may claim to expand to."""

_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_LEVEL: Final = 3


# Shared by all agents of a process: a context takes a megabyte, and each call is whole by itself.
@functools.cache
def _compressor() -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(_LEVEL)


@functools.cache
def _decompressor() -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor()


def compress(body: bytes) -> bytes:
    """The smaller of ``body`` and its compressed form."""
    smaller = _compressor().compress(body)
    return smaller if len(smaller) < len(body) else body


def expand(body: bytes) -> bytes:
    """What ``compress`` was given; raises Rejected if it cannot be had or is too large."""
    if body[:4] != _MAGIC:
        return body
    try:
        # The size is read first: a few bytes may claim to stand for gigabytes.
        if not 0 <= zstandard.frame_content_size(body) <= LARGEST_BODY:
            raise Rejected("compression")
        return _decompressor().decompress(body)
    except zstandard.ZstdError:
        raise Rejected("compression") from None
