"""A host whose runtime directory, and whose plugin if there is one, lie on the file system at /mnt."""

# Descriptors and processes are listed as the kernel names them; blocking for a moment hurts nobody here; printing is how this program answers.
# ruff: noqa: ASYNC230, ASYNC240, T201

from __future__ import annotations

import asyncio
import json
import os

from supervisor.errors import LaunchError
from supervisor.runners.subprocess import SubprocessRunner
from supervisor.spec import PluginSpec


async def main() -> None:
    """Launch and print how that was refused."""
    program = "/mnt/program" if os.path.exists("/mnt/program") else "/bin/true"
    runner = SubprocessRunner(runtime_root="/mnt")
    told: dict[str, object] = {}
    try:
        await runner.launch(PluginSpec(name="a", command=(program,)), generation=1, variables={})
    except LaunchError as error:
        told = {"errno": error.errno, "hinted": bool(error.hint)}
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        told["children"] = len(file.read().split())
    runner.close()
    print(json.dumps(told))


asyncio.run(main())
