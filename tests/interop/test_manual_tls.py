"""Certificates that both sides brought, with the real go-plugin: its TLSConfig and its TLSProvider."""

from __future__ import annotations

from pathlib import Path

import pytest
from certificates import Authority
from kv_proto import GetRequest, KvStub, PutRequest
from peers import GoHost, MakeSpec
from watching import exit_of

from supervisor import Supervisor
from supervisor.errors import CertificateError
from supervisor.tls import TlsFiles

modes = pytest.mark.parametrize("multiplex", [False, True], ids=["default", "mux"])


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


def files(folder: Path) -> TlsFiles:
    """Return the host's files."""
    return TlsFiles(certificate=f"{folder}/host.pem", key=f"{folder}/host.key", authority=f"{folder}/authority.pem")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with certificates of one authority for both sides, and those of a stranger in `other`."""
    for at in (tmp_path, tmp_path / "other"):
        at.mkdir(exist_ok=True)
        authority = Authority(at)
        for side in ("host", "plugin"):
            authority.issue(side)
    return tmp_path


@modes
async def test_client_tls_grpc(go_plugin: MakeSpec, folder: Path, multiplex: bool) -> None:
    """TestClient_TLS_grpc: certificates that both sides brought; nothing is exchanged in the handshake."""
    spec = go_plugin("kv", env={"INTEROP_TLS": str(folder)}, tls=files(folder), multiplex=multiplex)
    async with Supervisor([spec], observers=[]) as supervisor:
        kv = await supervisor.dispense("peer", KvStub)
        await kv.put(PutRequest(key="key", value=bytes(100_000)))
        assert (await kv.get(GetRequest(key="key"))).value == bytes(100_000)


@modes
def test_client_tls_grpc_of_a_go_host(go_host: GoHost, folder: Path, multiplex: bool) -> None:
    """TestClient_TLS_grpc: a Go host with a TLSConfig and our plugin, also for what goes through the broker."""
    for exercise in ("counter", "lend"):
        steps = go_host(exercise, "-tls", str(folder), *(["-mux"] if multiplex else []), plugin="served_counter.py")

        assert [step for step in steps if not step["ok"]] == []


async def test_strange_certificate_of_a_go_plugin(go_plugin: MakeSpec, folder: Path) -> None:
    """A Go plugin whose certificate another authority signed is not spoken to."""
    spec = go_plugin("kv", env={"INTEROP_TLS": str(folder)}, tls=files(folder / "other"))
    async with Supervisor([spec], observers=[]) as supervisor:
        report = await exit_of(supervisor)

    assert isinstance(report.error, CertificateError)


def test_strangers_of_our_plugin_with_its_own_certificates(go_host: GoHost, folder: Path) -> None:
    """Whoever has no certificate of the authority gets no answer from our plugin."""
    steps = go_host("strangers", "-tls", str(folder), plugin="served_kv.py")

    assert {step["with"]: step["served"] for step in steps if step["step"] == "stranger"} == {
        "another certificate": False,
        "no certificate": False,
        "plaintext": False,
    }
