"""AutoMTLS with the real go-plugin, both ways: Go's certificates are on P-521, ours on P-256."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kv_proto import GetRequest, KvStub, PutRequest
from watching import Log, exit_of

from supervisor import HandshakeError, PluginFailedError, PluginSpec, PluginUnavailableError, Supervisor
from supervisor.errors import CertificateError
from supervisor.outcome import ExitReason

MakeSpec = Callable[..., PluginSpec]
GoHost = Callable[..., list[dict[str, Any]]]

VALUE = bytes(range(256)) * 1024
NETWORKS = {"unix": (), "tcp": ("-tcp",)}


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


def supervise(spec: PluginSpec) -> Supervisor:
    """Supervise one plugin."""
    return Supervisor([spec], observers=[Log()])


async def keeps_a_value(spec: PluginSpec) -> bool:
    """Put a value of many TLS records and get it back."""
    async with supervise(spec) as supervisor:
        kv = await supervisor.dispense("peer", KvStub)
        await kv.put(PutRequest(key="key", value=VALUE))
        return (await kv.get(GetRequest(key="key"))).value == VALUE


@pytest.mark.parametrize("network", NETWORKS)
async def test_our_host_and_a_go_plugin(go_plugin: MakeSpec, network: str) -> None:
    """A Go plugin that is asked for AutoMTLS is called over TLS, on a unix socket and on TCP."""
    assert await keeps_a_value(go_plugin("relay", *NETWORKS[network], "{go}/kv", auto_mtls=True))


@pytest.mark.parametrize("network", NETWORKS)
async def test_our_host_and_our_plugin(python_plugin: MakeSpec, network: str) -> None:
    """Our two wings speak AutoMTLS with each other as with Go."""
    assert await keeps_a_value(python_plugin("served_kv.py", env={"INTEROP_NETWORK": network}, auto_mtls=True))


@pytest.mark.parametrize("network", NETWORKS)
def test_go_host_and_our_plugin(go_host: GoHost, network: str) -> None:
    """A Go host that asks for AutoMTLS calls our plugin over TLS; every step of its exercise passes."""
    steps = go_host("kv", "-auto-mtls", "-size", "1000000", *NETWORKS[network], plugin="served_kv.py")

    assert [step["step"] for step in steps] == ["start", "client", "put", "get", "get missing", "kill"]
    assert [step for step in steps if not step["ok"]] == []
    assert steps[0]["network"] == network


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

    assert await keeps_a_value(go_plugin(*command, insecure=True))
