"""Keeps one plugin: the only writer of its state. Lives come one after another, decisions come from `policy`."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Mapping, Sequence
from threading import get_ident
from types import MappingProxyType
from typing import Any, Final

import anyio

from supervisor.abc import Runner
from supervisor.errors import (
    ChecksumError,
    HandshakeError,
    LaunchError,
    PluginDrainingError,
    PluginFailedError,
    PluginStoppedError,
    PluginUnavailableError,
    ReattachError,
    SupervisorError,
    VersionMismatchError,
)
from supervisor.events import Event, InstanceExited, PluginGaveUp, RestartScheduled, StateChanged
from supervisor.host.feed import Feed
from supervisor.host.hub import Hub
from supervisor.host.instance import Instance
from supervisor.host.output import Output
from supervisor.levels import Level
from supervisor.lifecycle import TRANSITIONS, Signal, State, transition
from supervisor.outcome import ExitReason, ExitReport
from supervisor.policy import GiveUp, History, Rest, RestartAfter, Verdict, decide
from supervisor.reattach import ReattachToken
from supervisor.records import LogRecord, LogSource
from supervisor.spec import PluginSpec, WhileRestarting

__all__ = ["Keeper"]

_MENDABLE: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.ETXTBSY})
"""Launch errors that pass by themselves; no restart mends any other."""


class Keeper:
    """Runs one life after another until told to rest.

    `run` is the task; the other methods ask it for something and return at once, or wait for what it does without
    doing any of it, so that a caller who is cancelled leaves nothing half done.
    """

    def __init__(
        self,
        spec: PluginSpec,
        *,
        runner: Runner,
        hub: Hub,
        dice: Callable[[], float],
        on_restart: Callable[[str], None],
        on_give_up: Callable[[PluginSpec, str], None],
        services: Sequence[Any] = (),
        outputs: Mapping[LogSource, Output] = MappingProxyType({}),
    ) -> None:
        self.spec = spec
        self.state = State.PENDING
        self.generation = 0
        self.restarts = 0
        self.instance: Instance | None = None
        self.last_exit: ExitReport | None = None
        self.cause: str | None = None
        self.logs: Feed[LogRecord] = Feed()
        self._runner = runner
        self._hub = hub
        self._dice = dice
        self._on_restart = on_restart
        self._on_give_up = on_give_up
        self._services = services
        self._outputs = outputs
        self._history = History()
        self._wanted = True
        self._retired = False
        self._bounce = False
        self._token: ReattachToken | None = None
        self.attached: ReattachToken | None = None
        self._predecessors: tuple[tuple[Keeper, int], ...] = ()
        self._log_level = int(Level.from_name(spec.log_level) or Level.INFO)
        self._changed = anyio.Event()
        self._ordered = anyio.Event()
        self._loop = asyncio.get_running_loop()
        self.thread = get_ident()

    # --- orders ----------------------------------------------------------------------------------------------------

    def order_start(self) -> bool:
        """Want the plugin running; return whether that was news, and not too late."""
        if self._wanted or self._retired:
            return False
        self._wanted = True
        self._bounce = self.instance is not None  # the life that is being stopped is to be followed by another
        self._history = History()
        self._ordered.set()
        return True

    def order_stop(self, reason: ExitReason = ExitReason.STOPPED) -> None:
        """Want it at rest: overtakes a start, a backoff or a restart under way. DETACHED leaves its process alone."""
        self._wanted = self._bounce = False
        self._token = None
        if self.instance is not None:
            self.instance.end(reason)
        self._ordered.set()
        self._tell_waiters()

    def retire(self) -> None:
        """Want it at rest for good: orders to start that come later change nothing."""
        self._retired = True
        self.order_stop()

    def order_restart(self) -> None:
        """Want a new life now; it costs nothing of the restart budget."""
        if self._retired:
            return
        if self.state.at_rest:
            self._history = History()
        self._wanted = self._bounce = True
        if self.instance is not None:
            self.instance.end(ExitReason.STOPPED)
        self._ordered.set()

    def order_reattach(self, token: ReattachToken) -> None:
        """Want the process of `token` as the next life, in place of the one that runs if one does."""
        if not self._retired:
            self._token = token
            self.order_restart()

    def follow(self, predecessors: Sequence[Keeper]) -> None:
        """Begin the next life only when each predecessor's next one is ready, or is not to be."""
        self._predecessors = tuple((keeper, keeper.generation) for keeper in predecessors)

    def set_log_level(self, level: int) -> None:
        """Have this life and the next ones send records from `level` on."""
        self._log_level = level
        if self.instance is not None:
            self.instance.set_log_level(level)

    # --- waiting ---------------------------------------------------------------------------------------------------

    def check_loop(self) -> None:
        """Raise on another loop than the supervisor's own, whose waits would never be woken there.

        Raises:
            SupervisorError: this is another loop.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise SupervisorError(
                "is used from another event loop than its supervisor's",
                plugin=self.spec.name,
                hint="use asyncio.run_coroutine_threadsafe, or a supervisor for each loop",
            )

    @property
    def wanted(self) -> bool:
        """Whether it is meant to run."""
        return self._wanted

    @property
    def _at_rest(self) -> bool:
        return not self._wanted and (self.state.at_rest or self.state is State.PENDING)

    @property
    def ready_instance(self) -> Instance | None:
        """The instance that takes calls now, if there is one; that it is going away counts before the state says so."""
        instance = self.instance
        return instance if instance is not None and self.state is State.READY and not instance.going_away else None

    async def wait_changed(self) -> None:
        """Wait for the next change of state."""
        await self._changed.wait()

    async def wait_begun(self, *, after: int) -> None:
        """Wait for a life later than generation `after`, or for somebody to take the order back.

        An order is carried out by the keeper's task a turn later; until then a state of rest is not the answer.
        """
        while self._wanted and self.generation == after:
            await self.wait_changed()

    async def wait_at_rest(self) -> None:
        """Wait until there is no process and nobody means to start one."""
        while not self._at_rest:
            await self.wait_changed()

    async def wait_stopped(self) -> None:
        """Wait until an order to stop is carried out: until it is at rest, or a later order has replaced the life."""
        life = self.instance
        while not self._at_rest and not (self._wanted and self.instance is not life):
            await self.wait_changed()

    async def wait_ready(self, *, patient: bool = False) -> Instance:
        """Return the instance that takes calls, waiting for it as the plugin's `while_restarting` says.

        Whoever ordered the new life is `patient`: that setting is about calls.

        Raises:
            PluginUnavailableError: it is at rest or draining for a stop, or restarting while calls may not wait.
        """
        self.check_loop()
        while (instance := self.ready_instance) is None:
            self._refuse(patient=patient)
            await self.wait_changed()
        return instance

    def _refuse(self, *, patient: bool) -> None:
        """Raise unless it makes sense to wait for this plugin."""
        name, report = self.spec.name, self.last_exit
        match self.state:
            case State.FAILED | State.STOPPED if self._wanted:
                pass  # an order that its task has not yet taken up
            case State.FAILED:
                raise PluginFailedError(
                    f"given up on: {self.cause}", plugin=name, report=report, hint="mend the cause and call restart()"
                )
            case State.STOPPED:
                hint = "its supervisor has ended" if self._retired else "start() it first"
                why = f"stopped after a failure: {report}" if report is not None and report.failed else "stopped"
                raise PluginStoppedError(why, plugin=name, report=report, hint=hint)
            case State.DRAINING | State.STOPPING if not self._wanted:
                raise PluginDrainingError("is being stopped and takes no new calls", plugin=name)
            case State.PENDING | State.STARTING if self.generation <= 1:
                pass  # the first start is not a restart
            case _ if self.spec.while_restarting is WhileRestarting.FAIL and not patient:
                raise PluginUnavailableError(
                    f"is {self.state} and calls may not wait", plugin=name, report=report, hint="try again later"
                )

    # --- the task --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the plugin until cancelled; the cancellation kills what runs."""
        try:
            await self._keep()
        except anyio.get_cancelled_exc_class():
            self._come_to_rest()
            raise

    def _come_to_rest(self) -> None:
        """Leave no state behind that somebody might wait to change: a cancellation comes anywhere."""
        self._wanted = False
        self._retired = True
        self._tell_waiters()
        if not self.state.at_rest:
            if Signal.EXIT in TRANSITIONS[self.state]:
                self._move(Signal.EXIT)
            self._move(Signal.STOP)

    async def _keep(self) -> None:
        while True:
            self._ordered = anyio.Event()
            if not self._wanted:
                if not self.state.at_rest:
                    self._move(Signal.STOP)
                await self._ordered.wait()
                continue
            await self._await_predecessors()
            if self._wanted and not self._ordered.is_set():
                await self._live_once()

    async def _await_predecessors(self) -> None:
        predecessors, self._predecessors = self._predecessors, ()
        if not predecessors:
            return
        async with anyio.create_task_group() as tasks:

            async def yield_to_orders() -> None:
                await self._ordered.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(yield_to_orders)
            for keeper, generation in predecessors:
                while not keeper.state.at_rest and not (keeper.generation > generation and keeper.state is State.READY):
                    await keeper.wait_changed()
            tasks.cancel_scope.cancel()

    async def _live_once(self) -> None:
        token, self._token = self._token, None
        self.generation = max(self.generation + 1, token.generation if token is not None else 0)
        self.attached = token or self.attached
        self._bounce = False
        self.instance = Instance(
            self.spec,
            self.generation,
            runner=self._runner,
            log_level=self._log_level,
            move=self._move,
            emit=self._hub.emit,
            on_record=self._take_record,
            services=self._services,
            outputs=self._outputs,
            token=token,
        )
        self._move(Signal.START)
        try:
            await self.instance.run()
        except anyio.get_cancelled_exc_class():
            self.instance.end(ExitReason.STOPPED)  # whoever cancels a keeper wants its plugin gone
            raise
        finally:
            # Also when a cancellation cut it short: every life that began ends with one event.
            if self._bounce and self._token is None and not self.instance.was_ready:
                self._token = token  # it runs and is nobody's yet: a new life beside it would be a second one
            self.last_exit = report = self.instance.report()
            self.instance = None
            self._emit(InstanceExited, report=report)
        await self._follow_up(report)

    async def _follow_up(self, report: ExitReport) -> None:
        if not self._wanted:
            return
        verdict: Verdict
        if self._bounce:
            verdict = RestartAfter(0.0, self._history)
        elif (cause := _beyond_restart(report)) is not None:
            self._give_up(report, cause)
            return
        else:
            verdict = decide(
                self.spec.restart,
                self._history,
                failed=report.failed,
                now=anyio.current_time(),
                ready_for=report.ready_for,
                dice=self._dice(),
            )
        match verdict:
            case Rest():
                self._wanted = False
                self._move(Signal.REST)
            case GiveUp(spent, period):
                self._give_up(report, f"{spent} restarts within {period:g} s were not enough: {report}")
            case RestartAfter(delay, history):
                self._history = history
                await self._back_off(delay, history.streak)

    async def _back_off(self, delay: float, attempt: int) -> None:
        self.restarts += 1
        self._move(Signal.RETRY)
        self._emit(RestartScheduled, delay=delay, attempt=attempt, ordered=self._bounce)
        if not self._bounce:
            self._on_restart(self.spec.name)
        if delay:
            with anyio.move_on_after(delay):
                await self._ordered.wait()

    def break_down(self, error: Exception) -> None:
        """Fail for good after a defect of this library: whoever waits is told instead of hanging."""
        self._wanted = False
        self._retired = True
        self.instance = None
        self.cause = f"defect in the supervisor: {error!r}"
        old, self.state = self.state, State.FAILED
        self._tell_waiters()
        self._emit(StateChanged, old=old, new=State.FAILED)
        self._on_give_up(self.spec, self.cause)

    def _give_up(self, report: ExitReport, cause: str) -> None:
        self._wanted = False
        self.cause = cause
        self._move(Signal.GIVE_UP)
        self._emit(PluginGaveUp, cause=cause, report=report)
        if not isinstance(report.error, ReattachError):  # whoever asked for that decides what comes now
            self._on_give_up(self.spec, cause)

    def _take_record(self, record: LogRecord) -> None:
        pid = self.instance.pid if self.instance is not None else None
        self._hub.record(self.spec.name, self.generation, pid or 0, record)
        self.logs.tell(record)

    def _move(self, by: Signal) -> None:
        old, new = self.state, transition(self.state, by)
        if new is old:
            return
        self.state = new
        self._tell_waiters()
        self._emit(StateChanged, old=old, new=new)

    def _tell_waiters(self) -> None:
        """Have whoever waits for a change look again: the state, or what is wanted, is another."""
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def _emit(self, kind: Callable[..., Event], **fields: object) -> None:
        self._hub.emit(kind(plugin=self.spec.name, generation=self.generation, at=anyio.current_time(), **fields))


def _beyond_restart(report: ExitReport) -> str | None:
    """Say why no restart can mend this exit, or return None when one may."""
    match report.error:
        case (
            VersionMismatchError()
            | ChecksumError()
            | HandshakeError(field="protocol" | "certificate" | "network" | "multiplex")
        ):
            return str(report.error)
        case LaunchError(errno=number) if number is not None and number not in _MENDABLE:
            return str(report.error)
        case ReattachError():
            return str(report.error)
        case _:
            return None
