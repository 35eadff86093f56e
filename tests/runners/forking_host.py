"""A host that forks a worker without exec; the worker tries everything that could hurt the host's plugin."""

# Descriptors and processes are listed as the kernel names them; blocking for a moment hurts nobody here; printing is how this program answers.
# ruff: noqa: ASYNC222, ASYNC240, T201

from __future__ import annotations

import asyncio
import gc
import json
import os

from supervisor.runners.subprocess import SubprocessRunner
from supervisor.spec import PluginSpec


async def main() -> None:
    """Print what became of the worker and of the plugin."""
    runner = SubprocessRunner()
    process = await runner.launch(PluginSpec(name="a", command=("sleep", "1000")), generation=1, variables={})
    worker = os.fork()
    if worker == 0:
        process.send_signal(9)
        process.kill_tree()
        process.close()
        runner.close()
        del process, runner
        gc.collect()
        os._exit(0)
    _, status = os.waitpid(worker, 0)
    runs = process._child.peek() is None
    exists = os.path.isdir(process.directory)
    # The epoll set is shared with the worker: the end must still be noticed here.
    process.send_signal(15)
    async with asyncio.timeout(5):
        await process.wait()
    process.close()
    runner.close()
    print(json.dumps({"worker": status, "plugin_runs": runs, "directory_exists": exists}))


asyncio.run(main())
