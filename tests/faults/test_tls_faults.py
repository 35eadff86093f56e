"""Row 78: on TCP every user of the machine can listen first or connect first; the pinned certificates keep them out."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from kv_proto import GetRequest, KvStub, PutRequest
from watching import Log, exit_of

from supervisor import PluginSpec, Restart, RestartPolicy, Supervisor
from supervisor.address import TcpAddress
from supervisor.errors import CertificateError, ConnectError, TransportError
from supervisor.events import HandshakeDone
from supervisor.outcome import ExitReason
from supervisor.testing.transport_contract import ContractService
from supervisor.transport.dial import dial
from supervisor.transport.server import Server
from supervisor.transport.tls import make_identity

Supervise = Callable[..., Supervisor]
MakeSpec = Callable[..., PluginSpec]

ONCE = RestartPolicy(restart=Restart.TEMPORARY)


@pytest.mark.parametrize("secured", [True, False], ids=["speaks TLS", "speaks plain text"])
async def test_row_78_port_taken_first(supervise: Supervise, evil: MakeSpec, secured: bool) -> None:
    """Somebody else listens where the plugin says it does: refused by the certificate, before a call is sent."""
    announced, other = make_identity(), make_identity()
    server = Server([ContractService()])
    where = await server.start(TcpAddress("127.0.0.1", 0), tls=other.pin(announced.certificate) if secured else None)
    field = base64.b64encode(announced.certificate).decode().rstrip("=")
    async with supervise(evil("print", f"1|1|tcp|{where}|grpc|{field}", "hang", restart=ONCE, auto_mtls=True)) as host:
        report = await exit_of(host)
    await server.stop()

    assert report.reason is ExitReason.CONNECT
    assert isinstance(report.error, CertificateError if secured else ConnectError)
    assert report.uptime < 2


async def test_row_78_foreign_client(supervise: Supervise, kv: MakeSpec, log: Log) -> None:
    """A plugin on TCP answers nobody but its host, says who tried, and goes on serving."""
    async with supervise(kv("--network", "tcp", auto_mtls=True)) as host:
        store = await host.dispense("store", KvStub)
        (done,) = log.of(HandshakeDone)
        name, _, port = done.address.rpartition(":")
        where = TcpAddress(name, int(port))
        stranger = make_identity()
        for tls in (stranger.pin(stranger.certificate), None):
            with pytest.raises(TransportError):
                await dial(where, timeout=5, tls=tls)
        await store.put(PutRequest(key="key", value=b"value"))
        assert (await store.get(GetRequest(key="key"))).value == b"value"

    said = [record for record in log.records if record.event == "refused a connection"]
    assert len(said) == 2
