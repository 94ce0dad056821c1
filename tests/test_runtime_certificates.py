"""An agent that serves its API by https takes a renewed certificate up while it runs."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path

import pytest

import served
from kube_certificates import Authority
from loopback import HOST, until
from test_runtime_program import Program, program

SECONDS = 60.0
"""A dozen looks at the files."""


def issue(directory: Path, name: str) -> Authority:
    authority = Authority(directory / name)
    authority.server("agent", [HOST], [])
    return authority


def install(authority: Authority, directory: Path) -> None:
    """Put both files in place, as a renewed mount does."""
    for source, name in zip(authority.pair("agent"), ("tls.crt", "tls.key"), strict=True):
        fresh = directory / f"{name}.new"
        fresh.write_bytes(source.read_bytes())
        fresh.rename(directory / name)


async def is_served(running: Program, authority: Authority) -> bool:
    """Whether a new connection finds a certificate of this authority."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    port = int(running.api.rpartition(":")[2])
    try:
        _, writer = await asyncio.open_connection(HOST, port, ssl=context)
    except ssl.SSLCertVerificationError:
        return False
    writer.close()
    return True


async def holds(running: Program, authority: Authority) -> None:
    await served.until(lambda: is_served(running, authority), SECONDS)


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    return [
        *("--tls-certificate", str(tmp_path / "tls.crt")),
        *("--tls-key", str(tmp_path / "tls.key")),
    ]


async def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path, flags: list[str]):
    first, second = issue(tmp_path, "first"), issue(tmp_path, "second")
    install(first, tmp_path)
    async with program(tmp_path, "one", *flags) as running:
        await holds(running, first)
        assert not await is_served(running, second)
        install(second, tmp_path)
        await holds(running, second)
        assert not await is_served(running, first)


async def test_a_certificate_that_does_not_fit_its_key_is_reported_and_the_one_before_stays(
    tmp_path: Path, flags: list[str]
):
    first, second = issue(tmp_path, "first"), issue(tmp_path, "second")
    install(first, tmp_path)
    async with program(tmp_path, "one", *flags) as running:
        await holds(running, first)
        (tmp_path / "tls.key").write_bytes(second.pair("agent")[1].read_bytes())

        def is_reported() -> bool:
            return any(line["level"] == "error" for line in running.lines())

        await until(is_reported, SECONDS)
        [line] = [line for line in running.lines() if line["level"] == "error"]
        assert "certificate is of no use" in json.dumps(line)
        assert "tls.crt" in json.dumps(line)
        assert await is_served(running, first)
        install(second, tmp_path)
        await holds(running, second)
