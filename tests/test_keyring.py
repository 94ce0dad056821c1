"""Only who has one of the swarm's keys can make a frame that opens, and no nonce is used twice."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipswarm_agent.runtime import keyring as module
from gossipswarm_agent.runtime.keyring import (
    HEADER_BYTES,
    TAG_BYTES,
    Keyring,
    KeyringError,
    Rejected,
    key_id,
)

OLD, NEW = bytes(range(32)), bytes(reversed(range(32)))
keyring = Keyring("swarm", [OLD])
SEALED = keyring.seal(b"a configuration")


def rejected(receiver: Keyring, sealed: bytes) -> str:
    with pytest.raises(Rejected) as caught:
        receiver.open(sealed)
    return caught.value.reason


@given(st.binary(max_size=2000))
def test_what_was_sealed_opens_to_itself(body: bytes) -> None:
    sealed = keyring.seal(body)
    assert keyring.open(sealed)[0] == body
    assert len(sealed) == len(body) + HEADER_BYTES + TAG_BYTES


@given(st.integers(0, len(SEALED) * 8 - 1))
def test_no_bit_can_be_changed(bit: int) -> None:
    changed = bytearray(SEALED)
    changed[bit // 8] ^= 1 << bit % 8
    assert rejected(keyring, bytes(changed)) in ("version", "swarm", "key", "tag")


@given(st.integers(0, len(SEALED) - 1))
def test_no_byte_can_be_missing(length: int) -> None:
    assert rejected(keyring, SEALED[:length]) in ("truncated", "tag")


@given(st.binary(max_size=200))
def test_any_bytes_are_rejected_and_nothing_else_is_raised(data: bytes) -> None:
    rejected(keyring, data)


def test_every_frame_has_a_nonce_of_its_own() -> None:
    seen = {keyring.open(keyring.seal(b""))[1:] for _ in range(1000)}
    assert len(seen) == 1000


def test_a_session_that_is_used_up_is_followed_by_another() -> None:
    one = Keyring("swarm", [OLD])
    one._counter = (1 << 32) - 1
    _, first, counter = one.open(one.seal(b""))
    _, second, restarted = one.open(one.seal(b""))
    assert (counter, restarted) == ((1 << 32) - 1, 0)
    assert first != second


def test_a_forked_process_does_not_go_on_with_its_parents_nonces() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, keyring.seal(b""))
        os._exit(0)
    os.waitpid(child, 0)
    sealed = os.read(reading, 1000)
    os.close(reading)
    os.close(writing)
    assert keyring.open(sealed)[1] != keyring.open(keyring.seal(b""))[1]


def test_keys_are_rotated_step_by_step_without_a_gap() -> None:
    one, other = Keyring("swarm", [OLD]), Keyring("swarm", [OLD])
    for receiver in (one, other):
        assert receiver.install(NEW) == key_id(NEW)
        assert receiver.primary == key_id(OLD)
    one.use(key_id(NEW))
    assert other.open(one.seal(b"new"))[0] == b"new"
    assert one.open(other.seal(b"old"))[0] == b"old"
    other.use(key_id(NEW))
    one.remove(key_id(OLD))
    assert one.ids() == [key_id(NEW)]
    assert rejected(one, Keyring("swarm", [OLD]).seal(b"x")) == "key"


def test_what_cannot_be_done_with_a_key_is_refused() -> None:
    one = Keyring("swarm", [OLD])
    for attempt in (
        lambda: one.remove(key_id(OLD)),
        lambda: one.use(key_id(NEW)),
        lambda: one.remove(key_id(NEW)),
        lambda: one.install(b"short"),
        lambda: Keyring.plaintext("swarm").install(OLD),
    ):
        with pytest.raises(KeyringError):
            attempt()


def test_another_swarm_is_told_apart_even_without_keys() -> None:
    plain = Keyring.plaintext("swarm")
    assert plain.open(plain.seal(b"x"))[0] == b"x"
    assert rejected(plain, Keyring.plaintext("other").seal(b"x")) == "swarm"
    assert rejected(keyring, plain.seal(b"x" * 20)) == "key"
    assert rejected(plain, SEALED) == "key"


def test_a_keyring_is_kept_where_only_its_owner_reads_it(tmp_path: Path) -> None:
    one = Keyring("swarm", [OLD])
    one.install(NEW)
    one.use(key_id(NEW))
    one.save(tmp_path / "keyring")
    assert stat.S_IMODE((tmp_path / "keyring").stat().st_mode) == 0o600
    again = Keyring.load(tmp_path / "keyring")
    assert again.ids() == [key_id(NEW), key_id(OLD)]
    assert again.swarm_uid == "swarm"
    assert again.open(one.seal(b"x"))[0] == b"x"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"swarm": "s", "keys": []}',
        b'{"swarm": "s", "keys": ["x"]}',
        b"\xff",
        b'{"keys": 1}',
    ],
)
def test_a_file_that_is_no_keyring_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keyring").write_bytes(content)
    with pytest.raises(KeyringError):
        Keyring.load(tmp_path / "keyring")


def test_a_key_whose_id_is_taken_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(module, "key_id", lambda key: b"same")
    one = Keyring("swarm", [OLD])
    one.install(OLD)
    with pytest.raises(KeyringError, match="taken"):
        one.install(NEW)
