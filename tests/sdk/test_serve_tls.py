"""TLS as a plugin serves it: when it is asked for, when its author brings it, and what it says of strangers."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import Authority, make_go_identity
from raw_host import RawHost

from supervisor.address import TcpAddress
from supervisor.errors import CertificateError, ConfigurationError, TransportError
from supervisor.sdk.security import Security, choose_security
from supervisor.tls import TlsContexts
from supervisor.transport.dial import dial
from supervisor.transport.tls import load_contexts, make_identity

Start = Callable[..., RawHost]

LOADED = """
async def on_call(text): return str('cryptography' in sys.modules)
serve(Control(on_call))
"""
MANUAL = """
from supervisor.tls import TlsFiles
async def on_call(text): return text.upper()
serve(Control(on_call), tls=TlsFiles(certificate={0.certificate!r}, key={0.key!r}, authority={0.authority!r}))
"""
ON_TCP = """
async def on_call(text): return text.upper()
serve(Control(on_call), network='tcp')
"""


@pytest.mark.parametrize("network", ["unix", "tcp"])
async def test_host_that_shows_a_certificate_gets_one(start: Start, network: str) -> None:
    """`PLUGIN_CLIENT_CERT` has the plugin announce a certificate, and serve with it whoever has that of the host."""
    identity = make_go_identity()
    source = f"async def on_call(text): return text.upper()\nserve(Control(on_call), network={network!r})"
    host = start(source, PLUGIN_CLIENT_CERT=identity.pem)
    certificate = host.handshake.certificate
    assert certificate is not None
    host.channel = await dial(host.handshake.address, timeout=5, tls=identity.pin(certificate))

    assert await host.call("hello") == "HELLO"


async def test_every_life_has_its_own_certificate(start: Start) -> None:
    """A certificate is thrown away with the life it was made for."""
    pem = make_identity().pem
    certificates = {start(PLUGIN_CLIENT_CERT=pem).handshake.certificate for _ in range(2)}

    assert len(certificates) == 2


async def test_stranger_is_refused_and_reported(start: Start) -> None:
    """Whoever has another certificate does not reach a handler, and the host's log has a warning of it."""
    identity, stranger = make_identity(), make_identity()
    host = start(PLUGIN_CLIENT_CERT=identity.pem)
    certificate = host.handshake.certificate
    assert certificate is not None
    with pytest.raises(CertificateError):
        await dial(host.handshake.address, timeout=5, tls=stranger.pin(certificate))
    with pytest.raises(TransportError, match="speaks TLS"):
        await dial(host.handshake.address, timeout=5)

    event = await host.stderr_event("is not the one it announced")
    assert (event["@level"], event["@message"]) == ("warn", "refused a connection")
    host.channel = await dial(host.handshake.address, timeout=5, tls=identity.pin(certificate))
    assert await host.call("still here") == "STILL HERE"


async def test_without_tls_cryptography_is_not_loaded(start: Start) -> None:
    """A plugin that nobody asks for AutoMTLS starts without it, and announces nothing."""
    host = start(LOADED)
    assert host.handshake.certificate is None
    await host.connect()

    assert await host.call() == "False"


async def test_manual_tls_wins(start: Start, tmp_path: Path) -> None:
    """An author's own certificates are served with whatever the host asks for, and are not announced, as in go-plugin."""
    authority = Authority(tmp_path)
    host = start(MANUAL.format(authority.issue("plugin")), PLUGIN_CLIENT_CERT=make_identity().pem)
    assert host.handshake.certificate is None
    host.channel = await dial(host.handshake.address, timeout=5, tls=load_contexts(authority.issue("host")))

    assert await host.call("hello") == "HELLO"


async def test_certificate_that_is_none_ends_the_start(start: Start) -> None:
    """The reason is in the host's log; go-plugin logs it, and then fails every connection."""
    host = start(PLUGIN_CLIENT_CERT="junk")
    event = await host.stderr_event("PLUGIN_CLIENT_CERT is not a certificate")

    assert event["@level"] == "error"
    assert await host.wait() == 1
    assert host.stdout.all() == b""


async def test_open_port_is_warned_of(start: Start) -> None:
    """A Go host says nothing of TCP without TLS, so the plugin does."""
    host = start(ON_TCP)
    assert isinstance(host.handshake.address, TcpAddress)
    event = await host.stderr_event("without TLS")

    assert (event["@level"], event["address"]) == ("warn", str(host.handshake.address))


def test_nothing_asked_and_nothing_brought() -> None:
    """Plain text."""
    assert choose_security(None, None) == Security()


def test_contexts_are_used_as_they_are() -> None:
    """For keys that are in no file."""
    tls = TlsContexts(server=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))

    assert choose_security(tls, make_identity().pem) == Security(tls=tls)


def test_tls_that_cannot_be_served_with(tmp_path: Path) -> None:
    """Contexts for a client only, and files that are not there, are the author's mistakes."""
    with pytest.raises(ConfigurationError, match="no context for a server"):
        choose_security(TlsContexts(client=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)), None)
    files = Authority(tmp_path).issue("plugin")
    Path(files.key).unlink()
    with pytest.raises(ConfigurationError, match=r"plugin\.key"):
        choose_security(files, None)
