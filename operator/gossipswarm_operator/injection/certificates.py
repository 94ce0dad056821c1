"""Which certificate the webhook serves, and which authorities the API server is told to trust, at every moment of a rotation.

Each serving certificate has an authority of its own, whose key is thrown away as soon as it has signed: nobody can ever
sign with it again, so it does no harm to trust it until it expires. A rotation is then two steps. First the next
certificate is made and its authority is trusted beside the old one, while the old certificate is still served. Then, once
every API server has heard of it, the next is served; replicas that have not noticed serve the old one, which is still
trusted. So no connection is refused at any moment, and a leader that dies in between is followed by one that goes on.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
from collections.abc import Iterator
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE: Final = dt.timedelta(days=90)
RENEWED_AFTER: Final = LIFE * 2 / 3
BACKDATED: Final = dt.timedelta(minutes=5)
"""Clocks of API servers may be so much behind ours."""
SETTLING: Final = dt.timedelta(minutes=1)
"""For which an authority is trusted before anything signed by it is served."""
_MOST_TRUSTED: Final = 8
"""Authorities; more cannot come about by rotation, and beyond, the oldest are forgotten."""


class Identity(msgspec.Struct, frozen=True):
    """A serving certificate with its key and the authority that signed it, all in PEM."""

    certificate: bytes
    key: bytes
    authority: bytes


class Held(msgspec.Struct, frozen=True):
    """What the Secret holds, in PEM; empty = not there."""

    certificate: bytes = b""
    key: bytes = b""
    next_certificate: bytes = b""
    next_key: bytes = b""
    authorities: bytes = b""
    """To be trusted, the newest first."""


def issue(host: str, now: dt.datetime, life: dt.timedelta = LIFE) -> Identity:
    """A new certificate for a host name or address, with an authority of its own."""
    begins, ends = now - BACKDATED, now + life
    signer = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # A name of its own, so that no verifier takes one authority for another.
    issuer = _named(f"gossipswarm webhook authority {serial:x}"[:64])
    authority = (
        _builder(issuer, issuer, signer.public_key(), begins, ends)
        .serial_number(serial)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_named(host[:64]), issuer, key.public_key(), begins, ends)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    return Identity(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        authority.public_bytes(serialization.Encoding.PEM),
    )


def rotate(
    held: Held,
    trusted: bytes,
    host: str,
    now: dt.datetime,
    settling: dt.timedelta = SETTLING,
    life: dt.timedelta = LIFE,
) -> Held:
    """What the Secret is to hold now; ``held`` itself if there is nothing to do.

    ``trusted`` is what the API server has been told to trust: the webhook's ``caBundle``.
    """
    current = _usable(held.certificate, held.key, held.authorities, host, now)
    following = _usable(held.next_certificate, held.next_key, held.authorities, host, now)
    if current is not None and now < _issued(current) + life * 2 / 3:
        return held
    if following is None:
        made = issue(host, now, life)
        authorities = _joined(made.authority, held.authorities, now)
        if current is None:
            return Held(made.certificate, made.key, authorities=authorities)
        return Held(held.certificate, held.key, made.certificate, made.key, authorities)
    settled = now >= _issued(following) + settling and covers(trusted, held.authorities)
    if current is None or settled:
        return Held(held.next_certificate, held.next_key, authorities=held.authorities)
    return held


def covers(trusted: bytes, authorities: bytes) -> bool:
    """Whether everything that is to be trusted is."""
    return set(_certificates(authorities)) <= set(_certificates(trusted))


def expiry(certificate: bytes) -> dt.datetime:
    """When a certificate ends to be valid. Raises ValueError if it is none."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def _usable(
    pem: bytes, key: bytes, authorities: bytes, host: str, now: dt.datetime
) -> x509.Certificate | None:
    """The certificate, if it can be served for this host now, and would be trusted."""
    with contextlib.suppress(ValueError, TypeError, x509.ExtensionNotFound):
        found = x509.load_pem_x509_certificate(pem)
        private = serialization.load_pem_private_key(key, password=None)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if (
            found.not_valid_before_utc <= now < found.not_valid_after_utc
            and private.public_key() == found.public_key()
            and _general_name(host) in list(names)
            and any(_signed(found, authority) for authority in _certificates(authorities))
        ):
            return found
    return None


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _issued(certificate: x509.Certificate) -> dt.datetime:
    return certificate.not_valid_before_utc + BACKDATED


def _joined(newest: bytes, others: bytes, now: dt.datetime) -> bytes:
    valid = [found for found in _certificates(others) if found.not_valid_after_utc > now]
    kept = [x509.load_pem_x509_certificate(newest), *valid][:_MOST_TRUSTED]
    return b"".join(found.public_bytes(serialization.Encoding.PEM) for found in kept)


def _certificates(pem: bytes) -> Iterator[x509.Certificate]:
    with contextlib.suppress(ValueError):
        yield from x509.load_pem_x509_certificates(pem)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    begins: dt.datetime,
    ends: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
