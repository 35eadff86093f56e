"""Start-up: from the spawn of a Python plugin to its first answered call, and the CPU that the plugin takes until then.

python -m benchmarks.start_up [--json] [--plot FILE] [--rounds N] [--only SYSTEM,...]

Every plugin is the least that its library allows (`start_up_plugins/`), is started the same way, prints the same handshake
line and is called once through the same channel; its modules are compiled. `ours` imports the SDK before its
stubs, as a project does where one is installed and the other lies beside the program; `ours_stubs_first` does not.
`ours_supervised` is `ours`, started by a `Supervisor` that is made for it. An empty program shows what the interpreter takes.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from benchmarks.clocks import cpu_seconds
from benchmarks.comparison import Comparison, Plan, run
from benchmarks.contract import KEY, PROJECT, VALUE, GetRequest, KvStub
from benchmarks.figures import Figures, Results
from benchmarks.generate import generate_google_kv
from benchmarks.harness import take_turns
from benchmarks.report import Column
from benchmarks.systems.plugin_process import plugin_environment, read_handshake
from supervisor import PluginSpec, Supervisor
from supervisor.address import UnixAddress
from supervisor.transport.dial import dial
from supervisor.transport.generated import repair_stub

_PLUGINS = Path(__file__).parent / "start_up_plugins"
_PATIENCE = 30.0
"""Seconds for a plugin to answer."""

COMPARISON = Comparison(
    name="start_up",
    about=__doc__,
    headline="spawn of a Python plugin to the first answered call",
    legend=(
        "ms: from the spawn to the answer; line: to the handshake; CPU ms: of the plugin until the answer; MB: of memory that\n"
        "is resident by then"
    ),
    systems=("ours", "ours_stubs_first", "ours_supervised", "stock_grpclib", "grpc_aio", "interpreter"),
    references=("grpc_aio", "stock_grpclib"),
    columns=(
        Column("ms", "first_call", "ms", lambda figures: f"{figures['ms']:.1f}"),
        Column("line", "first_call", "line_ms", lambda figures: f"{figures['line_ms']:.1f}"),
        Column("CPU ms", "first_call", "plugin_cpu_ms", lambda figures: f"{figures['plugin_cpu_ms']:.1f}"),
        Column("MB", "first_call", "plugin_mb", lambda figures: f"{figures['plugin_mb']:.1f}"),
    ),
    rounds=15,
)


def read_figures(begun: float, pid: int) -> Figures:
    """Return the figures of a plugin that was begun then and has just answered."""
    seconds, pages = time.perf_counter() - begun, int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return {"ms": seconds * 1e3, "plugin_cpu_ms": cpu_seconds([pid]) * 1e3, "plugin_mb": pages * 4096 / 1e6}


@asynccontextmanager
async def started(*arguments: str, environment: dict[str, str]) -> AsyncIterator[tuple[Process, bytes]]:
    """Start a program and yield it with its first line; it is killed afterwards."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(_PATIENCE):
            yield process, await process.stdout.readline()
    finally:
        process.kill()
        await process.communicate()


async def start_plugin(name: str, environment: dict[str, str]) -> Figures:
    """Start a plugin, call it once, end it."""
    begun = time.perf_counter()
    async with started(str(_PLUGINS / f"{name}.py"), environment=environment) as (process, line):
        line_ms = (time.perf_counter() - begun) * 1e3
        channel = await dial(UnixAddress(read_handshake(line)), timeout=_PATIENCE)
        reply = await repair_stub(KvStub(channel)).get(GetRequest(key=KEY))
        figures = {**read_figures(begun, process.pid), "line_ms": line_ms}
        assert reply.value == VALUE
        channel.close()
        await channel.wait_closed()
    return figures


async def start_interpreter(environment: dict[str, str]) -> Figures:
    """Start a program that prints a line."""
    begun = time.perf_counter()
    program = "import sys; print(flush=True); sys.stdin.read()"
    async with started("-c", program, environment=environment) as (process, _):
        figures = read_figures(begun, process.pid)
        return {**figures, "line_ms": figures["ms"]}


async def start_supervised(path: str) -> Figures:
    """Start our plugin as an application does, call it once, end it."""
    spec = PluginSpec(name="store", command=(sys.executable, str(_PLUGINS / "ours.py")), env={"PYTHONPATH": path})
    begun = time.perf_counter()
    async with Supervisor([spec], observers=()) as supervisor:
        reply = await (await supervisor.dispense("store", KvStub)).get(GetRequest(key=KEY))
        pid = supervisor.plugin("store").pid
        assert pid is not None
        assert reply.value == VALUE
        return read_figures(begun, pid)


async def take(plan: Plan) -> Results:
    """Start everything in turn."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        generated = Path(folder) / "generated"
        generated.mkdir()
        generate_google_kv(generated)
        path = os.pathsep.join(
            [str(PROJECT / "examples" / "kv"), str(generated), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        environment = {**plugin_environment(folder), "PYTHONPATH": path}
        special = {
            "ours_supervised": partial(start_supervised, path),
            "interpreter": partial(start_interpreter, environment),
        }

        async def do(system: str, _: str) -> Figures:
            return await special.get(system, partial(start_plugin, system, environment))()

        return await take_turns(plan.systems, ["first_call"], do, rounds=plan.rounds, on_round=plan.on_round)


if __name__ == "__main__":
    run(COMPARISON, take)
