"""What an application may know of and ask from one plugin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from supervisor.errors import PluginUnavailableError, ReattachError
from supervisor.host.call import PluginChannel
from supervisor.host.connections import Connections
from supervisor.host.feed import Subscription
from supervisor.host.keeper import Keeper
from supervisor.levels import Level
from supervisor.lifecycle import State
from supervisor.outcome import ExitReason, ExitReport
from supervisor.reattach import ReattachToken
from supervisor.records import LogRecord
from supervisor.services.broker import Broker, Dialling, Offering
from supervisor.spec import PluginSpec
from supervisor.transport.channel import Channel

__all__ = ["Plugin"]

StubT = TypeVar("StubT")


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

    def reattach_token(self) -> ReattachToken:
        """Return what another host needs to take this life over: `await supervisor.reattach(token)`.

        With `survive_host` it lives on when this host is gone, so that whoever stored the token finds it; otherwise the
        token is good for as long as this host lives. It is no secret.

        Raises:
            PluginUnavailableError: there is no life, or it is not up yet.
            ReattachError: no other host could take it over: it has AutoMTLS or is multiplexed.
        """
        instance = self._keeper.instance
        if instance is None or not instance.is_up:
            raise PluginUnavailableError(f"is {self.state}: there is nothing to take over", plugin=self.name)
        return instance.token()

    async def detach(self) -> ReattachToken:
        """Let this life go on without this host, and return what the next one needs to take it over.

        The calls under way are finished first, as for a stop. Here the plugin is at rest then; `start` would start
        another process beside the one that lives on.

        Raises:
            PluginUnavailableError: there is no life, or it is not up yet.
            ReattachError: it would end with this host, has ended meanwhile, or no other host could take it over.
        """
        self._keeper.check_loop()
        token = self.reattach_token()
        if not token.survives_host:
            raise ReattachError("ends with its host", plugin=self.name, hint="set survive_host = true")
        self._keeper.order_stop(ExitReason.DETACHED)
        await self._keeper.wait_stopped()
        if (report := self.last_exit) is None or report.reason is not ExitReason.DETACHED:
            how = "it was stopped" if report is None else report.summary
            raise ReattachError(f"ended instead of being let go: {how}", gone=True, plugin=self.name)
        return token

    def offer(self, *services: Any) -> Offering:
        """Offer servicers to this life, to be passed in a call: `async with plugin.offer(Adder()) as service_id`.

        go-plugin's way to pass an implementation as an argument; the plugin dials the id. Entered, they are offered
        until the end of the block, where calls that are under way are cut; awaited, until this life ends. Waits for
        the plugin as a call would.

        Awaiting or entering it raises:
            BrokerError: the plugin has no broker, or as much is offered and connected as `limits` allow.
            PluginUnavailableError: there is no life to offer them to.
        """

        async def publish() -> tuple[Broker, int]:
            return await (await self._connections()).publish(services)

        return Offering(publish)

    def dial(self, service_id: int, stub: Callable[[Any], StubT]) -> Dialling[StubT]:
        """Connect to a service that this life offers: `adder = await plugin.dial(id, AdderStub)`, or `async with`.

        Awaited, it is connected until the plugin withdraws the service or this life ends; entered, until the end of
        the block. Calls on the stub fail with `ConnectionLostError` then, and have no deadline but their own.

        Awaiting or entering it raises:
            BrokerError: nobody offers the id (go-plugin waits five seconds for it), or there is no broker.
            ConnectError: nobody is there.
            PluginUnavailableError: there is no life to dial.
        """

        async def connect() -> Channel:
            return await (await self._connections()).connect(service_id)

        return Dialling(connect, stub)

    async def _connections(self) -> Connections:
        instance = await PluginChannel(self._keeper).wait_ready()
        assert instance.connections is not None
        return instance.connections

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
