"""One run of a plugin: from the handshake to its last words."""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from supervisor.address import TcpAddress
from supervisor.errors import TransportError
from supervisor.handshake import format_handshake
from supervisor.levels import Level
from supervisor.sdk.context import PluginContext, enter
from supervisor.sdk.descriptors import StderrWriter, claim_stdin
from supervisor.sdk.doors import Doors
from supervisor.sdk.hooks import stop_on
from supervisor.sdk.host_request import HostRequest
from supervisor.sdk.host_services import HostServices
from supervisor.sdk.last_resort import OVERTIME, current_last_resort
from supervisor.sdk.lifeline import end_process, watch_lifeline, watch_parent
from supervisor.sdk.listener import Listener
from supervisor.sdk.log_sink import LogSink
from supervisor.sdk.negotiation import Servicer
from supervisor.sdk.security import Security
from supervisor.sdk.standard_output import replace_stderr, replace_stdout
from supervisor.sdk.tracebacks import describe_exception
from supervisor.services.broker_stream import BrokerService, ConnInfoStream
from supervisor.services.controller import ControllerService
from supervisor.services.health import PLUGIN_SERVICE, HealthService
from supervisor.services.logs import LogService
from supervisor.services.reflection import ReflectionService
from supervisor.services.stdio import STDERR, STDOUT, StdioService
from supervisor.terms import Engine, Limits
from supervisor.transport.server import Server

__all__ = ["Plugin"]

Announce = Callable[[str, Callable[[], None]], None]
"""Takes the handshake's line, and what stops the plugin."""

_STREAMS_GRACE: Final = 0.25
"""Seconds for the last log records and prints to leave after that."""

_LAST_WORDS: Final = 1.0
"""Seconds for what is left of them to reach stderr."""


class Plugin:
    """One run of the plugin: the framework's services beside the author's, from the handshake to the last record."""

    def __init__(
        self,
        version: int,
        services: Sequence[Servicer],
        *,
        sink: LogSink,
        stderr: StderrWriter,
        limits: Limits,
        security: Security,
        engine: Engine,
        end_with_host: bool | None = None,
        reflection: bool = True,
    ) -> None:
        self._version = version
        self._end_with_host = end_with_host
        self._security = security
        self._sink = sink
        self._stderr = stderr
        self._stopping = asyncio.Event()
        self._health = HealthService()
        self._stdio = StdioService(on_dropped=self._log_dropped_output)
        self._logs = LogService(sink.buffer, on_level=sink.set_level, on_unfollowed=self._spill_soon)
        self._infos = ConnInfoStream()
        self._broker_stream = BrokerService(self._infos)
        controller = ControllerService(self._stopping.set)
        own: list[Servicer] = [self._health, controller, self._stdio, self._logs, self._broker_stream]
        if reflection:
            own.append(ReflectionService([self._health, *services]))
        self._limits = limits
        background = [route for service in own for route in service.__mapping__()]
        self._server = Server(
            [*own, *services], limits=limits, on_error=self._log_error, background=background, engine=engine
        )

    def stream_output(self, *, stderr: bool) -> None:
        """Have the host get what is printed to `sys.stdout`, and to `sys.stderr` if it wants that, from now on."""
        replace_stdout(lambda data: self._stdio.write(STDOUT, data), self._stderr.write)
        if stderr:
            replace_stderr(lambda data: self._stdio.write(STDERR, data), self._stderr.write)

    async def run(self, listener: Listener, request: HostRequest, announce: Announce, grace: float) -> None:
        """Serve until asked to stop, then stop in order; `announce` is told the handshake once it serves."""
        doors = self._make_doors(listener, request)
        # Before the server starts: the tasks of its calls inherit the context.
        enter(
            PluginContext(
                version=self._version,
                health=self._health,
                sink=self._sink,
                stop=self._stopping.set,
                broker=doors.broker,
                host_services=HostServices(doors.broker, request.host_services),
            )
        )
        self._watch_host(listener, request, grace)
        stop_on(signal.SIGTERM, self._stopping.set)
        try:
            self._warn_of_open_port(listener)
            await doors.open(on_deserted=self._stopping.set)
            line = format_handshake(
                version=self._version,
                address=listener.address,
                certificate=self._security.certificate,
                multiplex=True if request.multiplex_asked else None,
            )
            announce(line, self._stopping.set)
            # The first call needs it, and until the host has dialled there is nothing else to do.
            importlib.import_module("supervisor.transport.codec.compiling")
            await self._stopping.wait()
        finally:
            if (last_resort := current_last_resort()) is not None:
                last_resort.arm(grace + OVERTIME, lambda: self._give_up(listener))
            await self._stop(doors, grace)

    def _watch_host(self, listener: Listener, request: HostRequest, grace: float) -> None:
        """Do not outlive the host, unless another one could take this plugin over: see `serve`."""
        if request.lifeline:
            watch_lifeline(claim_stdin(), listener.remove)
            return
        ends = self._end_with_host
        if ends is None:
            ends = self._security.certificate is not None or request.multiplex
        if not ends:
            return
        loop = asyncio.get_running_loop()

        def end() -> None:
            with suppress(RuntimeError):  # it has ended already
                loop.call_soon_threadsafe(self._stopping.set)
            time.sleep(grace + OVERTIME)
            end_process(listener.remove)

        watch_parent(end)

    def _give_up(self, listener: Listener) -> None:
        """Leave nothing behind; called in a thread, with a loop that may be stuck."""
        self._sink.emit(
            Level.ERROR,
            "did not end in time, cut off",
            logger="supervisor.sdk",
            fields={"calls": len(self._server.under_way.counted)},
        )
        listener.remove()
        self._write_last_words()

    def _make_doors(self, listener: Listener, request: HostRequest) -> Doors:
        return Doors(
            self._server,
            listener,
            request,
            self._infos,
            limits=self._limits,
            tls=self._security.tls,
            on_error=self._log_error,
            on_refused=self._log_refusal,
        )

    async def _stop(self, doors: Doors, grace: float) -> None:
        """Let the calls finish while records and prints still flow, then those, then the connections."""
        self._health.set_serving(PLUGIN_SERVICE, serving=False)
        until = time.monotonic() + grace
        try:
            await self._server.drain(grace)
            for output in (sys.stdout, sys.stderr):
                output.flush()
            await doors.broker.aclose()
            for service in (self._logs, self._stdio, self._health, self._broker_stream):
                service.close()
            await self._server.stop(max(_STREAMS_GRACE, until - time.monotonic()))
        finally:
            # Cancelled for a second time there is no more waiting.
            self._server.close()
            doors.close()
            self._write_last_words()

    def _write_last_words(self) -> None:
        """Hand to stderr what the streams did not take, for as long as somebody reads it."""
        for _, data in self._stdio.drain_nowait():
            self._stderr.write(data)
        until = time.monotonic() + _LAST_WORDS
        while not self._sink.spill() and time.monotonic() < until:
            pass

    def _spill_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._spill)

    def _spill(self) -> None:
        """Hand what the host left behind to stderr, a batch at a time, so that calls are served meanwhile."""
        if not self._logs.followed and not self._sink.spill():
            self._spill_soon()

    def _warn_of_open_port(self, listener: Listener) -> None:
        if self._security.tls is None and isinstance(listener.address, TcpAddress):
            message = "listening on TCP without TLS: every user of this machine can connect"
            self._sink.emit(Level.WARNING, message, logger="supervisor.sdk", fields={"address": str(listener.address)})

    def _log_dropped_output(self, count: int) -> None:
        """The host did not keep up with what was printed."""
        self._sink.emit(Level.WARNING, "printed output dropped", logger="supervisor.sdk", fields={"bytes": count})

    def _log_refusal(self, error: TransportError) -> None:
        """Whoever it was got no further than TLS; the host's owner may want to know."""
        self._sink.emit(Level.WARNING, "refused a connection", logger="supervisor.sdk", fields={"reason": str(error)})

    def _log_error(self, method: str, error: BaseException) -> None:
        """The caller hears only that it failed: exceptions tell secrets, and the log is where they belong."""
        self._sink.emit(
            Level.ERROR,
            "handler failed",
            logger="supervisor.sdk",
            fields={"method": method},
            exception=describe_exception(error),
        )
