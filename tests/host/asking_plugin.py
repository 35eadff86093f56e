"""A KV plugin that talks with whoever sits at its terminal: `Get` of `name` asks for one, of `password` too, unseen.

`tty` answers what it knows of its descriptors and of its place among the terminal's processes, as JSON.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "kv"))

from kv_proto import GetRequest, GetResponse, KvBase

from supervisor.sdk import serve


class Kv(KvBase):
    """Asks."""

    async def get(self, message: GetRequest) -> GetResponse:
        """Ask for what the key names."""
        match message.key:
            case "name":
                answer = await asyncio.to_thread(input)
            case "password":
                answer = await asyncio.to_thread(getpass.getpass, "password: ")
            case _:
                descriptor = os.open("/dev/tty", os.O_RDWR)
                answer = json.dumps(
                    {
                        "stdin": os.isatty(0),
                        "foreground": os.tcgetpgrp(descriptor) == os.getpgrp(),
                        "group": os.getpgrp(),
                        "term": os.environ.get("TERM"),
                    }
                )
                os.close(descriptor)
        return GetResponse(value=answer.encode())


if __name__ == "__main__":
    serve(Kv())
