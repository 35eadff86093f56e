"""A plugin that logs by the thousand: through structlog, or as another language's plugin does, as JSON lines on stderr."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from benchmarks.load_proto import LoadBase, Order, Received
from supervisor.sdk import serve

_TURN = 100
"""Records in one turn of the loop."""


def log_by_structlog(number: int, text: str) -> None:
    """Log one record."""
    structlog.get_logger("shop.checkout").info("order placed", order=number, text=text, paid=True)


def log_by_stderr(number: int, text: str) -> None:
    """Write the line that go-plugin's logger writes."""
    now = datetime.now(UTC).isoformat()
    line = {"@level": "info", "@message": "order placed", "@module": "shop.checkout", "@timestamp": now}
    os.write(2, json.dumps({**line, "order": number, "text": text, "paid": True}).encode() + b"\n")


class Logging(LoadBase):
    """Logs in one way."""

    def __init__(self, log: Callable[[int, str], None]) -> None:
        self._log = log

    async def log(self, order: Order) -> Received:
        """Log as many records, and let others have their turn now and then, as a program does that also works."""
        text = "x" * order.size
        for number in range(order.count):
            self._log(number, text)
            if number % _TURN == _TURN - 1:
                await asyncio.sleep(0)
        return Received(count=order.count)


if __name__ == "__main__":
    serve(Logging(log_by_stderr if sys.argv[1:] == ["stderr"] else log_by_structlog))
