"""A plugin of our own sdk that logs what its caller asks for: `put` does the deed that the key names."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "kv"))

import structlog
from kv_proto import Empty, GetRequest, GetResponse, KvBase, PutRequest

from supervisor.sdk import serve

log = structlog.get_logger("deeds")

REAL_STDOUT = os.dup(1)  # from before `serve`, which keeps prints away from it


class Deeds(KvBase):
    """`burst` logs as many records as the value says, in one go and without letting the loop run."""

    async def get(self, message: GetRequest) -> GetResponse:
        return GetResponse(value=message.key.encode())

    async def put(self, message: PutRequest) -> Empty:
        match message.key:
            case "burst":
                for number in range(int(message.value)):
                    log.info("burst", number=number, half=number / 2, even=number % 2 == 0)
            case "typed":
                structlog.contextvars.bind_contextvars(request="r-1")
                log.warning(
                    "typed", text="ü", integer=2**40, number=0.5, flag=True, nothing=None, items=[1, "a"], sub={"k": 1}
                )
                structlog.contextvars.clear_contextvars()
            case "exception":
                try:
                    dict[str, int]()["missing"]
                except KeyError:
                    log.exception("it failed", attempt=3)
            case "stdlib":
                logging.getLogger("some.library").warning("from %s", "stdlib", extra={"shard": 7})
            case "print":
                print("printed on stdout")  # noqa: T201
                print("printed on stderr", file=sys.stderr)  # noqa: T201
            case "noise":
                for _ in range(int(message.value)):
                    os.write(REAL_STDOUT, b"y" * 65535 + b"\n")
            case "forge":
                log.info("fine\n2026-01-01 [critical ] forged\x1b[31m", plugin="somebody else", pid=1, generation=99)
            case "debug":
                log.debug("a debug record")
            case _:
                raise ValueError("no such deed: secret=hunter2")
        return Empty()


serve(Deeds())
