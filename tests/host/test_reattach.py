"""A plugin that outlives its host, and the next host that takes it over. Real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from errands import Greeter, GreeterStub, run_errand
from kv_proto import GetRequest, KvStub
from watching import Log, exit_of, freeze, until_state
from witness import Witness

from supervisor import (
    HealthProbe,
    LogRecord,
    PluginCrashedError,
    PluginSpec,
    PluginUnavailableError,
    ReattachError,
    ReattachToken,
    Restart,
    RestartPolicy,
    State,
    StopPolicy,
    Supervisor,
)
from supervisor.address import UnixAddress
from supervisor.events import InstanceAttached, InstanceLaunched
from supervisor.outcome import ExitReason, ExitStatus
from supervisor.records import LogSource
from supervisor.testing.scripted import ScriptedProcess, ScriptedRunner
from supervisor.transport.dial import dial

HERE = Path(__file__).parent
KV = (sys.executable, str(HERE.parent / "faults" / "kv_plugin.py"))
ERRANDS = str(HERE.parent / "kit" / "errand_plugin.py")
SPEC = PluginSpec(name="store", command=KV, survive_host=True)


@pytest.fixture(autouse=True)
def no_process_left(no_orphan_left: None, children_reaped: None) -> None:
    """Hold every test to leaving no process and no directory either, whoever is their parent."""


@pytest.fixture
def witness() -> Iterator[Witness]:
    """Return who can tell which processes are gone; it kills what a failed test would leave."""
    witness = Witness()
    yield witness
    witness.close()


@contextmanager
def first_host(*command: str) -> Iterator[tuple[subprocess.Popen[str], ReattachToken]]:
    """Run a host whose plugin is to survive it; yield the host and the token that it stored."""
    host = subprocess.Popen(
        [sys.executable, str(HERE / "first_host.py"), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with host:
        try:
            assert host.stdout is not None
            yield host, ReattachToken.from_json(host.stdout.readline())
        finally:
            host.kill()


def leave(host: subprocess.Popen[str], how: str) -> None:
    """Have the first host leave, and wait until it is gone."""
    if how == "killed":
        host.kill()
        host.wait(20)
    else:
        host.communicate(f"{how}\n", timeout=20)


@asynccontextmanager
async def surviving(spec: PluginSpec = SPEC) -> AsyncIterator[ReattachToken]:
    """Run a plugin that was started and let go of; whoever takes it over has to end it."""
    async with Supervisor([spec], observers=()) as supervisor:
        await supervisor.ready()
        token = await supervisor.plugin("store").detach()
    yield token


# --- the host is upgraded ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["detach", "exit", "killed"])
async def test_a_plugin_lives_through_the_upgrade_of_its_host(witness: Witness, how: str) -> None:
    """The next host finds the same process with what it remembers, keeps it, restarts it, and leaves nothing of it."""
    with first_host(*KV) as (host, token):
        witness.watch(token.process.pid)
        leave(host, how)
    assert witness.survivors() == {token.process.pid}
    log = Log()
    async with Supervisor([SPEC], observers=[log]) as supervisor:
        plugin = await supervisor.reattach(token)
        store = await supervisor.dispense("store", KvStub)
        assert (await store.get(GetRequest(key="greeting"))).value == b"from the first host"
        assert int((await store.get(GetRequest(key="pid"))).value) == plugin.pid == token.process.pid
        assert (plugin.state, plugin.generation, log.of(InstanceLaunched)) == (State.READY, 1, [])
        assert [event.pid for event in log.of(InstanceAttached)] == [token.process.pid]

        os.kill(token.process.pid, signal.SIGKILL)
        report = await exit_of(supervisor)
        assert (report.reason, report.status, report.generation) == (ExitReason.UNKNOWN, ExitStatus(), 1)
        await plugin.ready()
        assert plugin.generation == 2
        assert plugin.pid == log.of(InstanceLaunched)[0].pid != token.process.pid
    assert witness.survivors() == set()


async def test_its_logs_flow_again(tmp_path: Path, witness: Witness) -> None:
    """Without a host nobody reads its stderr, which neither ends nor blocks it; the next host hears all three ways."""
    fifo = tmp_path / "done"
    os.mkfifo(fifo)
    command = (sys.executable, str(HERE / "chatty_plugin.py"), str(fifo))
    with first_host(*command) as (host, token):
        witness.watch(token.process.pid)
        leave(host, "killed")
    os.kill(token.process.pid, signal.SIGUSR1)
    fifo.read_bytes()

    async with Supervisor([replace(SPEC, command=command)], observers=()) as supervisor:
        plugin = await supervisor.reattach(token)
        store = await supervisor.dispense("store", KvStub)
        with plugin.logs() as logs:
            answer = await store.get(GetRequest(key="say:here I am"))
            heard = await next_record(logs, lambda record: record.source is LogSource.STDERR)
        assert int(answer.value) > 1_000_000
        assert heard.event == "here I am"


async def test_its_typed_records_flow_again() -> None:
    """The log stream has a new reader: a traceback arrives as a record with its exception."""
    async with surviving() as token, Supervisor([SPEC], observers=()) as supervisor:
        plugin = await supervisor.reattach(token)
        store = await supervisor.dispense("store", KvStub)
        with plugin.logs() as logs:
            with pytest.raises(Exception, match="Internal Server Error"):
                await store.get(GetRequest(key="raise"))
            record = await next_record(logs, lambda record: record.source is LogSource.STREAM)
        assert record.exception is not None
        assert record.exception.message == "asked to raise"


async def test_host_services_are_the_new_hosts() -> None:
    """A plugin that called the first host calls the one that took it over; what either side lends works again, too."""
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = (sys.executable, ERRANDS)
    spec = PluginSpec(name="errands", command=command, env=environment, survive_host=True)
    async with Supervisor([spec], observers=(), services=[Greeter(lambda name: f"first {name}")]) as supervisor:
        channel = await supervisor.dispense("errands", lambda channel: channel)
        assert await run_errand(channel, "Host", 1) == "first 1"
        token = await supervisor.plugin("errands").detach()
    async with Supervisor([spec], observers=(), services=[Greeter(lambda name: f"second {name}")]) as supervisor:
        plugin = await supervisor.reattach(token)
        channel = await supervisor.dispense("errands", lambda channel: channel)
        assert await run_errand(channel, "Host", 2) == "second 2"
        async with plugin.offer(Greeter(lambda name: f"lent to {name}")) as service_id:
            assert await run_errand(channel, "Greet", service_id) == "lent to plugin"
        async with plugin.dial(int(await run_errand(channel, "Lend", 3)), GreeterStub) as greeter:
            assert await greeter.greet("you") == "you 3"


async def next_record(logs: Any, wanted: Callable[[LogRecord], bool]) -> LogRecord:
    """Return the next record that is wanted; bounded."""
    async with asyncio.timeout(20):
        async for record in logs:
            if wanted(record):
                found: LogRecord = record
                return found
    pytest.fail("the records have ended")


async def test_calls_under_way_are_finished_before_it_is_let_go() -> None:
    """Detaching refuses new calls and waits for those in flight, as a stop does."""
    async with Supervisor([SPEC], observers=()) as supervisor:
        store = await supervisor.dispense("store", KvStub)
        plugin = supervisor.plugin("store")
        address = plugin.reattach_token().address
        call = asyncio.create_task(store.get(GetRequest(key="hanging:1")))
        while not plugin.in_flight:
            await asyncio.sleep(0)
        parting = asyncio.create_task(plugin.detach())
        await until_state(State.DRAINING, supervisor)
        with pytest.raises(PluginUnavailableError):
            await store.get(GetRequest(key="pid"))
        aside = await dial(address, timeout=5)
        hanging = asyncio.create_task(KvStub(aside).get(GetRequest(key="hang")))
        await call
        token = await parting
        aside.close()
        await asyncio.wait({hanging})
        assert hanging.exception() is not None
    async with Supervisor([SPEC], observers=()) as supervisor:
        await supervisor.reattach(token)


async def test_a_plugin_has_one_host_at_a_time() -> None:
    """Whoever comes second is told so, and may come again when the first has left."""
    async with Supervisor([SPEC], observers=()) as first, Supervisor([SPEC], observers=()) as second:
        await first.ready()
        plugin = first.plugin("store")
        with pytest.raises(ReattachError, match="another host has it") as caught:
            await second.reattach(plugin.reattach_token())
        assert not caught.value.gone
        assert plugin.state is State.READY
        await second.reattach(await plugin.detach())


async def test_it_can_be_handed_on_again_and_again() -> None:
    """Who took it over can let go of it too; the life keeps its number."""
    async with surviving() as token:
        for _ in range(3):
            async with Supervisor([SPEC], observers=()) as supervisor:
                plugin = await supervisor.reattach(token)
                assert (plugin.pid, plugin.generation) == (token.process.pid, 1)
                assert plugin.reattach_token() == token
                assert await plugin.detach() == token
                assert plugin.state is State.STOPPED
        async with Supervisor([SPEC], observers=()) as supervisor:
            await supervisor.reattach(token)


async def test_a_life_that_runs_is_stopped_for_it(witness: Witness) -> None:
    """Said late, it replaces what the supervisor has started meanwhile."""
    async with surviving() as token, Supervisor([SPEC], observers=()) as supervisor:
        await supervisor.ready()
        other = supervisor.plugin("store").pid
        assert other is not None
        witness.watch(other)
        plugin = await supervisor.reattach(token)
        assert plugin.pid == token.process.pid
        assert witness.survivors() == set()
        assert plugin.generation == 2


async def test_a_plugin_that_ends_without_a_host_leaves_nothing(witness: Witness) -> None:
    """Its caretaker removes the directory and ends; a token of it says that it is gone."""
    with first_host(*KV) as (host, token):
        witness.watch(token.process.pid)
        leave(host, "killed")
    os.kill(token.process.pid, signal.SIGKILL)
    assert witness.survivors(within=20) == set()
    async with Supervisor([SPEC], observers=()) as supervisor:
        with pytest.raises(ReattachError) as caught:
            await supervisor.reattach(token)
        assert caught.value.gone
        await supervisor.plugin("store").start()


async def test_another_host_that_starts_leaves_its_directory_alone() -> None:
    """Hosts remove what dead ones have left; what a surviving plugin needs is not of that kind."""
    async with surviving() as token:
        async with Supervisor([replace(SPEC, survive_host=False)], observers=()) as supervisor:
            await supervisor.ready()
        assert isinstance(token.address, UnixAddress)
        assert os.path.exists(token.address.path)  # noqa: ASYNC240  # blocking for a moment hurts nobody here
        async with Supervisor([SPEC], observers=()) as supervisor:
            await supervisor.reattach(token)


async def test_stopping_it_ends_it_all_the_same(witness: Witness) -> None:
    """Surviving is for hosts that are gone: a stop is a stop, and so is leaving the supervisor."""
    async with Supervisor([SPEC], observers=()) as supervisor:
        await supervisor.ready()
        plugin = supervisor.plugin("store")
        assert plugin.pid is not None
        witness.watch(plugin.pid)
        await plugin.stop()
        assert witness.survivors() == set()
        await plugin.start()
        witness.watch(plugin.pid)
    assert witness.survivors() == set()


async def test_the_stop_of_what_was_taken_over_climbs_the_whole_ladder(witness: Witness) -> None:
    """A plugin whose call never ends and that ignores SIGTERM is killed, as if it had been launched here."""
    async with surviving() as token:
        witness.watch(token.process.pid)
        stop = StopPolicy(drain=0.05, shutdown=0.05, terminate=0.05)
        async with Supervisor([replace(SPEC, stop=stop)], observers=()) as supervisor:
            plugin = await supervisor.reattach(token)
            freeze(token.process.pid)
            await plugin.stop()
        assert witness.survivors() == set()


async def test_liveness_is_watched_after_a_reattach() -> None:
    """A plugin that answers no more is ended, and follows itself as a child of this host."""
    async with surviving() as token:
        health = HealthProbe(interval=0.05, timeout=0.5, failures=1)
        async with Supervisor([replace(SPEC, health=health)], observers=()) as supervisor:
            plugin = await supervisor.reattach(token)
            freeze(token.process.pid)
            report = await exit_of(supervisor)
            await plugin.ready()
            assert (report.reason, plugin.generation) == (ExitReason.LIVENESS, 2)


# --- what is refused ---------------------------------------------------------------------------------------------------


@pytest.fixture
def innocent(witness: Witness) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that has nothing to do with plugins, and find it alive and well in the end."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    assert process.poll() is None
    process.communicate(b"\n")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("change", "gone", "part"),
    [
        ({"started": 1}, True, "another process's by now"),
        ({"boot_id": "another"}, True, "started anew"),
        ({"started": 0, "boot_id": "", "lineage": "", "directory": ""}, False, "not part of the plugin"),
    ],
    ids=["reused", "another boot", "pid alone"],
)
async def test_row_87_a_recycled_pid_is_never_signalled(
    innocent: subprocess.Popen[bytes], change: dict[str, Any], gone: bool, part: str
) -> None:
    """The token's pid is an innocent's by now: start time, boot and the socket's owner say so, one by one."""
    async with surviving() as token:
        process = replace(token.process, **{"pid": innocent.pid, **change})
        async with Supervisor([SPEC], observers=()) as supervisor:
            with pytest.raises(ReattachError, match=part) as caught:
                await supervisor.reattach(replace(token, process=process))
            assert caught.value.gone is gone
            assert (caught.value.plugin, caught.value.phase) == ("store", "reattach")
            assert supervisor.plugin("store").state is State.FAILED
            # The token itself is good, and whoever failed once may try again.
            await supervisor.reattach(token)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"version": 7}, "version 7"),
        ({"address": UnixAddress("/nowhere/at/all")}, "No such file"),
        ({"address": UnixAddress("/dev/null")}, "not a socket"),
    ],
    ids=["version", "address", "no socket"],
)
async def test_what_does_not_fit_is_refused_and_left_alone(witness: Witness, change: dict[str, Any], part: str) -> None:
    """A version that the host does not accept, an address at which nobody listens: the process lives on."""
    async with surviving() as token:
        witness.watch(token.process.pid)
        async with Supervisor([SPEC], observers=()) as supervisor:
            with pytest.raises(ReattachError, match=part) as caught:
                await supervisor.reattach(replace(token, **change))
            assert not caught.value.gone
        assert witness.survivors() == {token.process.pid}
        async with Supervisor([SPEC], observers=()) as supervisor:
            await supervisor.reattach(token)


async def test_a_process_that_does_not_answer_is_left_alone(witness: Witness) -> None:
    """The right process, but no health check: it is not confirmed, so it is not killed."""
    async with surviving() as token:
        witness.watch(token.process.pid)
        freeze(token.process.pid)
        async with Supervisor([replace(SPEC, connect_timeout=0.2)], observers=()) as supervisor:
            with pytest.raises(ReattachError, match="did not speak HTTP/2"):
                await supervisor.reattach(token)
        assert witness.survivors() == {token.process.pid}
        os.kill(token.process.pid, signal.SIGCONT)
        async with Supervisor([SPEC], observers=()) as supervisor:
            await supervisor.reattach(token)


async def test_a_restart_meanwhile_does_not_double_it() -> None:
    """The process that was being taken over is restarted or taken over, and never left beside a second one."""
    async with surviving() as token, Supervisor([SPEC], observers=()) as supervisor:
        freeze(token.process.pid)  # slow to answer
        taking_over = asyncio.ensure_future(supervisor.reattach(token))
        plugin = supervisor.plugin("store")
        while plugin.pid != token.process.pid:
            await asyncio.sleep(0)
        restarting = asyncio.ensure_future(plugin.restart())
        await asyncio.sleep(0)
        os.kill(token.process.pid, signal.SIGCONT)
        assert (await taking_over).pid == token.process.pid
        await restarting
        assert plugin.pid == token.process.pid


async def test_the_later_of_two_orders_counts() -> None:
    """And whoever gave the earlier one is told, instead of being handed somebody else's process."""
    async with surviving() as one, surviving() as other, Supervisor([SPEC], observers=()) as supervisor:
        outcomes = await asyncio.gather(supervisor.reattach(one), supervisor.reattach(other), return_exceptions=True)
        assert isinstance(outcomes[0], ReattachError)
        assert supervisor.plugin("store").pid == other.process.pid
        await supervisor.reattach(one)
        async with Supervisor([SPEC], observers=()) as another:
            with pytest.raises(ReattachError):
                await another.reattach(other)  # replaced, it was stopped


async def test_a_stop_forgets_the_token() -> None:
    """A start that comes later starts, whatever was to be taken over before."""
    async with surviving() as token:
        async with Supervisor([SPEC], observers=()) as supervisor:
            taking_over = asyncio.ensure_future(supervisor.reattach(token))
            await asyncio.sleep(0)
            plugin = supervisor.plugin("store")
            await plugin.stop()
            await asyncio.gather(taking_over, return_exceptions=True)
            await plugin.start()
            assert plugin.pid != token.process.pid
        async with Supervisor([SPEC], observers=()) as supervisor:
            await supervisor.reattach(token)


async def test_a_token_with_anothers_directory_is_refused() -> None:
    """That plugin's caretaker and sockets would go with the wrong process."""
    async with surviving() as one, surviving() as other:
        mixed = replace(one, process=replace(one.process, directory=other.process.directory))
        async with Supervisor([SPEC], observers=()) as supervisor:
            with pytest.raises(ReattachError, match="is not the directory of process"):
                await supervisor.reattach(mixed)
        for token in (one, other):
            async with Supervisor([SPEC], observers=()) as supervisor:
                await supervisor.reattach(token)


async def test_a_host_never_takes_itself_over() -> None:
    """Nor what it runs below: their trees are its own."""
    async with surviving() as token, Supervisor([SPEC], observers=()) as supervisor:
        for pid in (os.getpid(), os.getppid()):
            with pytest.raises(ReattachError, match="this host"):
                await supervisor.reattach(replace(token, process=replace(token.process, pid=pid)))
        await supervisor.reattach(token)


async def test_a_failed_reattach_does_not_take_the_supervisor_down() -> None:
    """Not even with `escalate`: whoever asked for it is told, and decides what comes now."""
    async with surviving() as token:
        async with Supervisor([replace(SPEC, escalate=True)], observers=()) as supervisor:
            with pytest.raises(ReattachError):
                await supervisor.reattach(replace(token, version=7))
            await supervisor.plugin("store").start()
        async with Supervisor([SPEC], observers=()) as supervisor:
            await supervisor.reattach(token)


async def test_a_process_in_test_mode_is_never_ended() -> None:
    """Somebody else ends it, a debugger say: stopping the plugin lets go of it."""
    async with surviving() as token:
        async with Supervisor([SPEC], observers=()) as supervisor:
            plugin = await supervisor.reattach(replace(token, test=True))
            assert plugin.reattach_token().test
        async with Supervisor([SPEC], observers=()) as supervisor:
            plugin = await supervisor.reattach(token)
            assert plugin.pid == token.process.pid


@pytest.mark.parametrize("settings", [{"auto_mtls": True}, {"multiplex": True}], ids=str)
async def test_what_ends_with_its_host_has_no_token(settings: dict[str, bool]) -> None:
    """Keys that only this host has, a connection that is the only one: neither can be handed on."""
    async with Supervisor([PluginSpec(name="store", command=KV, **settings)], observers=()) as supervisor:  # type: ignore[arg-type]  # booleans
        await supervisor.ready()
        with pytest.raises(ReattachError):
            supervisor.plugin("store").reattach_token()


async def test_who_does_not_survive_cannot_be_let_go_of() -> None:
    """Its token is good for as long as its host lives, and says so."""
    async with Supervisor([PluginSpec(name="store", command=KV)], observers=()) as supervisor:
        await supervisor.ready()
        plugin = supervisor.plugin("store")
        assert not plugin.reattach_token().survives_host
        with pytest.raises(ReattachError, match="survive_host"):
            await plugin.detach()
        assert plugin.state is State.READY
        await plugin.stop()
        with pytest.raises(PluginUnavailableError):
            plugin.reattach_token()


async def test_a_runner_without_processes_says_so() -> None:
    """Reattaching is the runner's to do."""

    async def script(process: ScriptedProcess) -> int:
        return await process.serve()

    async with surviving() as token:
        async with Supervisor([SPEC], observers=(), runner=lambda: ScriptedRunner(script)) as supervisor:
            with pytest.raises(ReattachError, match="runner"):
                await supervisor.reattach(token)
            await supervisor.plugin("store").start()
            with pytest.raises(ReattachError):
                supervisor.plugin("store").reattach_token()
        async with Supervisor([SPEC], observers=()) as supervisor:
            await supervisor.reattach(token)


async def test_a_crash_under_a_call_is_told_as_ever() -> None:
    """The call hears that the process died, and that nobody knows how."""
    once = RestartPolicy(restart=Restart.TEMPORARY)
    async with surviving() as token, Supervisor([replace(SPEC, restart=once)], observers=()) as supervisor:
        await supervisor.reattach(token)
        store = await supervisor.dispense("store", KvStub)
        with pytest.raises(PluginCrashedError) as caught:
            await store.get(GetRequest(key="crash:3"))
        assert caught.value.report is not None
        assert caught.value.report.status == ExitStatus()
