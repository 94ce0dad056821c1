"""Agents behind TLS."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gossipswarm_agent.api.server import serve
from gossipswarm_agent.runtime.ports import bind_api
from gossipswarm_client import AsyncClient, Client, Unreachable
from served import one_agent


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1 by itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "agent")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "agent.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


async def test_both_clients_reach_an_agent_over_tls_and_verify_it(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with one_agent() as agent:
        server = await serve(agent.agent, sockets=[bind_api("127.0.0.1")], tls=context)
        url = f"https://{server.addresses[0]}"

        def blocking() -> list[bool]:
            with Client(url, ca_file=str(certificate)) as client:
                client.set("a", 1)
                lines = [{"key": f"k{n}", "value": n} for n in range(500)]
                return [ack.ok for ack in client.batch(lines)]

        def strangers() -> None:
            with Client(url, retries=0) as client:
                client.get("a")

        try:
            assert await asyncio.to_thread(blocking) == [True] * 500
            with pytest.raises(Unreachable, match="TLS"):
                await asyncio.to_thread(strangers)
            trusting = ssl.create_default_context(cafile=certificate)
            async with AsyncClient(url, tls=trusting) as client:
                assert (await client.get("a")).value == 1
            async with AsyncClient(url, retries=0) as client:
                with pytest.raises(Unreachable):
                    await client.get("a")
        finally:
            await server.close()
