"""Who is refused under AutoMTLS with the real go-plugin, both ways; that it works is in test_matrix.py.

Go's certificates are on P-521, ours on P-256.
"""

from __future__ import annotations

import pytest
from kv_proto import GetRequest, KvStub, PutRequest
from peers import GoHost, MakeSpec
from watching import Log, exit_of

from supervisor import HandshakeError, PluginFailedError, PluginSpec, PluginUnavailableError, Supervisor
from supervisor.errors import CertificateError
from supervisor.outcome import ExitReason

NETWORKS = {"unix": (), "tcp": ("-tcp",)}


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


def supervise(spec: PluginSpec) -> Supervisor:
    """Supervise one plugin."""
    return Supervisor([spec], observers=[Log()])


@pytest.mark.parametrize("network", NETWORKS)
def test_strangers_are_refused_by_our_plugin(go_host: GoHost, network: str) -> None:
    """Whoever has another certificate, none, or does not speak TLS gets no answer from a plugin under AutoMTLS."""
    steps = go_host("strangers", "-auto-mtls", *NETWORKS[network], plugin="served_kv.py")

    strangers = {step["with"]: step["served"] for step in steps if step["step"] == "stranger"}
    assert strangers == {"another certificate": False, "no certificate": False, "plaintext": False}
    assert [step for step in steps if not step["ok"]] == []


@pytest.mark.parametrize("network", NETWORKS)
async def test_plugin_with_another_certificate_is_refused(go_plugin: MakeSpec, network: str) -> None:
    """A plugin that serves with another certificate than the handshake announced is not spoken to."""
    async with supervise(go_plugin("relay", *NETWORKS[network], "-swap-cert", "{go}/kv", auto_mtls=True)) as supervisor:
        report = await exit_of(supervisor)

    assert report.reason is ExitReason.CONNECT
    assert isinstance(report.error, CertificateError)
    assert "is not the one it announced" in str(report.error)


async def test_certificate_that_nobody_asked_for(go_plugin: MakeSpec) -> None:
    """It is an error that names the setting, and no restart is tried; a Go host dereferences nil and crashes."""
    async with supervise(go_plugin("evil", "unasked-cert")) as supervisor:
        with pytest.raises(PluginFailedError, match=r"announced a certificate that nobody asked for.*auto_mtls = true"):
            await supervisor.dispense("peer", KvStub)
        report = await exit_of(supervisor)

    assert isinstance(report.error, HandshakeError)
    assert report.error.field == "certificate"


async def test_tcp_without_tls_is_refused_unless_that_is_meant(go_plugin: MakeSpec) -> None:
    """`insecure = true` is what it takes; go-plugin accepts it in silence."""
    command = ("relay", "-tcp", "{go}/kv")
    async with supervise(go_plugin(*command)) as supervisor:
        with pytest.raises(PluginUnavailableError, match=r"without TLS.*auto_mtls = true, or insecure = true"):
            await supervisor.dispense("peer", KvStub)

    async with supervise(go_plugin(*command, insecure=True)) as supervisor:
        kv = await supervisor.dispense("peer", KvStub)
        await kv.put(PutRequest(key="key", value=b"value"))
        assert (await kv.get(GetRequest(key="key"))).value == b"value"
