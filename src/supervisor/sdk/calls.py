"""The calls to a plugin's own services: counted, so that a stop can let them finish and refuse new ones."""

from __future__ import annotations

import asyncio
from collections.abc import Container
from typing import Any

from grpclib.const import Status
from grpclib.events import RecvRequest
from grpclib.exceptions import GRPCError

__all__ = ["CallCounter"]


class CallCounter:
    """Listens to a server's RecvRequest events.

    Args:
        ignored: routes that are not counted: the framework's own, whose streams stay open to the very end.
    """

    def __init__(self, ignored: Container[str]) -> None:
        self.in_flight = 0
        self._ignored = ignored
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def on_request(self, event: RecvRequest) -> None:
        """Count a call in, and out when its handler ends.

        Raises:
            GRPCError: UNAVAILABLE, while draining.
        """
        if event.method_name in self._ignored:
            return
        if self._draining:
            raise GRPCError(Status.UNAVAILABLE, "the plugin is stopping")
        handler = event.method_func

        async def counted(stream: Any) -> None:
            self.in_flight += 1
            self._idle.clear()
            try:
                await handler(stream)
            finally:
                self.in_flight -= 1
                if not self.in_flight:
                    self._idle.set()

        event.method_func = counted

    async def drain(self, grace: float) -> bool:
        """Refuse new calls and wait for those under way, at most `grace` seconds; whether they finished."""
        self._draining = True
        try:
            async with asyncio.timeout(grace):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True
