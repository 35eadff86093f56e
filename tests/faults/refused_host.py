"""A host whose runtime directory's file system refuses at first, and then does not; needs a mount namespace of its own.

Arguments: a directory to mount on, the options that make it refuse, and those that mend it. Prints JSON: how the launch
was refused, and after the mending whether the plugin answers.
"""

# One thing after the other: there is nothing else on the loop; printing is how this program answers.
# ruff: noqa: ASYNC240, T201

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS / "kit"), str(TESTS.parent / "examples" / "kv")]

from kv_proto import GetRequest, KvStub  # noqa: E402  # after the paths to them
from watching import Log, exit_of  # noqa: E402

from supervisor import PluginSpec, State, Supervisor  # noqa: E402
from supervisor.errors import LaunchError  # noqa: E402
from supervisor.events import InstanceLaunched  # noqa: E402
from supervisor.runners.subprocess import SubprocessRunner  # noqa: E402


def mount(directory: str, options: str) -> None:
    """Mount or mount again."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", directory], check=True)


async def main(directory: str, refusing: str, mended: str) -> None:
    """Be refused, mend it, work."""
    mount(directory, refusing.removeprefix("remount,"))
    if refusing.startswith("remount,"):
        mount(directory, refusing)
    log = Log()
    spec = PluginSpec(name="store", command=(sys.executable, str(Path(__file__).with_name("kv_plugin.py"))))
    runner = SubprocessRunner(runtime_root=directory)
    async with Supervisor([spec], observers=[log], runner=lambda: runner) as supervisor:
        report = await exit_of(supervisor)
        error = report.error
        assert isinstance(error, LaunchError)
        told: dict[str, object] = {"errno": error.errno, "hint": error.hint, "launched": len(log.of(InstanceLaunched))}
        mount(directory, f"remount,{mended}")
        plugin = supervisor.plugin("store")
        told["gave_up"] = plugin.state is State.FAILED
        await (plugin.restart() if plugin.state is State.FAILED else plugin.ready())
        kv = await supervisor.dispense(KvStub)
        told["answers"] = (await kv.get(GetRequest(key="pid"))).value.decode() == str(plugin.pid)
    told["left"] = [path.name for path in Path(directory).iterdir()]
    print(json.dumps(told))


asyncio.run(main(*sys.argv[1:]))
