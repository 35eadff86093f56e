"""TLS on real connections: who is let in, who is not, what is said of it, and that it never takes long."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority, make_go_identity, reissue
from engines import transport_of

from supervisor.address import Address, MemoryAddress, TcpAddress, UnixAddress
from supervisor.errors import CertificateError, ConfigurationError, ConnectError, ConnectionLostError, TransportError
from supervisor.testing.transport_contract import ContractService, call_unary
from supervisor.tls import TlsContexts, TlsFiles
from supervisor.transport import tls_layer
from supervisor.transport.dial import dial
from supervisor.transport.memory import join_memory
from supervisor.transport.server import Server, current_call
from supervisor.transport.tls import Identity, load_contexts, make_identity
from supervisor.transport.tls_layer import TlsProtocol

pytestmark = pytest.mark.usefixtures("nothing_left", "no_task_left")

VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}
MAKERS: dict[str, Callable[[], Identity]] = {"P-256": make_identity, "P-521": make_go_identity}

Serve = Callable[[TlsContexts | None], Awaitable[Address]]


@pytest.fixture
def refused() -> list[TransportError]:
    """Return what the servers of a test have refused."""
    return []


@pytest.fixture(params=["unix", "tcp"])
async def serve(request: pytest.FixtureRequest, folder: Path, refused: list[TransportError]) -> AsyncIterator[Serve]:
    """Return a function that serves the contract's service, on a unix socket and on TCP."""
    servers: list[Server] = []

    async def start(tls: TlsContexts | None) -> Address:
        servers.append(Server([ContractService()]))
        where = UnixAddress(str(folder / f"s{len(servers)}")) if request.param == "unix" else TcpAddress("127.0.0.1", 0)
        return await servers[-1].start(where, tls=tls, on_refused=refused.append)

    yield start
    for server in servers:
        await server.stop()


async def answers(address: Address, tls: TlsContexts | None) -> bool:
    """Dial, and say whether a message of many records comes back whole."""
    channel = await dial(address, timeout=5, tls=tls)
    try:
        data = bytes(range(256)) * 1024
        return await call_unary(channel, "Echo", data) == data
    finally:
        channel.close()
        await channel.wait_closed()


async def refusal(address: Address, tls: TlsContexts | None) -> TransportError:
    """Dial in vain, quickly, and return the error."""
    began = time.monotonic()
    with pytest.raises(TransportError) as caught:
        await dial(address, timeout=10, tls=tls)
    assert time.monotonic() - began < 2
    assert caught.value.phase == "connect"
    assert str(address) in str(caught.value)
    return caught.value


async def turns_until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the other end has noticed; bounded."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


def client_of(tls: TlsContexts) -> ssl.SSLContext:
    """Return the client's context."""
    assert tls.client is not None
    return tls.client


def without_certificate(trusted: bytes, version: ssl.TLSVersion) -> TlsContexts:
    """Return contexts of a client that has no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=trusted)
    context.set_alpn_protocols(["h2"])
    context.maximum_version = version
    return TlsContexts(client=context)


# --- let in ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("plugin_curve", MAKERS)
@pytest.mark.parametrize("host_curve", MAKERS)
async def test_pinned_peers_understand_each_other(
    serve: Serve, host_curve: str, plugin_curve: str, version: str
) -> None:
    """On Go's curve and on ours, in either role, with either version of TLS."""
    host, plugin = MAKERS[host_curve](), MAKERS[plugin_curve]()
    tls = host.pin(plugin.certificate)
    client_of(tls).minimum_version = client_of(tls).maximum_version = VERSIONS[version]

    assert await answers(await serve(plugin.pin(host.certificate)), tls)


async def test_both_roles_are_in_one_identity(serve: Serve) -> None:
    """What the host dials with it can serve with: brokered connections reverse the roles."""
    host, plugin = make_identity(), make_go_identity()
    hosts, plugins = host.pin(plugin.certificate), plugin.pin(host.certificate)

    assert await answers(await serve(plugins), hosts)
    assert await answers(await serve(hosts), plugins)


async def test_any_of_several_pinned_certificates_will_do(serve: Serve) -> None:
    """As with go-plugin's pool, which takes all that `PLUGIN_CLIENT_CERT` holds."""
    host, other, plugin = make_identity(), make_identity(), make_identity()

    assert await answers(await serve(plugin.pin(other.certificate, host.certificate)), host.pin(plugin.certificate))


async def test_handler_can_see_who_calls(folder: Path) -> None:
    """`peer.cert()` is the caller's certificate, and the transport says what it knows of TLS and of the socket."""
    host, plugin = make_identity(), make_identity()
    seen: list[Any] = []

    class Service(ContractService):
        async def _echo(self, stream: Any) -> None:
            seen.append(current_call().peer.cert())
            await super()._echo(stream)

    server = Server([Service()])
    address = await server.start(TcpAddress("127.0.0.1", 0), tls=plugin.pin(host.certificate))
    channel = await dial(address, timeout=5, tls=host.pin(plugin.certificate))
    await call_unary(channel, "Echo", b"")
    transport = transport_of(channel._wire)
    assert seen[0]["subjectAltName"] == (("DNS", "localhost"),)
    assert transport.get_extra_info("ssl_object").version() == "TLSv1.3"
    assert transport.get_extra_info("peername") == (address.host, address.port)  # type: ignore[union-attr] # it is TCP
    assert transport.get_extra_info("nothing", 5) == 5
    channel.close()
    await channel.wait_closed()
    await server.stop()


# --- kept out ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
async def test_wrong_server_is_refused(serve: Serve, refused: list[TransportError], version: str) -> None:
    """A plugin with another certificate than the one it announced: both sides know why."""
    host, plugin, announced = make_identity(), make_identity(), make_identity()
    tls = host.pin(announced.certificate)
    client_of(tls).maximum_version = VERSIONS[version]
    error = await refusal(await serve(plugin.pin(host.certificate)), tls)

    assert isinstance(error, CertificateError)
    assert "the peer's certificate is not the one it announced" in str(error)
    await turns_until(lambda: bool(refused))
    assert [str(said) for said in refused] == ["the peer refused this side's certificate: unknown ca"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_wrong_client_is_refused(serve: Serve, refused: list[TransportError], version: str) -> None:
    """A host with another certificate than the plugin was told of: both sides know why, and no handler runs."""
    host, plugin, stranger = make_identity(), make_identity(), make_identity()
    tls = stranger.pin(plugin.certificate)
    client_of(tls).maximum_version = VERSIONS[version]
    error = await refusal(await serve(plugin.pin(host.certificate)), tls)

    assert isinstance(error, CertificateError)
    assert "the peer refused this side's certificate: unknown ca" in str(error)
    assert isinstance(refused[0], CertificateError)
    assert "is not the one it announced" in str(refused[0])


@pytest.mark.parametrize("version", VERSIONS)
async def test_client_without_certificate_is_refused(serve: Serve, refused: list[TransportError], version: str) -> None:
    """TLS 1.3 tells the client so; before, it hears only that the handshake failed."""
    host, plugin = make_identity(), make_identity()
    tls = without_certificate(plugin.certificate, VERSIONS[version])
    error = await refusal(await serve(plugin.pin(host.certificate)), tls)

    if version == "TLS 1.3":
        assert isinstance(error, CertificateError)
    else:
        assert "it may demand a certificate" in str(error)
    assert [str(said) for said in refused] == ["the peer shows no certificate"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("side", ["server", "client"])
async def test_another_certificate_for_the_same_key_is_refused(
    serve: Serve, refused: list[TransportError], side: str, version: str
) -> None:
    """It verifies, and it is not the one: the comparison is of the very bytes."""
    host, plugin = make_identity(), make_identity()
    shown = reissue(plugin if side == "server" else host)
    server, client = (shown, host) if side == "server" else (plugin, shown)
    tls = client.pin(plugin.certificate)
    client_of(tls).maximum_version = VERSIONS[version]
    context = client_of(tls)
    context.verify_mode = ssl.CERT_REQUIRED
    served = server.pin(host.certificate)
    for trusting, other in ((context, server), (served.server, client)):
        assert trusting is not None
        trusting.load_verify_locations(cadata=other.certificate)  # OpenSSL is content with it
    error = await refusal(await serve(served), tls)

    if side == "server":
        assert str(error).endswith("the peer's certificate is not the one it announced")
    else:
        assert [str(said) for said in refused] == ["the peer's certificate is not the one it announced"]


async def test_outdated_certificate_is_refused(serve: Serve) -> None:
    """Also when it is the pinned one; the error says that it has expired."""
    host, plugin = make_identity(), make_go_identity(days=-1)
    error = await refusal(await serve(plugin.pin(host.certificate)), host.pin(plugin.certificate))

    assert isinstance(error, CertificateError)
    assert "expired" in str(error)


async def test_plain_text_at_a_tls_port(serve: Serve, refused: list[TransportError]) -> None:
    """A client that was not told of TLS learns at once what it talks to, and so does the server."""
    host, plugin = make_identity(), make_identity()
    error = await refusal(await serve(plugin.pin(host.certificate)), None)

    assert "the peer speaks TLS, and this side was not told to" in str(error)
    assert [str(said) for said in refused] == ["the peer does not speak TLS: what it sent is plain text"]


async def test_tls_at_a_plain_port(serve: Serve) -> None:
    """A plugin that answers AutoMTLS in plain text is found out at once."""
    host, plugin = make_identity(), make_identity()
    error = await refusal(await serve(None), host.pin(plugin.certificate))

    assert isinstance(error, ConnectError)
    assert "the peer does not speak TLS" in str(error)


@pytest.mark.parametrize("side", ["server", "client"])
async def test_without_alpn_there_is_no_connection(serve: Serve, refused: list[TransportError], side: str) -> None:
    """Both sides insist on `h2`, as grpc-go does."""
    host, plugin = make_identity(), make_identity()
    served, tls = plugin.pin(host.certificate), host.pin(plugin.certificate)
    wrong = served.server if side == "server" else tls.client
    assert wrong is not None
    wrong.set_alpn_protocols(["http/1.1"])
    error = await refusal(await serve(served), tls)

    assert "did not agree to ALPN 'h2'" in str(error)


# --- manual TLS --------------------------------------------------------------------------------------------------------


@pytest.fixture
def issue(folder: Path) -> Callable[..., TlsFiles]:
    """Return a function that issues a side's certificate."""
    return Authority(folder).issue


async def test_files_of_one_authority(serve: Serve, issue: Callable[..., TlsFiles]) -> None:
    """Certificates of an authority that both sides trust do without pinning."""
    assert await answers(await serve(load_contexts(issue("plugin"))), load_contexts(issue("host")))


async def test_certificate_for_another_name(serve: Serve, issue: Callable[..., TlsFiles]) -> None:
    """A name that is not the expected one is refused, unless that is the one that is expected."""
    address = await serve(load_contexts(issue("plugin", name="plugin.test")))
    host = issue("host")
    error = await refusal(address, load_contexts(host))

    assert isinstance(error, CertificateError)
    assert "localhost" in str(error)
    assert await answers(address, load_contexts(dataclasses.replace(host, server_name="plugin.test")))


async def test_certificate_of_another_authority(
    serve: Serve, issue: Callable[..., TlsFiles], tmp_path: Path, refused: list[TransportError]
) -> None:
    """Both sides refuse who was signed by somebody else."""
    address = await serve(load_contexts(issue("plugin")))
    other = Authority(tmp_path).issue("host")

    assert isinstance(await refusal(address, load_contexts(other)), CertificateError)
    mixed = dataclasses.replace(other, authority=issue("host").authority)
    assert "the peer refused this side's certificate" in str(await refusal(address, load_contexts(mixed)))
    await turns_until(lambda: len(refused) == 2)


async def test_contexts_for_the_other_role_only(folder: Path) -> None:
    """Contexts without the needed role are refused before anything is opened."""
    identity = make_identity()
    tls = identity.pin(identity.certificate)
    with pytest.raises(ConfigurationError, match="no context for a server"):
        await Server([ContractService()]).start(MemoryAddress("none"), tls=TlsContexts(client=tls.client))
    with pytest.raises(ConfigurationError, match="no context for a client"):
        await dial(UnixAddress(str(folder / "s")), timeout=1, tls=TlsContexts(server=tls.server))


# --- ends ----------------------------------------------------------------------------------------------------------------


async def test_peer_that_never_shakes_hands(folder: Path) -> None:
    """Dialling ends at its timeout and says what did not happen; cancelling it ends it before. Nothing is left open."""
    identity = make_identity()
    silent = await asyncio.get_running_loop().create_unix_server(asyncio.Protocol, str(folder / "s"))
    address = UnixAddress(str(folder / "s"))
    with pytest.raises(ConnectError, match=r"did not speak TLS within 0.1 s"):
        await dial(address, timeout=0.1, tls=identity.pin(identity.certificate))
    dialling = asyncio.create_task(dial(address, timeout=30, tls=identity.pin(identity.certificate)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    dialling.cancel()
    await asyncio.wait({dialling})
    assert dialling.cancelled()
    silent.close()
    await asyncio.sleep(0)


async def test_dial_that_is_cancelled_at_any_turn(serve: Serve) -> None:
    """Wherever the cancellation finds it, it ends it or comes too late; the server keeps nothing of it."""
    host, plugin = make_identity(), make_identity()
    address = await serve(plugin.pin(host.certificate))
    tls = host.pin(plugin.certificate)
    outcomes = set()
    for turns in range(40):
        dialling = asyncio.create_task(dial(address, timeout=5, tls=tls))
        for _ in range(turns):
            await asyncio.sleep(0)
        dialling.cancel()
        await asyncio.wait({dialling})
        outcomes.add(dialling.cancelled())
        if not dialling.cancelled():
            dialling.result().close()
            await dialling.result().wait_closed()
    assert outcomes == {True, False}
    assert await answers(address, tls)


async def test_client_that_never_shakes_hands(
    serve: Serve, refused: list[TransportError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server gives it some time and hangs up."""
    monkeypatch.setattr(tls_layer, "_HANDSHAKE", 0.1)
    identity = make_identity()
    address = await serve(identity.pin(identity.certificate))
    reader, writer = await connect_raw(address)
    async with asyncio.timeout(2):
        assert await reader.read() == b""
    writer.close()
    assert [str(said) for said in refused] == ["no TLS handshake within 0.1 s"]


async def test_server_that_stops_in_a_handshake(folder: Path) -> None:
    """The connection ends with the server, at once, and counts as no refusal."""
    identity = make_identity()
    refused: list[TransportError] = []
    server = Server([ContractService()])
    address = await server.start(
        UnixAddress(str(folder / "s")), tls=identity.pin(identity.certificate), on_refused=refused.append
    )
    reader, writer = await connect_raw(address)
    await turns_until(lambda: bool(server._handshaking))
    began = time.monotonic()
    await server.stop(5)
    async with asyncio.timeout(2):
        assert await reader.read() == b""
    assert time.monotonic() - began < 1
    writer.close()
    assert refused == []


async def test_broken_record_ends_the_connection(folder: Path) -> None:
    """Bytes that somebody has tampered with end it with an error about TLS; calls hear of it."""
    host, plugin = make_identity(), make_identity()
    server = Server([ContractService()])
    address = await server.start(UnixAddress(str(folder / "s")), tls=plugin.pin(host.certificate))
    channel = await dial(address, timeout=5, tls=host.pin(plugin.certificate))
    layer = transport_of(channel._wire)._layer
    assert isinstance(layer, TlsProtocol)
    calling = asyncio.create_task(call_unary(channel, "Hang", b""))
    await asyncio.sleep(0)
    layer.data_received(bytes.fromhex("170303 0020") + bytes(32))
    async with asyncio.timeout(2):
        await channel.lost.wait()
    with pytest.raises(ConnectionLostError, match="TLS failed"):
        await calling
    await channel.wait_closed()
    await server.stop()


async def test_reading_can_be_paused() -> None:
    """What arrives meanwhile waits, though it may have been received already, and comes in order."""
    host, plugin = make_identity(), make_identity()
    client, server = Recorder(), Recorder()
    near = TlsProtocol(client, host.pin(plugin.certificate), server_side=False)
    far = TlsProtocol(server, plugin.pin(host.certificate), server_side=True)
    join_memory(near, far)
    await near.secured
    await far.secured
    server.transport.pause_reading()
    assert not server.transport.is_reading()
    client.transport.write(b"one")
    client.transport.write(b"two")
    for _ in range(5):
        await asyncio.sleep(0)
    assert server.received == b""
    server.transport.resume_reading()
    for _ in range(5):
        await asyncio.sleep(0)
    assert server.received == b"onetwo"
    client.transport.close()
    client.transport.write(b"late")
    for _ in range(5):
        await asyncio.sleep(0)
    assert (server.received, server.lost, client.lost) == (b"onetwo", [None], [None])


class Recorder(asyncio.Protocol):
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


async def connect_raw(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect without a word of TLS."""
    if isinstance(address, TcpAddress):
        return await asyncio.open_connection(address.host, address.port)
    assert isinstance(address, UnixAddress)
    return await asyncio.open_unix_connection(address.path)
