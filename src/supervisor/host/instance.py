"""One life of a plugin: launch, handshake, connection, readiness, probes, stop. The keeper decides what comes after."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

import anyio
from anyio.abc import TaskGroup

from supervisor.abc import LaunchedProcess, Runner
from supervisor.errors import (
    ConnectionLostError,
    HandshakeError,
    HandshakeTimeoutError,
    LaunchError,
    SupervisorError,
    TransportError,
)
from supervisor.events import (
    Event,
    HandshakeDone,
    InstanceLaunched,
    LogsDropped,
    NoticeRaised,
    ProbeMissed,
    StopRung,
)
from supervisor.handshake import Handshake, HandshakeReader, format_versions
from supervisor.host.intake import LineIntake
from supervisor.host.last_words import LastWords
from supervisor.host.probe import Outcome, take_sample
from supervisor.outcome import ExitReason, ExitReport, ExitStatus
from supervisor.records import LogRecord, LogSource
from supervisor.services import controller, logs, stdio
from supervisor.services.health import PLUGIN_SERVICE
from supervisor.spec import PluginSpec
from supervisor.transport.channel import Channel
from supervisor.transport.dial import dial

__all__ = ["Instance"]

_LAST_WORDS: Final = 0.25
"""Seconds after the exit in which the pipes and streams may still deliver; a grandchild can hold them for ever."""

_EXIT_AFTER_EOF: Final = 1.0
"""Seconds between a closed stdout or connection and the exit that usually follows it."""

_STARTUP_PROBE: Final = 0.2
"""Seconds between health checks of a plugin that said it is not serving yet."""

_ABORT_GRACE: Final = 1.0
"""Seconds for a plugin that lost its liveness to dump its stacks on SIGABRT."""


class Instance:
    """One life.

    `run` does it all and returns the report. Everything else is what the keeper and calls may look at or ask for
    meanwhile, from the same loop. The first reason to end wins; ending is asking for it, `run` does it.
    """

    def __init__(
        self,
        spec: PluginSpec,
        generation: int,
        *,
        runner: Runner,
        emit: Callable[[Event], None],
        on_record: Callable[[LogRecord], None],
        on_readiness: Callable[[bool], None],
        on_draining: Callable[[], None],
        on_stopping: Callable[[], None],
        on_exit: Callable[[], None],
        log_level: int,
    ) -> None:
        self.spec = spec
        self.generation = generation
        self.channel: Channel | None = None
        self.version: int | None = None
        self.exited = anyio.Event()
        self.in_flight = 0
        self._runner = runner
        self._emit = emit
        self._on_record = on_record
        self._on_readiness = on_readiness
        self._on_draining = on_draining
        self._on_stopping = on_stopping
        self._on_exit = on_exit
        self._log_level = log_level
        self._follower: logs.LogFollower | None = None
        self._process: LaunchedProcess | None = None
        self._status = ExitStatus()
        self._last_words = LastWords(spec.limits.stderr_tail)
        self._life = anyio.CancelScope()
        self._reason: ExitReason | None = None
        self._error: BaseException | None = None
        self._launched_at = anyio.current_time()
        self._ready_at: float | None = None
        self._exited_at: float | None = None
        self._idle = anyio.Event()

    # --- what others ask -------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The process id, None before the launch."""
        return self._process.pid if self._process else None

    @property
    def channel_lost(self) -> bool:
        """Whether it has no connection, or none any more."""
        return self.channel is None or self.channel.is_lost

    @property
    def going_away(self) -> bool:
        """Whether it is ending or has said (GOAWAY) that it will: it takes no more calls, and may cut those it has."""
        return self._reason is not None or self.channel is None or self.channel.is_lost or self.channel.is_draining

    def end(self, reason: ExitReason, error: BaseException | None = None) -> None:
        """Ask this life to end; the first reason wins. Returns at once, `run` climbs the ladder."""
        if self._reason is None:
            self._reason, self._error = reason, error
            self._life.cancel()

    def enter_call(self) -> None:
        """Count a call in, for draining."""
        self.in_flight += 1

    def leave_call(self) -> None:
        """Count a call out."""
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()

    def set_log_level(self, level: int) -> None:
        """Have the plugin send records from `level` on."""
        self._log_level = level
        if self._follower is not None:
            self._follower.set_level(level)

    async def has_exited(self, *, within: float) -> bool:
        """Whether the process has ended, waiting up to `within` seconds for the kernel to say so."""
        with anyio.move_on_after(within):
            await self.exited.wait()
        return self.exited.is_set()

    def report(self) -> ExitReport:
        """How this life ended, as far as is known."""
        now = self._exited_at or anyio.current_time()
        reason = self._reason or ExitReason.UNKNOWN
        oom = self._process is not None and self._status.signal == signal.SIGKILL and self._process.oom_killed()
        if reason in {ExitReason.EXITED, ExitReason.SIGNALED}:
            if oom:
                reason = ExitReason.OOM
            elif self._ready_at is None:
                reason = ExitReason.LAUNCH
                self._error = self._error or self._early_exit_error()
        return ExitReport(
            reason=reason,
            status=self._status,
            generation=self.generation,
            pid=self.pid,
            uptime=max(0.0, now - self._launched_at),
            ready_for=max(0.0, now - self._ready_at) if self._ready_at is not None else 0.0,
            oom=oom,
            stderr=self._last_words.lines,
            error=self._error,
        )

    # --- the life --------------------------------------------------------------------------------------------------

    async def run(self) -> ExitReport:
        """Live, and return how it ended. Raises nothing for the plugin's sake; cancelled, it kills the tree at once."""
        try:
            self._process = process = await self._runner.launch(
                self.spec, generation=self.generation, variables=self._variables()
            )
        except LaunchError as error:
            self._reason, self._error = ExitReason.LAUNCH, error
            self._on_exit()
            return self.report()
        try:
            self._emit(self._event(InstanceLaunched, pid=process.pid))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._await_exit, process)
                async with anyio.create_task_group() as readers:
                    await self._live(process, readers)
                    await self._climb_ladder(process)
                    readers.cancel_scope.deadline = anyio.current_time() + _LAST_WORDS
                tasks.cancel_scope.cancel()
        finally:
            # Synchronous, so that it also works when a second cancellation cut the ladder short.
            process.kill_tree()
            if self.channel is not None:
                self.channel.close()
            process.close()
            self.exited.set()  # a cancellation ended the wait for the kernel too; calls need not wait for its word
        return self.report()

    async def _live(self, process: LaunchedProcess, readers: TaskGroup) -> None:
        """Come up and stay until somebody calls `end`."""
        with self._life:
            if self._reason is not None:
                return
            try:
                with anyio.fail_after(self.spec.start_timeout):
                    channel = await self._come_up(process, readers)
            except HandshakeError as error:
                self.end(ExitReason.HANDSHAKE, error)
            except TransportError as error:
                self.end(ExitReason.CONNECT, error)
            except TimeoutError:
                self.end(ExitReason.START_TIMEOUT, self._start_timeout_error())
            else:
                self._ready_at = anyio.current_time()
                self._on_readiness(True)  # noqa: FBT003  # the callback's one argument
                async with anyio.create_task_group() as watchers:
                    watchers.start_soon(self._await_loss, channel)
                    if self.spec.health is not None:
                        watchers.start_soon(self._probe, channel)

    async def _come_up(self, process: LaunchedProcess, readers: TaskGroup) -> Channel:
        intake = self._new_intake(LogSource.STDERR)
        intake_out = self._new_intake(LogSource.STDOUT)
        readers.start_soon(intake.read, process.stderr)
        readers.start_soon(intake.work)
        try:
            handshake = await self._read_handshake(process, intake_out)
        finally:
            readers.start_soon(intake_out.read, process.stdout)
            readers.start_soon(intake_out.work)
        address = process.check_address(handshake.address)
        self.version = handshake.version
        self._emit(self._event(HandshakeDone, version=handshake.version, address=str(address)))
        self.channel = channel = await dial(
            address, timeout=self.spec.connect_timeout, limits=self.spec.limits, check_peer=process.check_peer
        )
        readers.start_soon(self._follow_logs, channel)
        readers.start_soon(self._follow_stdio, channel)
        if self.spec.health is not None:
            await self._await_serving(channel)
        return channel

    async def _read_handshake(self, process: LaunchedProcess, rest: LineIntake) -> Handshake:
        reader = HandshakeReader(versions=self.spec.versions)
        try:
            while True:
                chunk = await process.stdout.receive()
                if (handshake := reader.feed(chunk)) is not None:
                    return handshake
        except anyio.EndOfStream:
            # Dying processes close their pipes first: what the kernel says of the exit is the better story.
            await self.has_exited(within=_EXIT_AFTER_EOF)
            reader.feed_eof()
            raise HandshakeError("stdout was closed before the handshake", plugin=self.spec.name) from None
        finally:
            if reader.noise:
                self._emit(
                    self._event(NoticeRaised, message=f"{len(reader.noise)} lines on stdout before the handshake")
                )
                rest.push("".join(f"{line}\n" for line in reader.noise).encode())
            rest.push(reader.leftover)

    async def _await_serving(self, channel: Channel) -> None:
        probe = self.spec.health
        assert probe is not None
        while True:
            sample = await take_sample(channel, service=PLUGIN_SERVICE, timeout=probe.timeout)
            if sample.outcome is Outcome.UNSUPPORTED:
                self._emit(self._event(NoticeRaised, message="no health service: only its process is watched"))
                return
            if sample.outcome is Outcome.READY:
                return
            await anyio.sleep(_STARTUP_PROBE)

    # --- watchers --------------------------------------------------------------------------------------------------

    async def _await_exit(self, process: LaunchedProcess) -> None:
        self._status = status = await process.wait()
        self._exited_at = anyio.current_time()
        self.exited.set()
        if status.known:
            self.end(ExitReason.EXITED if status.signal is None else ExitReason.SIGNALED)
        else:
            self.end(ExitReason.UNKNOWN)
        self._idle.set()
        self._on_exit()
        if self.channel is not None:
            # A grandchild may hold the other end open: what waits for an answer must not wait for that.
            self.channel.close()

    async def _await_loss(self, channel: Channel) -> None:
        await channel.lost.wait()
        if not await self.has_exited(within=_EXIT_AFTER_EOF):
            self.end(
                ExitReason.PROTOCOL, ConnectionLostError("the plugin closed its connection", plugin=self.spec.name)
            )

    async def _probe(self, channel: Channel) -> None:
        probe = self.spec.health
        assert probe is not None
        misses, ready = 0, True
        while True:
            await anyio.sleep(probe.interval)
            sample = await take_sample(channel, service=PLUGIN_SERVICE, timeout=probe.timeout)
            match sample.outcome:
                case Outcome.UNSUPPORTED:
                    return
                case Outcome.READY | Outcome.UNREADY:
                    misses, was_ready, ready = 0, ready, sample.outcome is Outcome.READY
                    if ready is not was_ready:
                        self._on_readiness(ready)
                case Outcome.MISSED:
                    misses += 1
                    self._emit(self._event(ProbeMissed, misses=misses, allowed=probe.failures, error=sample.error))
                    if misses >= probe.failures:
                        self.end(ExitReason.LIVENESS, SupervisorError(sample.error, plugin=self.spec.name))
                case Outcome.UNKNOWN:
                    pass

    async def _follow_logs(self, channel: Channel) -> None:
        dropped = 0
        with suppress(TransportError):
            async with logs.follow(channel, level=self._log_level) as follower:
                self._follower = follower
                async for batch in follower:
                    for record in batch.records:
                        self._on_record(record)
                    if batch.dropped > dropped:
                        self._note_dropped(LogSource.STREAM, batch.dropped - dropped, batch.dropped)
                        dropped = batch.dropped
        self._follower = None

    async def _follow_stdio(self, channel: Channel) -> None:
        intakes = {stdio.STDOUT: self._new_intake(LogSource.STDOUT), stdio.STDERR: self._new_intake(LogSource.STDERR)}
        async with anyio.create_task_group() as workers:
            for intake in intakes.values():
                workers.start_soon(intake.work)
            try:
                with suppress(TransportError):
                    async for which, data in stdio.follow(channel):
                        if which in intakes:
                            intakes[which].push(data)
            finally:
                for intake in intakes.values():
                    intake.close()

    # --- the ladder ------------------------------------------------------------------------------------------------

    async def _climb_ladder(self, process: LaunchedProcess) -> None:
        """End the process: ask, terminate, kill, as far as the reason allows asking."""
        stop = self.spec.stop
        reason = self._reason
        if not self.exited.is_set():
            if reason is ExitReason.STOPPED:
                await self._drain(stop.drain)
                self._on_stopping()
                if not self.channel_lost:
                    await self._rung("shutdown", stop.shutdown, self._request_shutdown)
                await self._rung("terminate", stop.terminate, partial(self._send, process, signal.SIGTERM))
            else:
                self._on_stopping()
                if reason is ExitReason.LIVENESS:
                    await self._rung("abort", _ABORT_GRACE, partial(self._send, process, signal.SIGABRT))
        await self._rung("kill", stop.kill, partial(self._kill, process))
        process.kill_tree()  # also after an exit: the children of the process may have survived it
        if not self.exited.is_set():
            self._reason = ExitReason.UNKILLABLE
            self._on_exit()

    async def _drain(self, grace: float) -> None:
        if self._ready_at is None or not grace:
            return
        self._on_draining()
        if self.in_flight:
            self._emit(self._event(StopRung, rung="drain"))
            self._idle = anyio.Event()
            with anyio.move_on_after(grace):
                await self._idle.wait()

    async def _rung(self, name: str, grace: float, ask: Callable[[], Awaitable[bool]]) -> None:
        """Ask, and wait up to `grace` for the exit unless the answer is that it would be in vain."""
        if self.exited.is_set():
            return
        self._emit(self._event(StopRung, rung=name))
        with anyio.move_on_after(grace):
            if await ask():
                await self.exited.wait()

    async def _request_shutdown(self) -> bool:
        return self.channel is not None and await controller.request_shutdown(
            self.channel, timeout=self.spec.stop.shutdown
        )

    @staticmethod
    async def _send(process: LaunchedProcess, number: int) -> bool:
        process.send_signal(number)
        return True

    @staticmethod
    async def _kill(process: LaunchedProcess) -> bool:
        process.kill_tree()
        return True

    # --- small parts -----------------------------------------------------------------------------------------------

    def _variables(self) -> dict[str, str]:
        spec = self.spec
        return {
            spec.cookie.key: spec.cookie.value,
            "PLUGIN_PROTOCOL_VERSIONS": format_versions(spec.versions),
            "PLUGIN_LOG_LEVEL": str(self._log_level),
        }

    def _new_intake(self, source: LogSource) -> LineIntake:
        return LineIntake(
            source,
            self.spec.limits,
            on_record=self._on_record,
            on_dropped=self._note_dropped,
            on_line=self._last_words.add if source is LogSource.STDERR else None,
        )

    def _note_dropped(self, source: LogSource, count: int, total: int) -> None:
        self._emit(self._event(LogsDropped, source=source, count=count, total=total))

    def _event(self, kind: Callable[..., Event], **fields: object) -> Event:
        return kind(plugin=self.spec.name, generation=self.generation, at=anyio.current_time(), **fields)

    def _start_timeout_error(self) -> HandshakeTimeoutError:
        missing = "its handshake" if self.version is None else "it answered a health check"
        return HandshakeTimeoutError(
            f"not ready within {self.spec.start_timeout:g} s: still waiting for {missing}",
            plugin=self.spec.name,
            hint="look at its last lines on stderr, or raise start_timeout",
        )

    def _early_exit_error(self) -> LaunchError:
        return LaunchError(
            f"ended before it was ready: {self._status}",
            plugin=self.spec.name,
            hint=str(self._last_words),
        )
