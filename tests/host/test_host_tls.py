"""Whether a life speaks TLS: what the plugin is told, and what each answer in its handshake means."""

from __future__ import annotations

import errno
import os
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from kv_proto import GetRequest, KvStub, PutRequest
from watching import exit_of

from supervisor import PluginFailedError, PluginSpec, State, Supervisor
from supervisor.address import Address, MemoryAddress, TcpAddress, UnixAddress
from supervisor.errors import ConnectError, HandshakeError, LaunchError
from supervisor.host.security import Security
from supervisor.testing.scripted import ScriptedProcess
from supervisor.tls import TlsContexts, TlsFiles
from supervisor.transport.tls import make_identity, read_certificates

UNIX, TCP = UnixAddress("/run/s"), TcpAddress("127.0.0.1", 1)
CERTIFICATE = make_identity().certificate
KV_PLUGIN = Path(__file__).parent.parent / "faults" / "kv_plugin.py"


def security(**fields: Any) -> tuple[Security, dict[str, str]]:
    """Return the security of a plugin and the variables that it gets."""
    made = Security(PluginSpec(name="store", command=("store",), **fields))
    return made, made.variables()


def contexts() -> TlsContexts:
    """Return an application's contexts."""
    return TlsContexts(client=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def test_plain_text_on_a_unix_socket_is_the_default() -> None:
    """The socket lies in a private directory, and the listener is known by its pid."""
    made, variables = security()

    assert variables == {}
    assert made.settle(None, UNIX) is None
    assert made.settle(None, MemoryAddress("here")) is None


@pytest.mark.parametrize("address", [UNIX, TCP])
def test_auto_mtls_pins_what_was_announced(address: Address) -> None:
    """The plugin is told of a certificate that is made for this life, and its own is the only one trusted."""
    made, variables = security(auto_mtls=True)
    (own,) = read_certificates(variables["PLUGIN_CLIENT_CERT"])
    tls = made.settle(CERTIFICATE, address)

    assert security(auto_mtls=True)[1] != variables
    assert tls is not None
    assert tls.pinned == (CERTIFICATE,)
    assert own != CERTIFICATE


@pytest.mark.parametrize(
    ("fields", "certificate", "address", "field", "said"),
    [
        ({}, CERTIFICATE, UNIX, "certificate", "nobody asked for; set auto_mtls = true"),
        ({"tls": contexts()}, CERTIFICATE, UNIX, "certificate", "nobody asked for"),
        ({"insecure": True}, CERTIFICATE, TCP, "certificate", "nobody asked for"),
        ({"auto_mtls": True}, None, UNIX, "certificate", "announced no certificate; set auto_mtls = false"),
        ({"auto_mtls": True, "insecure": True}, None, TCP, "certificate", "announced no certificate"),
        ({"auto_mtls": True}, b"junk" * 20, UNIX, "certificate", "error parsing server cert: not a certificate"),
        ({}, None, TCP, "network", "without TLS, where every user of this machine can connect; set auto_mtls = true"),
    ],
)
def test_handshake_that_does_not_fit_is_refused(
    fields: dict[str, Any], certificate: bytes | None, address: Address, field: str, said: str
) -> None:
    """Each error names the field and the setting; a certificate that nobody asked for crashes a Go host."""
    made, _ = security(**fields)
    with pytest.raises(HandshakeError) as caught:
        made.settle(certificate, address)

    assert caught.value.field == field
    assert said in str(caught.value)


def test_key_that_cannot_be_loaded_is_not_the_plugins_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor for it is an error of the connection, after which the policy decides."""
    made, _ = security(auto_mtls=True)

    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "memfd_create", refuse)
    with pytest.raises(ConnectError, match="TLS cannot be set up: Too many open files"):
        made.settle(CERTIFICATE, UNIX)


def test_insecure_is_what_tcp_in_plain_text_takes() -> None:
    """Somebody has to mean it."""
    assert security(insecure=True)[0].settle(None, TCP) is None


def test_manual_tls_wins_and_is_told_to_nobody() -> None:
    """As in go-plugin, both sides know of it beforehand."""
    tls = contexts()
    made, variables = security(tls=tls, auto_mtls=True)

    assert variables == {}
    assert made.settle(None, TCP) is tls


@pytest.mark.parametrize(("content", "number"), [(None, errno.ENOENT), ("junk", errno.EINVAL)])
async def test_files_that_cannot_be_used_end_the_plugin(
    supervise: Callable[..., Supervisor], tmp_path: Path, content: str | None, number: int
) -> None:
    """It is given up on at once, with an error that names the file: no restart mends it."""
    path = tmp_path / "absent.pem"
    if content:
        path.write_text(content)

    async def never(process: ScriptedProcess) -> int:
        raise AssertionError("it was launched")

    files = TlsFiles(certificate=str(path), key=str(path), authority=str(path))
    async with supervise(never, tls=files) as supervisor:
        with pytest.raises(PluginFailedError, match=r"absent\.pem"):
            await supervisor.plugin("store").ready()
        report = await exit_of(supervisor)
        assert supervisor.plugin("store").state is State.FAILED

    assert isinstance(report.error, LaunchError)
    assert report.error.errno == number


@pytest.mark.parametrize("network", ["unix", "tcp"])
@pytest.mark.parametrize("manual", [False, True], ids=["auto", "manual"])
async def test_calls_go_through_tls_across_restarts(tmp_path: Path, network: str, manual: bool) -> None:
    """A real plugin is served and called by throw-away certificates, or by the application's; a new life needs no care."""
    authority = Authority(tmp_path)
    fields: dict[str, Any] = {"auto_mtls": True}
    arguments = ["--network", network]
    if manual:
        plugins = authority.issue("plugin")
        fields = {"tls": authority.issue("host")}
        arguments += ["--tls", plugins.certificate, plugins.key, plugins.authority]
    spec = PluginSpec(name="store", command=(sys.executable, str(KV_PLUGIN), *arguments), **fields)
    async with Supervisor([spec], observers=[]) as supervisor:
        kv = await supervisor.dispense("store", KvStub)
        for _ in range(2):
            await kv.put(PutRequest(key="key", value=b"x" * 100_000))
            assert (await kv.get(GetRequest(key="key"))).value == b"x" * 100_000
            await supervisor.plugin("store").restart()
