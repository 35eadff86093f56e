"""What an application may know of and ask from one plugin."""

from __future__ import annotations

from supervisor.host.feed import Subscription
from supervisor.host.keeper import Keeper
from supervisor.lifecycle import State
from supervisor.outcome import ExitReport
from supervisor.records import Level, LogRecord
from supervisor.spec import PluginSpec

__all__ = ["Plugin"]


class Plugin:
    """A plugin of a running supervisor, across all its lives.

    The methods that wait only wait: cancelling them does not take back what was asked for.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def __repr__(self) -> str:
        keeper = self._keeper
        pid = f", pid {self.pid}" if self.pid else ""
        flight = f", {self.in_flight} in flight" if keeper.instance else ""
        return f"<Plugin {self.name!r} {self.state}, generation {self.generation}{pid}{flight}>"

    @property
    def name(self) -> str:
        """Its name."""
        return self._keeper.spec.name

    @property
    def spec(self) -> PluginSpec:
        """What it is and how it is kept."""
        return self._keeper.spec

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._keeper.state

    @property
    def generation(self) -> int:
        """Which life it is in, from 1; 0 before the first."""
        return self._keeper.generation

    @property
    def pid(self) -> int | None:
        """The process id of this life, None when there is no process."""
        instance = self._keeper.instance
        return instance.pid if instance is not None else None

    @property
    def version(self) -> int | None:
        """The version of the application protocol that this life speaks, None before its handshake."""
        instance = self._keeper.instance
        return instance.version if instance is not None else None

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        instance = self._keeper.instance
        return instance.in_flight if instance is not None else 0

    @property
    def restarts(self) -> int:
        """Restarts since the supervisor started, ordered ones included."""
        return self._keeper.restarts

    @property
    def last_exit(self) -> ExitReport | None:
        """How its last life ended, None while it is in its first.

        Complete, its last words included, a moment after the exit; until then `PluginCrashedError.report` has what is known.
        """
        return self._keeper.last_exit

    @property
    def cause(self) -> str | None:
        """Why it was given up on, None when it was not."""
        return self._keeper.cause if self.state is State.FAILED else None

    async def ready(self) -> None:
        """Wait until it is ready.

        Raises:
            PluginUnavailableError: it is at rest, or restarting while it says `while_restarting = "fail"`.
        """
        await self._keeper.wait_ready()

    async def wait_at_rest(self) -> None:
        """Wait until it is stopped or failed: no process, and nobody means to start one."""
        self._keeper.check_loop()
        await self._keeper.wait_at_rest()

    async def start(self) -> None:
        """Start it if it is at rest, and wait until it is ready."""
        self._keeper.check_loop()
        before = self.generation
        if self._keeper.order_start():
            await self._keeper.wait_begun(after=before)
        await self._keeper.wait_ready(patient=True)

    async def stop(self) -> None:
        """Stop it and wait until it is at rest. Overtakes a restart; never counts as a failure. Idempotent.

        When somebody orders a start meanwhile it returns as soon as the life that was stopped has ended.
        """
        self._keeper.check_loop()
        self._keeper.order_stop()
        await self._keeper.wait_stopped()

    async def restart(self) -> None:
        """Replace this life by a new one, also after giving up, and wait until that is ready."""
        self._keeper.check_loop()
        before = self.generation
        self._keeper.order_restart()
        await self._keeper.wait_begun(after=before)
        await self._keeper.wait_ready(patient=True)

    def set_log_level(self, level: int | str) -> None:
        """Have it send log records from `level` on, in this life and the next ones.

        Raises:
            ValueError: the name is not a level's.
        """
        number = Level.from_name(level) if isinstance(level, str) else level
        if number is None:
            raise ValueError(f"{level!r} is not a log level")
        self._keeper.set_log_level(int(number))

    def logs(self, *, capacity: int = 1024) -> Subscription[LogRecord]:
        """Return its log records from now on, as an async iterator; close it when you are done."""
        return self._keeper.logs.subscribe(capacity)
