"""Plugins that are handed from one host to another, with the real go-plugin on one of the sides."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import peers
import pytest
from interop_proto import LogLine, LogsStub
from kv_proto import GetRequest, KvStub, PutRequest
from peers import MakeSpec, Step
from witness import Witness

from supervisor import LogRecord, PluginSpec, ReattachError, ReattachToken, State, Supervisor
from supervisor.records import LogSource

DEBUGGED = peers.python_command("served_kv.py", "--debug=peer")


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None, children_reaped: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


@pytest.fixture
def witness() -> Iterator[Witness]:
    """Return who can tell which processes are gone; it kills what a failed test would leave."""
    witness = Witness()
    yield witness
    witness.close()


def step_named(steps: list[Step], name: str) -> Step:
    """Return what the Go host says of a step, which must have gone well."""
    step = next(step for step in steps if step["step"] == name)
    assert step["ok"], step
    return step


def left_by(steps: list[Step]) -> ReattachToken:
    """Return the plugin that the Go host has left, by the ReattachConfig that it printed."""
    return ReattachToken.from_go_plugin(json.dumps(step_named(steps, "leave")["attach"]), name="peer")


@contextmanager
def debugged() -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run a Python plugin in debug mode; yield it and what it says that hosts have to be told."""
    process = subprocess.Popen(
        DEBUGGED,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": peers.PYTHONPATH},
    )
    with process:
        try:
            assert process.stdout is not None
            said = dict(
                line.strip().split("=", 1)
                for line in iter(process.stdout.readline, "Ctrl-C ends it.\n")
                if "='" in line
            )
            yield process, {name: value.strip("'") for name, value in said.items()}
        finally:
            process.kill()


# --- a Go host leaves, ours takes over ---------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["go", "python"])
async def test_plugin_that_a_go_host_has_left(
    go: Path, go_plugin: MakeSpec, python_plugin: MakeSpec, witness: Witness, language: str
) -> None:
    """TestClient_reattachGRPC: its ReattachConfig is enough; from then on the plugin is ours, to its end and restart."""
    spec = go_plugin("kv") if language == "go" else python_plugin("served_kv.py")
    steps = peers.go_host(go, "kv", "-leave", command=spec.command)
    token = left_by(steps)
    witness.watch(token.process.pid)

    async with Supervisor([spec], observers=()) as supervisor:
        plugin = await supervisor.reattach(token)
        store = await supervisor.dispense("peer", KvStub)
        assert (await store.get(GetRequest(key="greeting"))).value == b"v" * 16
        assert plugin.pid == token.process.pid
        await plugin.restart()
        assert witness.survivors() == set()
        assert plugin.pid != token.process.pid


def run_innocent() -> subprocess.Popen[bytes]:
    """Run a process that has nothing to do with plugins, and ends when it is told to."""
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


async def test_plugin_on_tcp_that_a_go_host_has_left(go: Path, go_plugin: MakeSpec, witness: Witness) -> None:
    """Of TCP the kernel does not say who answers; it says which process listens, and that has to be the one."""
    spec = go_plugin("relay", "-tcp", "{go}/kv", insecure=True)
    token = left_by(peers.go_host(go, "kv", "-leave", command=spec.command))
    witness.watch(token.process.pid)
    other = run_innocent()
    async with Supervisor([spec], observers=()) as supervisor:
        with pytest.raises(ReattachError, match="does not listen at"):
            await supervisor.reattach(replace(token, process=replace(token.process, pid=other.pid)))
        await supervisor.reattach(token)
        store = await supervisor.dispense("peer", KvStub)
        assert (await store.get(GetRequest(key="greeting"))).value == b"v" * 16
    assert other.poll() is None
    other.communicate(b"\n")
    assert witness.survivors(within=20) == set()


async def test_recycled_pid_of_a_go_plugin(go: Path, go_plugin: MakeSpec, witness: Witness) -> None:
    """go-plugin before 1.6.2 killed whoever had the pid by then; here the socket's owner is asked first."""
    token = left_by(peers.go_host(go, "kv", "-leave", command=go_plugin("kv").command))
    witness.watch(token.process.pid)
    os.kill(token.process.pid, signal.SIGKILL)
    assert witness.survivors(within=20) == set()
    innocent = run_innocent()
    async with Supervisor([go_plugin("kv")], observers=()) as supervisor:
        with pytest.raises(ReattachError):
            await supervisor.reattach(replace(token, process=replace(token.process, pid=innocent.pid)))
        assert supervisor.plugin("peer").state is State.FAILED
    assert innocent.poll() is None
    innocent.communicate(b"\n")
    # Its socket is left, as go-plugin's are.
    Path(str(token.address)).unlink()  # noqa: ASYNC240  # blocking for a moment hurts nobody here


# --- a host of ours is gone, the next one or a Go host takes over --------------------------------------------------------


async def test_go_plugin_that_survives_its_host(go_plugin: MakeSpec) -> None:
    """The next host finds its values; and its stderr, which somebody has kept open, is heard again."""
    spec = go_plugin("logs", survive_host=True)
    async with Supervisor([spec], observers=()) as supervisor:
        await supervisor.ready()
        token = await supervisor.plugin("peer").detach()
    heard: list[LogRecord] = []
    async with Supervisor([spec], observers=()) as supervisor:
        plugin = await supervisor.reattach(token)
        logs = await supervisor.dispense("peer", LogsStub)
        with plugin.logs() as records:
            await logs.log(LogLine(level="warn", message="still here"))
            async with asyncio.timeout(20):
                async for record in records:
                    heard.append(record)
                    if record.event == "still here":
                        break
    assert heard[-1].source is LogSource.STDERR


@pytest.mark.parametrize("language", ["go", "python"])
async def test_go_host_takes_over_from_ours(
    go: Path, go_plugin: MakeSpec, python_plugin: MakeSpec, witness: Witness, language: str
) -> None:
    """A token in go-plugin's form leads a Go host to a plugin that we have let go of; it ends it in order."""
    spec = go_plugin("kv", survive_host=True) if language == "go" else python_plugin("served_kv.py", survive_host=True)
    async with Supervisor([spec], observers=()) as supervisor:
        store = await supervisor.dispense("peer", KvStub)
        await store.put(PutRequest(key="mine", value=b"1"))
        token = await supervisor.plugin("peer").detach()
    witness.watch(token.process.pid)
    steps = await asyncio.to_thread(peers.go_host, go, "kv", "-attach", token.to_go_plugin(), command=())
    assert [step for step in steps if not step["ok"]] == []
    assert step_named(steps, "kill")["alive"] is False
    assert witness.survivors(within=20) == set()


# --- debug mode --------------------------------------------------------------------------------------------------------


def test_go_host_attaches_to_a_plugin_in_debug_mode(go: Path) -> None:
    """TestServer_testMode: TF_REATTACH_PROVIDERS as we print it; killing it does nothing, since its person ends it."""
    with debugged() as (process, said):
        attachment = json.dumps(json.loads(said["TF_REATTACH_PROVIDERS"])["peer"])
        for _ in range(2):
            steps = peers.go_host(go, "kv", "-attach", attachment, command=())
            assert [step for step in steps if not step["ok"]] == []
            assert step_named(steps, "kill")["alive"] is True
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


async def test_our_host_attaches_to_a_plugin_in_debug_mode(
    python_plugin: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SUPERVISOR_REATTACH is all that a host needs; it never ends what a person debugs."""
    spec: PluginSpec = python_plugin("served_kv.py")
    with debugged() as (process, said):
        monkeypatch.setenv("SUPERVISOR_REATTACH", said["SUPERVISOR_REATTACH"])
        for value in (b"1", b"2"):
            async with Supervisor([spec], observers=()) as supervisor:
                store = await supervisor.dispense("peer", KvStub)
                assert supervisor.plugin("peer").pid == process.pid
                await store.put(PutRequest(key="kept", value=value))
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
