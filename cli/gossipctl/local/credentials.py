"""A swarm's key and API tokens: made once, kept in files that only their owner can read."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import Final

import msgspec

from gossipctl.local.layout import Layout
from gossipctl.local.spec import replace_file

KEY_BYTES: Final = 32


class _KeyringFile(msgspec.Struct):
    """Same form as the agent's own keyring file: the key that seals comes first."""

    swarm: str
    keys: list[str]


class _TokenFile(msgspec.Struct):
    read: str
    write: str


@dataclass
class Secrets:
    """Keys in base64, the primary first (none if encryption is off), and the tokens of the HTTP API."""

    keys: list[str]
    read_token: str
    write_token: str

    @classmethod
    def generate(cls, *, encryption: bool) -> Secrets:
        """New ones."""
        return cls(
            [new_key()] if encryption else [],
            secrets.token_urlsafe(24),
            secrets.token_urlsafe(24),
        )

    @classmethod
    def load(cls, layout: Layout) -> Secrets:
        """Those of an existing swarm; OSError or ValueError if they cannot be read."""
        tokens = msgspec.json.decode(layout.token.read_bytes(), type=_TokenFile)
        keys: list[str] = []
        if layout.keyring.exists():
            keys = msgspec.json.decode(layout.keyring.read_bytes(), type=_KeyringFile).keys
        return cls(keys, tokens.read, tokens.write)

    def save(self, layout: Layout, uid: str) -> None:
        """Write both files, each in one step."""
        if self.keys:
            replace_file(layout.keyring, msgspec.json.encode(_KeyringFile(uid, self.keys)) + b"\n")
        tokens = _TokenFile(self.read_token, self.write_token)
        replace_file(layout.token, msgspec.json.encode(tokens) + b"\n")


def new_key() -> str:
    """A random key in base64."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
