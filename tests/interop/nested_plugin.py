"""A plugin that is a host itself: for every Put it runs a plugin by this library, and one by the Go host.

`nested_plugin.py` is the outer one; INTEROP_GO says where the Go programs are. `nested_plugin.py inner` is what it runs: a
store that takes values only if nobody has handed it the variables of somebody else's host.
"""

import asyncio
import os
import sys
from pathlib import Path

import peers
from interop_proto import AdderStub
from interop_serving import serve_as_asked
from kv_proto import Empty, KvStub, PutRequest
from served_kv import Kv

from supervisor import BrokerError, Supervisor
from supervisor.sdk import current


class Outer(Kv):
    """A store that keeps a value once the plugins of its own have kept it."""

    async def put(self, put_request: PutRequest) -> Empty:
        """Keep a value."""
        spec = peers.python_plugin("nested_plugin.py", "inner", inherit_env=True)
        async with Supervisor([spec], observers=()) as supervisor:
            inner = await supervisor.dispense("peer", KvStub)
            await inner.put(put_request)
        command = peers.python_command("nested_plugin.py", "inner")
        steps = await asyncio.to_thread(peers.go_host, Path(os.environ["INTEROP_GO"]), "kv", command=command)
        if failed := [step for step in steps if not step["ok"]]:
            raise RuntimeError(f"the Go host inside failed: {failed}")
        return await super().put(put_request)


class Inner(Kv):
    """A store that has no host services: its host offers none."""

    async def put(self, put_request: PutRequest) -> Empty:
        """Keep a value."""
        try:
            await current().host(AdderStub)
        except BrokerError as error:
            if "offers no services" in str(error):
                return await super().put(put_request)
            raise
        raise RuntimeError("somebody else's host was taken for this plugin's")


serve_as_asked(Inner() if "inner" in sys.argv else Outer())
