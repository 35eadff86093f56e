"""go-plugin's own tests of what plugins write, as far as test_stdio_logs.py does not mirror them."""

from __future__ import annotations

import pytest
from interop_proto import LogsStub, Prints
from peers import MakeSpec
from watching import Log, exit_of

from supervisor import Supervisor


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


async def test_client_stderr(go_plugin: MakeSpec) -> None:
    """TestClient_Stderr: what a plugin wrote to stderr before it ended is in the report, line by line."""
    async with Supervisor([go_plugin("evil", "exit", "3")], observers=[]) as supervisor:
        report = await exit_of(supervisor)

    assert report.stderr == ("evil: I would rather not",)


async def test_client_stderr_json(go_plugin: MakeSpec) -> None:
    """TestClient_StderrJSON: JSON that is no record of hclog's is text, whatever it is, and nothing stops."""
    lines = ["[1, 2]", "5", '"text"', "null", "true", '{"not": "hclog"}', '{"half":']
    log = Log()
    async with Supervisor([go_plugin("logs")], observers=[log]) as supervisor:
        logs = await supervisor.dispense("peer", LogsStub)
        before = len(log.records)
        await logs.raw(Prints(stderr="".join(f"{line}\n" for line in lines).encode()))
        await log.heard(before + len(lines))

    assert [record.event for record in log.records if record.event in lines] == lines


async def test_logs_that_nobody_reads(go_plugin: MakeSpec) -> None:
    """BenchmarkClientLogging's "off": a flood that nobody observes is taken off the plugin's hands all the same."""
    flood = b"[INFO]  of no interest to anybody\n" * 30_000
    async with Supervisor([go_plugin("logs")], observers=[]) as supervisor:
        logs = await supervisor.dispense("peer", LogsStub)
        for _ in range(3):
            await logs.raw(Prints(stdout=flood, stderr=flood))
