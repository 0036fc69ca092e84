"""TLS with mutual authentication runs inside a world and costs no determinism."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mcpcore.sim import Delay, Link, World

_DAY = datetime.timedelta(days=1)


def _issue(
    name: str, issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None, folder: Path
) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by, signer = issuer or (subject, key)
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(issuer is None, None), critical=True)
        .sign(signer, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / f"{name}.pem").write_bytes(public + secret)
    (folder / f"{name}.crt").write_bytes(public)
    return subject, key


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tls")
    authority = _issue("authority", None, made)
    for name in ("server", "client"):
        _issue(name, authority, made)
    _issue("stranger", None, made)
    return made


def context(folder: Path, name: str, *, server: bool) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.load_cert_chain(folder / f"{name}.pem")
    made.load_verify_locations(folder / "authority.crt")
    made.verify_mode = ssl.CERT_REQUIRED
    return made


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()


def serving(folder: Path) -> Callable[[], Awaitable[None]]:
    async def main() -> None:
        server = await asyncio.start_server(
            shout, "0.0.0.0", 443, ssl=context(folder, "server", server=True), limit=1 << 22
        )
        async with server:
            await server.serve_forever()

    return main


async def ask(folder: Path, sizes: list[int]) -> list[int]:
    reader, writer = await asyncio.open_connection(
        "server", 443, ssl=context(folder, "client", server=False), limit=1 << 22
    )
    try:
        assert writer.get_extra_info("peercert")["subject"] == ((("commonName", "server"),),)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        assert writer.get_extra_info("peername") == ("10.0.0.1", 443)
        answers = []
        for size in sizes:
            writer.write(b"a" * size + b"\n")
            line = await reader.readline()
            assert line == b"A" * size + b"\n"
            answers.append(len(line))
        return answers
    finally:
        writer.close()


def run_once(folder: Path, link: Link) -> str:
    with World(seed=3) as world:
        world.network.default = link
        world.host("server", serving(folder))
        world.run(1)
        task = world.host("client").spawn(ask(folder, [1, 100, 70_000, 1_000_000, 5]))
        world.run_until(task, within_s=600)
        assert task.result() == [2, 101, 70_001, 1_000_001, 6]
        world.run(5)
        return world.digest


@pytest.mark.parametrize(
    "link",
    [
        Link(),
        Link(Delay("lognormal", 5, 10), loss=0.1, fragment=0.5),
        Link(Delay("constant", 3), bandwidth_bps=8_000_000),
    ],
    ids=["good", "lossy", "narrow"],
)
def test_mutual_tls_gives_one_digest_though_every_key_and_signature_differs(
    folder: Path, link: Link
) -> None:
    """ECDSA signatures and session tickets vary in length by some bytes in each handshake."""
    assert len({run_once(folder, link) for _ in range(4)}) == 1


def test_a_client_that_the_server_does_not_know_is_turned_away(folder: Path) -> None:
    async def intrude() -> bytes:
        stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        stranger.load_cert_chain(folder / "stranger.pem")
        stranger.load_verify_locations(folder / "authority.crt")
        reader, writer = await asyncio.open_connection("server", 443, ssl=stranger)
        try:
            writer.write(b"let me in\n")
            return await reader.readline()
        finally:
            writer.close()

    with World() as world:
        world.host("server", serving(folder))
        world.run(1)
        task = world.host("client").spawn(intrude())
        world.run(30)
        assert task.done()
        assert isinstance(task.exception(), OSError) or task.result() == b""


def test_a_server_with_the_wrong_name_is_not_trusted(folder: Path) -> None:
    async def dial() -> None:
        await asyncio.open_connection(
            "server",
            443,
            ssl=context(folder, "client", server=False),
            server_hostname="somebody-else",
        )

    with World() as world:
        world.host("server", serving(folder))
        world.run(1)
        with pytest.raises(ssl.SSLCertVerificationError):
            world.call(world.host("client"), dial())


def test_a_handshake_that_nobody_answers_times_out_in_virtual_time(folder: Path) -> None:
    async def silent() -> None:
        async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(1e5)
            writer.close()

        await asyncio.start_server(never, "0.0.0.0", 443)
        await asyncio.sleep(1e5)

    async def dial() -> None:
        await asyncio.open_connection(
            "server",
            443,
            ssl=context(folder, "client", server=False),
            ssl_handshake_timeout=10,
        )

    with World() as world:
        world.host("server", silent)
        world.run(1)
        with pytest.raises(ConnectionAbortedError):
            world.call(world.host("client"), dial())
        assert 10 < world.now_s - 1 < 11


def test_a_plain_connection_can_be_upgraded_with_start_tls(folder: Path) -> None:
    async def serve() -> None:
        async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.readline() == b"STARTTLS\n"
            writer.write(b"go\n")
            await writer.start_tls(context(folder, "server", server=True))
            await shout(reader, writer)

        server = await asyncio.start_server(upgrade, "0.0.0.0", 25)
        async with server:
            await server.serve_forever()

    async def dial() -> bytes:
        reader, writer = await asyncio.open_connection("server", 25)
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go\n"
        await writer.start_tls(context(folder, "client", server=False), server_hostname="server")
        writer.write(b"secret\n")
        answer = await reader.readline()
        writer.close()
        return answer

    with World() as world:
        world.host("server", serve)
        world.run(1)
        assert world.call(world.host("client"), dial()) == b"SECRET\n"
