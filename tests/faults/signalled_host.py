"""A host that runs one plugin, says so, and ends as its signals have it end.

Arguments: what SIGTERM does (`default`, `cancel` the main task), the graces of the stop as JSON, and the plugin's command.
Prints JSON, a line at a time: what the plugin says, that it is ready, the rungs of its stop, and its end.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "kit"))

from watching import Log  # after the path to it

from supervisor import LogRecord, PluginSpec, StopPolicy, Supervisor
from supervisor.events import Event, InstanceExited, StopRung


def say(**what: Any) -> None:
    """Print a line of JSON; the reader may be gone."""
    os.write(1, f"{json.dumps(what)}\n".encode())


class Teller(Log):
    """An observer that tells whoever started this host."""

    def on_event(self, event: Event) -> None:
        """Tell of rungs and of the end."""
        super().on_event(event)
        if isinstance(event, StopRung):
            say(rung=event.rung)
        elif isinstance(event, InstanceExited):
            report = event.report
            rungs = [rung.rung for rung in self.of(StopRung)]
            say(reason=report.reason, signal=report.status.signal, stderr=report.stderr, rungs=rungs)

    def on_record(self, plugin: str, generation: int, pid: int, record: LogRecord) -> None:
        """Tell what the plugin says."""
        say(said=record.event)


async def main(on_sigterm: str, graces: str, *command: str) -> None:
    """Run until a signal ends it."""
    task = asyncio.current_task()
    assert task is not None
    if on_sigterm == "cancel":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    spec = PluginSpec(name="a", command=command, health=None, stop=StopPolicy(**json.loads(graces)))
    async with Supervisor([spec], observers=[Teller()]) as supervisor:
        await supervisor.ready()
        say(plugin=supervisor.plugin("a").pid, group=os.getpgrp())
        await asyncio.Event().wait()


resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
asyncio.run(main(*sys.argv[1:]))
