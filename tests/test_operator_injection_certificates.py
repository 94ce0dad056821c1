"""The webhook's certificate through its life: whatever a replica serves is trusted, and nothing expires in use."""

from __future__ import annotations

import datetime as dt
import ssl

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from hypothesis import given, settings
from hypothesis import strategies as st

from gossipswarm_operator.injection.certificates import (
    LIFE,
    SETTLING,
    Held,
    expiry,
    issue,
    rotate,
)

HOST = "webhook.system.svc"
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def first(now: dt.datetime = START) -> Held:
    return rotate(Held(), b"", HOST, now)


def accepted(certificate: bytes, trusted: bytes, now: dt.datetime) -> bool:
    """As a verifier of TLS sees it: one of the authorities has signed it, and all of it is valid now."""
    found = x509.load_pem_x509_certificate(certificate)
    for authority in x509.load_pem_x509_certificates(trusted):
        try:
            found.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return all(
            c.not_valid_before_utc <= now < c.not_valid_after_utc for c in (found, authority)
        )
    return False


def test_the_first_is_served_at_once():
    held = first()
    assert accepted(held.certificate, held.authorities, START)
    assert held.next_certificate == b""
    assert expiry(held.certificate) == START + LIFE


def test_nothing_is_done_while_it_is_fresh():
    held = first()
    assert rotate(held, held.authorities, HOST, START + LIFE * 0.6) is held


def test_the_next_is_trusted_before_it_is_served_and_the_old_one_after_it_was():
    held, later = first(), START + LIFE * 0.7
    prepared = rotate(held, held.authorities, HOST, later)
    assert (prepared.certificate, prepared.key) == (held.certificate, held.key)
    assert accepted(prepared.next_certificate, prepared.authorities, later)
    assert accepted(held.certificate, prepared.authorities, later)

    settled = later + SETTLING
    assert rotate(prepared, prepared.authorities, HOST, later) is prepared, "not at once"
    assert rotate(prepared, held.authorities, HOST, settled) is prepared, "not before it is trusted"
    served = rotate(prepared, prepared.authorities, HOST, settled)
    assert served.certificate == prepared.next_certificate
    assert served.next_certificate == b""
    assert accepted(held.certificate, served.authorities, settled)


def test_an_authority_is_forgotten_once_it_has_expired():
    held = first()
    second = rotate(held, b"", HOST, START + LIFE)
    assert len(x509.load_pem_x509_certificates(second.authorities)) == 1


def test_authorities_have_names_of_their_own_and_sign_nothing_more():
    one, other = (x509.load_pem_x509_certificate(issue(HOST, START).authority) for _ in range(2))
    assert one.subject != other.subject
    constraints = one.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)


@pytest.mark.parametrize(
    "broken",
    [
        {"certificate": b"nonsense"},
        {"key": b""},
        {"key": issue(HOST, START).key},
        {"certificate": issue("another.svc", START).certificate},
        {"authorities": issue(HOST, START).authority},
    ],
    ids=["no certificate", "no key", "another key", "another name", "another authority"],
)
def test_what_cannot_be_served_is_replaced_at_once(broken):
    held = Held(**{**{f: getattr(first(), f) for f in Held.__struct_fields__}, **broken})
    replaced = rotate(held, held.authorities, HOST, START)
    assert replaced.certificate != held.certificate
    assert accepted(replaced.certificate, replaced.authorities, START)


def test_the_next_is_taken_where_the_current_is_lost():
    held = first()
    prepared = rotate(held, held.authorities, HOST, START + LIFE * 0.7)
    lost = Held(b"", b"", prepared.next_certificate, prepared.next_key, prepared.authorities)
    assert rotate(lost, b"", HOST, START + LIFE * 0.7).certificate == prepared.next_certificate


def test_an_address_is_a_name_too():
    held = rotate(Held(), b"", "127.0.0.1", START)
    assert rotate(held, held.authorities, "127.0.0.1", START + DAY) is held


def test_python_s_tls_takes_it(tmp_path):
    now = dt.datetime.now(dt.UTC)
    held = first(now)
    chain, key = tmp_path / "crt", tmp_path / "key"
    chain.write_bytes(held.certificate)
    key.write_bytes(held.key)
    server, client = (
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    )
    server.load_cert_chain(chain, key)
    client.load_verify_locations(cadata=held.authorities.decode())
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    one, other = (
        client.wrap_bio(down, up, server_hostname=HOST),
        server.wrap_bio(up, down, server_side=True),
    )
    for side in (one, other, one, other):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert one.version() == "TLSv1.3"


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.floats(0.01, 20),  # days until the leader looks again
            st.booleans(),  # whether the API server can be told
            st.booleans(),  # whether the replica has looked at the Secret
        ),
        max_size=30,
    )
)
def test_what_a_replica_serves_is_trusted_at_every_moment(steps):
    now = START
    held = first()
    trusted, served = held.authorities, held.certificate
    for days, told, looks in steps:
        now += dt.timedelta(days=days)
        wanted = rotate(held, trusted, HOST, now)
        if told or wanted.authorities == trusted:
            # As the leader does it: what cannot be trusted is not stored.
            held, trusted = wanted, wanted.authorities
        if looks:
            served = held.certificate
        assert accepted(served, trusted, now) or expiry(served) <= now
        assert len(x509.load_pem_x509_certificates(trusted)) <= 8


def test_a_leader_that_looks_once_a_fortnight_never_lets_it_expire():
    now, held = START, first()
    for _ in range(40):
        now += 14 * DAY
        held = rotate(held, held.authorities, HOST, now)
        assert accepted(held.certificate, held.authorities, now)
