"""One life of a plugin: launch, handshake, connection, readiness, probes, stop. The keeper decides what comes after."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from supervisor.abc import Process, Runner, SurvivingProcess
from supervisor.errors import (
    ConnectionLostError,
    HandshakeError,
    LaunchError,
    ProtocolViolationError,
    ReattachError,
    SupervisorError,
    TransportError,
)
from supervisor.events import (
    Event,
    InstanceAttached,
    InstanceLaunched,
    LogsDropped,
    NoticeRaised,
    ProbeMissed,
    StopRung,
)
from supervisor.host.attachment import Attachment, make_token
from supervisor.host.connections import Connections
from supervisor.host.hearing import Hearing
from supervisor.host.ladder import Rung, climb
from supervisor.host.launch import Launch
from supervisor.host.link import Link
from supervisor.host.output import Output
from supervisor.host.probe import watch_health
from supervisor.lifecycle import Signal
from supervisor.outcome import ExitReason, ExitReport, ExitStatus
from supervisor.reattach import ReattachToken
from supervisor.records import LogRecord, LogSource
from supervisor.services import controller
from supervisor.spec import PluginSpec
from supervisor.transport.channel import Channel

__all__ = ["Instance"]

_LAST_WORDS: Final = 0.25
"""Seconds after the exit in which the pipes and streams may still deliver; a grandchild can hold them for ever."""

_EXIT_AFTER_EOF: Final = 1.0
"""Seconds between a closed stdout and the exit that usually follows it."""

_EXIT_AFTER_LOSS: Final = 0.5
"""Seconds between a closed connection and the exit that usually follows it. Less than a call that was on it waits to
hear of the exit, so that it hears of this end too."""

_ASKED_FOR: Final = frozenset({ExitReason.STOPPED, ExitReason.DETACHED})

_ABORT: Final = 1.0
"""Seconds for a plugin that lost its liveness to dump its stacks on SIGABRT."""


class Instance:
    """One life.

    `run` does it all and returns the report. Everything else is what the keeper and calls may look at or ask for
    meanwhile, from the same loop. The first reason to end wins; `end` asks for it and `run` does it.

    Args:
        spec: what to run and how to keep it.
        generation: which life this is.
        runner: where it runs.
        log_level: the level, as a number, from which it is to send records.
        move: told what happens, as the lifecycle's signals.
        emit: told what happens, as events.
        on_record: told what it says.
        services: what it may call; offered to it under the broker's id `HOST_SERVICES`.
        outputs: where its prints go that are not to become records.
        token: names a process to take over; one is launched when None.
    """

    def __init__(
        self,
        spec: PluginSpec,
        generation: int,
        *,
        runner: Runner,
        log_level: int,
        move: Callable[[Signal], None],
        emit: Callable[[Event], None],
        on_record: Callable[[LogRecord], None],
        services: Sequence[Any] = (),
        outputs: Mapping[LogSource, Output] = MappingProxyType({}),
        token: ReattachToken | None = None,
    ) -> None:
        self._attachment = None if token is None else Attachment(token, spec)
        self.spec = spec = spec if self._attachment is None else self._attachment.spec
        self._origin = self._attachment or Launch(spec, generation)
        self.generation = generation
        self.channel: Channel | None = None
        self.exited = anyio.Event()
        self.in_flight = 0
        self._runner = runner
        self._log_level = log_level
        self._move = move
        self._emit_event = emit
        self._hearing = Hearing(
            spec.limits,
            log_level=log_level,
            on_record=on_record,
            on_dropped=self._note_dropped,
            on_notice=lambda message: self._emit(NoticeRaised, message=message),
            outputs=outputs,
        )
        self._sync_stderr = LogSource.STDERR in outputs
        self._process: Process | None = None
        self._link = Link(spec, self._origin, self._hearing, services=services, emit=self._emit)
        self._life = anyio.CancelScope()
        self._idle = anyio.Event()
        self._over = False
        self._reason: ExitReason | None = None
        self._error: BaseException | None = None
        self._status = ExitStatus()
        self._launched_at = anyio.current_time()
        self.was_ready = False
        self._ready_since: float | None = None
        self._exited_at: float | None = None

    # --- what others ask -------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The process id, None before the launch."""
        return self._process.pid if self._process else None

    @property
    def version(self) -> int | None:
        """The version of the application's protocol that it speaks, None before the handshake."""
        return self._link.version

    @property
    def connections(self) -> Connections | None:
        """Its connections, None before there are any."""
        return self._link.connections

    @property
    def channel_lost(self) -> bool:
        """Whether it has no connection, or none any more."""
        return self.channel is None or self.channel.is_closing

    @property
    def going_away(self) -> bool:
        """Whether it is ending or has said (GOAWAY) that it will: it takes no more calls, and may cut those it has."""
        return self._reason is not None or self.channel is None or self.channel.is_closing or self.channel.is_draining

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
            self.rest()

    def rest(self) -> None:
        """Have a drain look: no call is under way."""
        self._idle.set()

    @property
    def is_up(self) -> bool:
        """Whether it has been ready and is not about to end."""
        return self.was_ready and self._reason is None

    def token(self) -> ReattachToken:
        """Return what another host needs to take this life over; see `make_token`."""
        return make_token(
            self._process,
            self._link.address,
            spec=self.spec,
            version=self.version,
            generation=self.generation,
            origin=None if self._attachment is None else self._attachment.token,
        )

    def set_log_level(self, level: int) -> None:
        """Have the plugin send records from `level` on."""
        self._hearing.set_log_level(level)

    async def has_exited(self, *, within: float) -> bool:
        """Whether the process has ended, waiting up to `within` seconds for the kernel to say so."""
        with anyio.move_on_after(within):
            await self.exited.wait()
        return self.exited.is_set()

    def report(self) -> ExitReport:
        """How this life ended, as far as is known."""
        now = self._exited_at or anyio.current_time()
        reason, error = self._reason or ExitReason.UNKNOWN, self._error
        oom = self._process is not None and self._status.signal == signal.SIGKILL and self._process.oom_killed()
        if reason in {ExitReason.EXITED, ExitReason.SIGNALED}:
            if oom:
                reason = ExitReason.OOM
            elif not self.was_ready:
                reason, error = ExitReason.LAUNCH, error or self._early_exit_error()
        if self._attachment is not None and not self.was_ready and reason not in _ASKED_FOR:
            reason, error = ExitReason.REATTACH, self._attachment.explain(error, ended=self._exited_at is not None)
        return ExitReport(
            reason=reason,
            status=self._status,
            generation=self.generation,
            pid=self.pid,
            uptime=max(0.0, now - self._launched_at),
            ready_for=max(0.0, now - self._ready_since) if self._ready_since is not None else 0.0,
            oom=oom,
            stderr=self._hearing.last_words.lines,
            error=error,
        )

    # --- the life --------------------------------------------------------------------------------------------------

    async def run(self) -> ExitReport:
        """Live, and return how it ended. Raises nothing for the plugin's sake; cancelled, it kills the tree at once."""
        try:
            self._process = process = await self._origin.begin(
                self._runner, self._link.variables(log_level=self._log_level, sync_stderr=self._sync_stderr)
            )
        except (LaunchError, ReattachError, OSError) as error:
            if isinstance(error, OSError):  # of a runner that is not ours
                cause, error = error, LaunchError(f"{error}", errno=error.errno, plugin=self.spec.name)
                error.__cause__ = cause
            self._reason, self._error = ExitReason.LAUNCH, error
            self._move(Signal.EXIT)
            return self.report()
        try:
            self._emit(InstanceLaunched if self._attachment is None else InstanceAttached, pid=process.pid)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._await_exit, process)
                async with anyio.create_task_group() as readers:
                    await self._live(process, readers)
                    await self._stop(process)
                    readers.cancel_scope.deadline = anyio.current_time() + _LAST_WORDS
                tasks.cancel_scope.cancel()
        finally:
            # Synchronous, so that it also works when a second cancellation cut the ladder short.
            process.kill_tree()
            # Only now: until the last words were heard, what it wrote before its end may still be on its way.
            self._link.abort()
            process.close()
            self.exited.set()  # a cancellation ended the wait for the kernel too; calls need not wait for its word
        return self.report()

    async def _live(self, process: Process, readers: TaskGroup) -> None:
        """Come up and stay until somebody calls `end`."""
        with self._life:
            if self._reason is not None:
                return
            try:
                with anyio.fail_after(self.spec.start_timeout):
                    channel = await self._link.come_up(
                        process,
                        readers,
                        generation=self.generation,
                        on_eof=partial(self.has_exited, within=_EXIT_AFTER_EOF),
                    )
            except HandshakeError as error:
                self.end(ExitReason.HANDSHAKE, error)
            except TransportError as error:
                self.end(ExitReason.CONNECT, error)
            except TimeoutError:
                self.end(ExitReason.START_TIMEOUT, self._link.timeout_error())
            else:
                if self._reason is not None:
                    return  # it came up in the turn in which it ended: the cancellation had nothing left to cut short
                self.channel = channel
                self.was_ready = True
                self._ready_since = anyio.current_time()
                self._move(Signal.BECAME_READY)
                async with anyio.create_task_group() as watchers:
                    watchers.start_soon(self._await_loss, channel)
                    watchers.start_soon(self._watch_health, channel)

    # --- watchers --------------------------------------------------------------------------------------------------

    async def _await_exit(self, process: Process) -> None:
        self._status = status = await process.wait()
        self._exited_at = anyio.current_time()
        self.exited.set()
        if status.known:
            self.end(ExitReason.EXITED if status.signal is None else ExitReason.SIGNALED)
        else:
            self.end(ExitReason.UNKNOWN)
        self._idle.set()
        self._move_to_exit()

    async def _await_loss(self, channel: Channel) -> None:
        await channel.lost.wait()
        if isinstance(channel.failure, ProtocolViolationError):
            self.end(ExitReason.PROTOCOL, channel.failure)  # it lives, and not by the rules
        elif not await self.has_exited(within=_EXIT_AFTER_LOSS):
            lost = ConnectionLostError("the plugin closed its connection", plugin=self.spec.name)
            self.end(ExitReason.PROTOCOL, lost)

    async def _watch_health(self, channel: Channel) -> None:
        probe = self.spec.health
        if probe is None or not self._link.has_health:
            return
        lost = await watch_health(
            channel,
            probe,
            on_readiness=self._change_readiness,
            on_miss=lambda misses, error: self._emit(ProbeMissed, misses=misses, allowed=probe.failures, error=error),
        )
        if lost is not None:
            error = SupervisorError(
                f"{probe.failures} health checks in a row were missed: {lost}",
                plugin=self.spec.name,
                phase="health",
                hint="is a handler blocking its event loop?",
            )
            self.end(ExitReason.LIVENESS, error)

    def _change_readiness(self, ready: bool) -> None:
        if self._reason is None:
            self._ready_since = anyio.current_time() if ready else None
            self._move(Signal.BECAME_READY if ready else Signal.BECAME_UNREADY)

    # --- the end ---------------------------------------------------------------------------------------------------

    async def _stop(self, process: Process) -> None:
        """End the process: ask, terminate, kill, as far as the reason allows asking."""
        if self._reason is ExitReason.DETACHED or not self._origin.confirmed:
            await self._part_from(process)
            return
        stop = self.spec.stop
        rungs = [Rung("kill", stop.kill, partial(_kill, process))]
        if self._reason is ExitReason.STOPPED:
            rungs.insert(0, Rung("terminate", stop.terminate, partial(_send, process, signal.SIGTERM)))
            channel = self._link.channel
            if channel is not None and not channel.is_lost:
                ask = partial(controller.request_shutdown, channel, timeout=stop.shutdown)
                rungs.insert(0, Rung("shutdown", stop.shutdown, ask))
            if self.was_ready:
                rungs.insert(0, Rung("drain", stop.drain, self._drain))
        elif self._reason is ExitReason.LIVENESS:
            rungs.insert(0, Rung("abort", _ABORT, partial(_send, process, signal.SIGABRT)))
        await climb(rungs, self.exited, on_rung=self._at_rung)
        process.kill_tree()  # also after an exit: the children of the process may have survived it
        if not self.exited.is_set():
            self._reason = ExitReason.UNKILLABLE
            self._move_to_exit()

    async def _part_from(self, process: Process) -> None:
        """Let go of a process that lives on, after the calls under way when that was asked for."""
        if self.was_ready and self._reason in _ASKED_FOR:
            await climb([Rung("drain", self.spec.stop.drain, self._drain)], self.exited, on_rung=self._at_rung)
        elif self._reason in {ExitReason.CONNECT, ExitReason.HANDSHAKE}:
            await self.has_exited(within=_EXIT_AFTER_LOSS)  # a dying process loses its connections first
        if self.exited.is_set():
            self._reason = ExitReason.UNKNOWN if self._reason is ExitReason.DETACHED else self._reason
            return
        self._link.abort()
        assert isinstance(process, SurvivingProcess)
        process.detach()
        self._move(Signal.STOP)
        self._move_to_exit()

    def _move_to_exit(self) -> None:
        """Tell of the end once: of the process's, or of it for this host."""
        if not self._over:
            self._over = True
            self._move(Signal.EXIT)

    def _at_rung(self, name: str) -> None:
        self._emit(StopRung, rung=name)
        self._move(Signal.DRAIN if name == "drain" else Signal.STOP)

    async def _drain(self) -> bool:
        if self.in_flight:
            self._idle = anyio.Event()
            await self._idle.wait()
        return False  # nobody has been asked to end yet

    # --- small parts -----------------------------------------------------------------------------------------------

    def _emit(self, kind: Callable[..., Event], **fields: object) -> None:
        at = anyio.current_time()
        self._emit_event(kind(plugin=self.spec.name, generation=self.generation, at=at, **fields))

    def _note_dropped(self, source: LogSource, count: int, total: int) -> None:
        self._emit(LogsDropped, source=source, count=count, total=total)

    def _early_exit_error(self) -> LaunchError:
        return LaunchError(
            f"ended before it was ready: {self._status}", plugin=self.spec.name, hint=str(self._hearing.last_words)
        )


async def _send(process: Process, number: int) -> bool:
    process.send_signal(number)
    return True


async def _kill(process: Process) -> bool:
    process.kill_tree()
    return True
