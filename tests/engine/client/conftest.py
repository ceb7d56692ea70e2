"""A scripted builder at a port, a proxy to it, and a paired link at the other end."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
import ssl

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
import pytest

from custom_components.esphome_offload.engine.client.dial import Caller
from custom_components.esphome_offload.engine.protocol.hello import Introduction
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer

from .proxy import Proxy
from .remote import Offloader, RemoteBuilder, count_commands
from .scripted_server import ScriptedServer


@pytest.fixture
async def http(socket_enabled: None) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def server(socket_enabled: None) -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def proxy(server: ScriptedServer) -> AsyncIterator[Proxy]:
    proxy = Proxy(server.port)
    await proxy.mend()
    yield proxy
    await proxy.cut()


@pytest.fixture
def caller() -> Caller:
    """This end; the server does not know it."""
    return Caller(Identity.generate(), Introduction(own_offer("0.1.0"), "offloader"))


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    """A server's context whose certificate is not trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "builder")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.fixture
async def remote(
    tmp_path: Path, socket_enabled: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RemoteBuilder]:
    """A real builder at a port."""
    remote = RemoteBuilder(tmp_path)
    count_commands(remote, monkeypatch)
    await remote.start()
    yield remote
    await remote.close()


@pytest.fixture
async def offloader(
    tmp_path: Path, remote: RemoteBuilder, http: aiohttp.ClientSession
) -> AsyncIterator[Offloader]:
    """Paired with the real builder, not connected."""
    proxy = Proxy(remote.port)
    await proxy.mend()
    offloader = Offloader(tmp_path, remote, proxy, http)
    await offloader.pair()
    yield offloader
    await offloader.link.stop()
    await proxy.cut()


@pytest.fixture
async def ready(offloader: Offloader) -> Offloader:
    """Paired and connected."""
    await offloader.connect()
    return offloader
