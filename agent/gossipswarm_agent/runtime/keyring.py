"""The swarm's keys, and the seal on everything that crosses the network.

A sealed frame is a 25-byte header and the ciphertext with its 16-byte tag::

    version (1) | swarm (8) | key id (4) | session (8) | counter (4) | ciphertext | tag (16)

The header is authenticated with the body (AES-256-GCM, associated data). Session and counter are
the 96-bit nonce: a session is drawn at random for each keyring in each process and the counter
never repeats within it, so a nonce comes twice only if two of the swarm's processes draw the same
64 bits. Receivers also get them as the identity of a frame, which is what tells a replay.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, Self, TypeAlias

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gossipswarm_agent.runtime.journal_format import replace_file

VERSION: Final = 1
KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 4
SWARM_BYTES: Final = 8
HEADER_BYTES: Final = 25
TAG_BYTES: Final = 16
PLAINTEXT_ID: Final = bytes(KEY_ID_BYTES)

_COUNTER_END: Final = 1 << 32

Reason: TypeAlias = Literal[
    "truncated", "version", "swarm", "key", "tag", "duplicate", "stale", "compression", "region"
]


class Rejected(Exception):
    """Bytes that are not a frame of this swarm under one of its keys; ``reason`` says which check
    failed.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class KeyringError(ValueError):
    """A key, key id or keyring file that cannot be used as asked."""


def key_id(key: bytes) -> bytes:
    """The public name of a key: the first four bytes of its SHA-256."""
    if len(key) != KEY_BYTES:
        raise KeyringError(f"a key has {KEY_BYTES} bytes, this one has {len(key)}")
    return hashlib.sha256(key).digest()[:KEY_ID_BYTES]


class _KeyringFile(msgspec.Struct, forbid_unknown_fields=True):
    """A keyring on disk: keys in base64, the primary first."""

    swarm: str
    keys: list[str]


class Keyring:
    """Several keys of one swarm: all of them open frames, the primary seals them.

    Belongs to one event loop; not for use from several threads.
    """

    __slots__ = (
        "__weakref__",
        "_ciphers",
        "_counter",
        "_encrypt",
        "_keys",
        "_prefix",
        "_primary",
        "_seal_prefix",
        "_session",
        "_shortest",
        "swarm_uid",
    )

    def __init__(self, swarm_uid: str, keys: Iterable[bytes]) -> None:
        """Keyring of ``keys``, the first of them primary; with none, encryption is off."""
        self.swarm_uid = swarm_uid
        swarm = hashlib.sha256(swarm_uid.encode()).digest()[:SWARM_BYTES]
        self._prefix = bytes([VERSION]) + swarm
        self._keys = {key_id(key): key for key in keys}
        if PLAINTEXT_ID in self._keys:
            raise KeyringError("the id of this key is reserved; generate another")
        self._ciphers = {name: AESGCM(key) for name, key in self._keys.items()}
        self._shortest = HEADER_BYTES + (TAG_BYTES if self._keys else 0)
        self._select(next(iter(self._keys), PLAINTEXT_ID))
        _every_keyring.add(self)

    @classmethod
    def generate(cls, swarm_uid: str) -> Self:
        """Keyring with one new random key."""
        return cls(swarm_uid, [secrets.token_bytes(KEY_BYTES)])

    @classmethod
    def plaintext(cls, swarm_uid: str) -> Self:
        """Keyring that neither encrypts nor authenticates; another swarm's frames are still
        refused.
        """
        return cls(swarm_uid, [])

    # --- keys -------------------------------------------------------------------------------------

    @property
    def encrypted(self) -> bool:
        """Whether frames are sealed under a key at all."""
        return bool(self._keys)

    @property
    def primary(self) -> bytes:
        """Id of the key that seals; four zero bytes when encryption is off."""
        return self._primary

    def ids(self) -> list[bytes]:
        """Ids of all keys, the primary first."""
        return sorted(self._keys, key=lambda name: name != self._primary)

    def install(self, key: bytes) -> bytes:
        """Accept frames under ``key`` from now on and return its id; sealing goes on under the
        primary.
        """
        self._need_encryption()
        name = key_id(key)
        if name == PLAINTEXT_ID or self._keys.get(name, key) != key:
            raise KeyringError("the id of this key is taken; generate another")
        self._keys[name] = key
        self._ciphers[name] = AESGCM(key)
        return name

    def use(self, name: bytes) -> None:
        """Seal under the installed key ``name`` from now on."""
        self._need_encryption()
        self._need(name)
        self._select(name)

    def remove(self, name: bytes) -> None:
        """Refuse frames under the key ``name`` from now on; never the primary."""
        self._need_encryption()
        self._need(name)
        if name == self._primary:
            raise KeyringError(f"key {name.hex()} is the primary; use another before removing it")
        del self._keys[name], self._ciphers[name]

    def _need(self, name: bytes) -> None:
        if name not in self._keys:
            raise KeyringError(f"no key {name.hex()} is installed")

    def _need_encryption(self) -> None:
        if not self._keys:
            raise KeyringError("encryption is off for this swarm")

    def _select(self, name: bytes) -> None:
        self._primary = name
        self._encrypt = self._ciphers[name].encrypt if self._keys else None
        self._new_session()

    def _new_session(self) -> None:
        self._session = secrets.token_bytes(8)
        self._counter = 0
        self._seal_prefix = self._prefix + self._primary + self._session

    # --- frames -----------------------------------------------------------------------------------

    def seal(self, body: bytes) -> bytes:
        """Encrypt and authenticate ``body`` under the primary key, with a nonce of its own."""
        counter = self._counter
        if counter == _COUNTER_END:
            self._new_session()
            counter = 0
        self._counter = counter + 1
        header = self._seal_prefix + counter.to_bytes(4, "big")
        if self._encrypt is None:
            return header + body
        return header + self._encrypt(header[13:], body, header)

    def open(self, sealed: bytes) -> tuple[bytes, bytes, int]:
        """Body, session and counter of a sealed frame; raises nothing but Rejected, whatever the
        bytes.
        """
        if len(sealed) < self._shortest:
            raise Rejected("truncated")
        if sealed[:9] != self._prefix:
            raise Rejected("version" if sealed[0] != VERSION else "swarm")
        session = sealed[13:21]
        counter = int.from_bytes(sealed[21:25], "big")
        cipher = self._ciphers.get(sealed[9:13])
        if cipher is None:
            if self._keys or sealed[9:13] != PLAINTEXT_ID:
                raise Rejected("key")
            return sealed[25:], session, counter
        try:
            return cipher.decrypt(sealed[13:25], sealed[25:], sealed[:25]), session, counter
        except InvalidTag:
            raise Rejected("tag") from None

    # --- disk -------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: Path) -> Self:
        """Keyring saved at ``path``; KeyringError if it is not one, OSError if it cannot be read."""
        try:
            stored = msgspec.json.decode(path.read_bytes(), type=_KeyringFile)
            keys = [base64.b64decode(key, validate=True) for key in stored.keys]
        except (msgspec.MsgspecError, UnicodeDecodeError, binascii.Error) as error:
            raise KeyringError(f"{path} is not a keyring: {error}") from error
        if not keys:
            raise KeyringError(f"{path} holds no key")
        return cls(stored.swarm, keys)

    def save(self, path: Path) -> None:
        """Write the keyring to ``path`` in one step, readable by its owner only."""
        self._need_encryption()
        keys = [base64.b64encode(self._keys[name]).decode() for name in self.ids()]
        replace_file(
            path, msgspec.json.encode(_KeyringFile(self.swarm_uid, keys)) + b"\n", mode=0o600
        )


_every_keyring: weakref.WeakSet[Keyring] = weakref.WeakSet()


def _renew_sessions() -> None:
    # A forked child would go on with its parent's nonces, and a GCM nonce used twice gives the key
    # away.
    for keyring in list(_every_keyring):
        keyring._new_session()


os.register_at_fork(after_in_child=_renew_sessions)
