"""Where go-plugin's own host hangs, crashes or leaves something behind, with plugins built by it: ours does not."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import peers
import pytest
from adders import Adder
from interop_proto import CounterPut, CounterStub
from kv_proto import GetRequest, KvStub, PutRequest
from peers import GoHost, MakeSpec
from watching import Log, exit_of, freeze

from supervisor import Limits, PluginSpec, State, StopPolicy, Supervisor
from supervisor.events import StateChanged, StopRung
from supervisor.outcome import ExitReason

BRISK = StopPolicy(drain=0.2, shutdown=0.2, terminate=0.2, kill=5)


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


async def stop(
    spec: PluginSpec, *, first: Callable[[int], None] = lambda pid: None
) -> tuple[list[str], ExitReason, int | None]:
    """Stop a plugin that is ready, which `first` was done to; return the rungs that it took, and how it ended."""
    log = Log()
    async with Supervisor([spec], observers=[log]) as supervisor:
        await supervisor.ready()
        plugin = supervisor.plugin("peer")
        first(plugin.pid or 0)
        await plugin.stop()
        assert plugin.last_exit is not None
    return [event.rung for event in log.of(StopRung)], plugin.last_exit.reason, plugin.last_exit.status.signal


# --- ends that do not come -----------------------------------------------------------------------------------------


async def test_kill_of_a_stopped_plugin(go_plugin: MakeSpec) -> None:
    """SIGSTOPped, it answers nothing and takes no SIGTERM. go-plugin: `Kill` waits for the Shutdown call for ever."""
    rungs, reason, number = await stop(go_plugin("kv", stop=BRISK), first=freeze)

    assert rungs == ["drain", "shutdown", "terminate", "kill"]
    assert (reason, number) == (ExitReason.STOPPED, signal.SIGKILL)


async def test_shutdown_handler_that_never_returns(go_plugin: MakeSpec) -> None:
    """The Shutdown call has a bound, and SIGTERM comes after it. go-plugin: the call has none, `Kill` never returns."""
    rungs, reason, number = await stop(go_plugin("evil", "slow-shutdown", stop=BRISK))

    assert rungs == ["drain", "shutdown", "terminate"]
    assert (reason, number) == (ExitReason.STOPPED, signal.SIGTERM)


async def test_plugin_that_ignores_signals_too(go_plugin: MakeSpec) -> None:
    """What neither answers nor takes signals is killed. go-plugin: `Kill` never comes to its SIGKILL."""
    rungs, reason, number = await stop(go_plugin("evil", "ignore-signals", stop=BRISK))

    assert rungs == ["drain", "shutdown", "terminate", "kill"]
    assert (reason, number) == (ExitReason.STOPPED, signal.SIGKILL)


async def test_kill_with_a_grandchild_that_holds_the_pipes(go_plugin: MakeSpec) -> None:
    """It ends with its parent. go-plugin: `Kill` waits for the end of the pipes, which comes when the grandchild ends."""
    log = Log()
    async with Supervisor([go_plugin("evil", "grandchild")], observers=[log]) as supervisor:
        await supervisor.ready()
        await log.heard(1)
        grandchild = next(int(str(record.fields["pid"])) for record in log.records if record.event == "grandchild")
        pidfd = os.pidfd_open(grandchild)
        try:
            await supervisor.plugin("peer").stop()
            assert has_ended(pidfd, within=1)
        finally:
            os.close(pidfd)


def has_ended(pidfd: int, *, within: float) -> bool:
    """Whether a process ends within so many seconds."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(within * 1000))


@pytest.mark.parametrize("misbehaviour", [(), ("ignore-signals",)], ids=["kind", "ignoring signals"])
def test_host_that_is_killed(go: Path, misbehaviour: tuple[str, ...]) -> None:
    """Its plugins end with it, the Go ones too, and their directories. go-plugin: they live on for ever."""
    command = peers.go_command(go, "evil" if misbehaviour else "kv", *misbehaviour)
    host = subprocess.Popen(
        [sys.executable, str(peers.HERE / "held_host.py"), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": peers.PYTHONPATH},
    )
    with host:
        assert host.stdout is not None
        pidfd = os.pidfd_open(int(host.stdout.readline()))
        try:
            assert not has_ended(pidfd, within=0)
            host.kill()
            assert has_ended(pidfd, within=2)
        finally:
            host.kill()
            os.close(pidfd)


# --- what plugins write --------------------------------------------------------------------------------------------


async def test_log_line_whose_message_is_a_number(go_plugin: MakeSpec) -> None:
    """`{"@message": 5}` on stderr is a record that says 5. go-plugin: the host panics and is gone."""
    log = Log()
    async with Supervisor([go_plugin("evil", "message-number")], observers=[log]) as supervisor:
        kv = await supervisor.dispense("peer", KvStub)
        for _ in range(2):
            await kv.put(PutRequest(key="key", value=b"value"))
        assert (await kv.get(GetRequest(key="key"))).value == b"value"
    assert [record.event for record in log.records if record.event == "5"] == ["5", "5"]


async def test_line_of_a_megabyte_on_stdout(go_plugin: MakeSpec) -> None:
    """It is cut into pieces, and the lines after it arrive. go-plugin: stdout is read no more, and its writer blocks."""
    log = Log()
    limits = Limits(log_backlog=8 * 1024 * 1024)
    async with Supervisor([go_plugin("evil", "long-line", limits=limits)], observers=[log]) as supervisor:
        kv = await supervisor.dispense("peer", KvStub)
        before = len(log.records)
        await kv.put(PutRequest(key="key", value=b"value"))
        await log.heard(before + 16 + 65_536)
        written = int((await kv.get(GetRequest(key="written"))).value)

    pieces = [record.event for record in log.records if record.event.startswith("xxx")]
    assert len(pieces) == 16
    assert sum(map(len, pieces)) == 1024 * 1024
    assert [record.event for record in log.records].count("0123456789abcde") == 65_536
    assert written == 2 * 1024 * 1024 + 1


async def test_plugin_that_is_not_serving(go_plugin: MakeSpec) -> None:
    """NOT_SERVING is no health: it never becomes ready, and the report says why. go-plugin: `Ping` is content."""
    log = Log()
    spec = go_plugin("evil", "not-serving", start_timeout=0.5)
    async with Supervisor([spec], observers=[log]) as supervisor:
        report = await exit_of(supervisor)

    assert State.READY not in {event.new for event in log.of(StateChanged)}
    assert report.reason is ExitReason.START_TIMEOUT
    assert "health check" in str(report.error)


# --- hosts inside of plugins ---------------------------------------------------------------------------------------

STALE = {
    "PLUGIN_CLIENT_CERT": "-----BEGIN CERTIFICATE-----\nstale\n-----END CERTIFICATE-----\n",
    "PLUGIN_MULTIPLEX_GRPC": "true",
    "PLUGIN_UNIX_SOCKET_DIR": "/nowhere",
    "PLUGIN_UNIX_SOCKET_GROUP": "nobody-at-all",
    "PLUGIN_HOST_SERVICES": "4711",
    "PLUGIN_LIFELINE": "stdin",
    "PLUGIN_PROTOCOL_VERSIONS": "99",
    "PLUGIN_MIN_PORT": "2",
    "PLUGIN_MAX_PORT": "1",
}
"""What a host that is itself a plugin would find in its environment, made worse."""


@pytest.fixture
def stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process look like a plugin of somebody's."""
    for name, value in STALE.items():
        monkeypatch.setenv(name, value)


async def calls_back(spec: PluginSpec) -> None:
    """Have a counter call back."""
    async with Supervisor([spec], observers=[]) as supervisor:
        counter = await supervisor.dispense("peer", CounterStub)
        async with supervisor.plugin("peer").offer(Adder()) as service_id:
            await counter.put(CounterPut(adder=service_id, key="sum", value=1))


async def test_variables_of_an_outer_host_and_a_go_plugin(go_plugin: MakeSpec, stale: None) -> None:
    """They are not handed on. go-plugin: its host panics on the certificate, and multiplexing breaks the connection."""
    await calls_back(go_plugin("counter", inherit_env=True))


async def test_variables_of_an_outer_host_and_our_plugin(python_plugin: MakeSpec, stale: None) -> None:
    """The same with a plugin of ours, which knows more of them."""
    await calls_back(python_plugin("served_counter.py", inherit_env=True))


async def test_hosts_inside_our_plugin_under_our_host(go: Path, python_plugin: MakeSpec) -> None:
    """A plugin with everything its host can ask for runs plugins of its own, by this library and by go-plugin.

    go-plugin hands `PLUGIN_CLIENT_CERT`, the lifeline and the host services on to grandchildren; our plugins forget them.
    """
    spec = python_plugin("nested_plugin.py", env={"INTEROP_GO": str(go)}, auto_mtls=True, multiplex=True)
    async with Supervisor([spec], observers=[], services=[Adder()]) as supervisor:
        kv = await supervisor.dispense("peer", KvStub)
        await kv.put(PutRequest(key="key", value=b"value"), timeout=60)
        assert (await kv.get(GetRequest(key="key"))).value == b"value"


def test_hosts_inside_our_plugin_under_a_go_host(go: Path, go_host: GoHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, with a Go host as the outermost."""
    monkeypatch.setenv("INTEROP_GO", str(go))
    steps = go_host("kv", "-auto-mtls", "-mux", "-call-timeout", "60s", "-patience", "60s", plugin="nested_plugin.py")

    assert [step for step in steps if not step["ok"]] == []
