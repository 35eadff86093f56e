"""The supervisor: its own root task, one keeper for each plugin, and the way in for the application."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar, overload

from supervisor.abc import Observer, Runner
from supervisor.errors import (
    ConfigurationError,
    PluginFailedError,
    ReattachError,
    RestartIntensityExceededError,
    SupervisorError,
    VersionMismatchError,
)
from supervisor.events import Event
from supervisor.host.attachment import find_debugged
from supervisor.host.call import UNSET, PluginChannel, Unset
from supervisor.host.feed import Subscription
from supervisor.host.output import Stdio
from supervisor.host.plugin import Plugin
from supervisor.host.running import Running
from supervisor.interface import Interface
from supervisor.policy import Strategy
from supervisor.reattach import ReattachToken
from supervisor.spec import Discovery, PluginSpec, SupervisorSpec
from supervisor.tls import TlsContexts
from supervisor.transport.generated import repair_stub
from supervisor.transport.service import routes_of

__all__ = ["Supervisor"]

StubT = TypeVar("StubT")

Services = Sequence[Any] | Mapping[str, Sequence[Any]]
"""Servicers for all plugins, or for some by name."""


class Supervisor:
    """Runs plugins while it is entered, and hands out stubs that survive their restarts.

    It may be entered and left from different tasks (a test fixture, an ASGI lifespan, an exit stack) and, once left,
    entered again. A plugin's failure never raises into the application: it shows in states, events and the errors of
    calls. The only exception is a plugin with `escalate`: leaving the context then raises
    `RestartIntensityExceededError`.

    A plugin in debug mode (`python plugin.py --debug=NAME`) that `SUPERVISOR_REATTACH` in the environment leads to is
    attached to instead of started.

    Args:
        plugins: the plugins in start order.
        strategy: who else restarts when one of them does.
        observers: who is told of events and log records; structlog when None.
        runner: where plugins run; subprocesses when None.
        services: servicers that the plugins may call, each plugin all of them; or by the plugin's name, and then those
            that are not named get none. Without, plugins cannot call the host.
        stdio: writers for what plugins print, by the plugin's name; see `Stdio`. What has none becomes log records.
        discovery: where to look for more plugins, each time this is entered; those found come after the others.
    """

    def __init__(
        self,
        plugins: Iterable[PluginSpec] = (),
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        observers: Sequence[Observer] | None = None,
        runner: Callable[[], Runner] | None = None,
        services: Services = (),
        stdio: Mapping[str, Stdio] = MappingProxyType({}),
        discovery: Discovery | None = None,
    ) -> None:
        self.spec = SupervisorSpec(plugins=tuple(plugins), strategy=strategy, discovery=discovery)
        self._observers = observers
        self._runner_factory = runner
        self._services = services
        self._stdio = stdio
        if discovery is None:  # otherwise the names are known later
            self._check_all_names(self.spec)
        self._run: Running | None = None

    @classmethod
    def from_config(
        cls,
        path: str | os.PathLike[str],
        *,
        observers: Sequence[Observer] | None = None,
        services: Services = (),
        stdio: Mapping[str, Stdio] = MappingProxyType({}),
    ) -> Supervisor:
        """Read the plugins from a TOML file; what else there is to say is said as to the constructor.

        Raises:
            ConfigurationError: names file, table and key, what was found and what is allowed.
        """
        from supervisor.config import load_config  # noqa: PLC0415  # msgspec is loaded only where there is a file

        spec = load_config(path)
        return cls(
            spec.plugins,
            strategy=spec.strategy,
            observers=observers,
            services=services,
            stdio=stdio,
            discovery=spec.discovery,
        )

    def __del__(self) -> None:
        # Set late: a constructor that raised leaves nothing to warn about.
        if (run := getattr(self, "_run", None)) is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=1)
            run.abandon()

    def __repr__(self) -> str:
        if self._run is None:
            return f"<Supervisor of {len(self.spec.plugins)} plugins, not running>"
        return f"<Supervisor of {', '.join(map(repr, self.plugins.values()))}>"

    # --- entering and leaving --------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._run is not None:
            raise RuntimeError("the supervisor is running already")
        spec = await self._discover()
        services = _by_plugin(self._services, spec)
        _check_services(services, spec)
        debugged = find_debugged(os.environ, [plugin.name for plugin in spec.plugins])
        self._run = run = Running(spec, self._observers, self._runner_factory, services, self._stdio)
        for token in debugged:
            run.keepers[token.name].order_reattach(token)
        try:
            await run.start()
        except BaseException:
            self._run = None
            raise
        return self

    async def _discover(self) -> SupervisorSpec:
        """Return the specification with the plugins that are found now."""
        if self.spec.discovery is None:
            return self.spec
        from supervisor.host.discovery import find_plugins  # noqa: PLC0415  # only where something is to be found

        found = await find_plugins(self.spec.discovery, known=self.spec.plugins, make_runner=self._runner_factory)
        if self._run is not None:
            raise RuntimeError("the supervisor was entered twice")
        spec = replace(self.spec, plugins=(*self.spec.plugins, *found))
        self._check_all_names(spec)
        return spec

    def _check_all_names(self, spec: SupervisorSpec) -> None:
        if isinstance(self._services, Mapping):
            _check_names("services", self._services, spec)
        _check_names("stdio", self._stdio, spec)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        escalated = await self._leave(hurried=isinstance(error, asyncio.CancelledError))
        if escalated is not None and error is None:
            raise escalated

    async def aclose(self) -> None:
        """Stop every plugin and wait for it. Idempotent.

        The first cancellation while waiting is kept until the plugins have stopped within their graces, the second
        kills them at once; either way nothing of them is left when this raises.
        """
        await self._leave(hurried=False)

    async def _leave(self, *, hurried: bool) -> RestartIntensityExceededError | None:
        run = self._run
        if run is None:
            return None
        run.check_loop()
        try:
            await run.stop(hurried=hurried)
        finally:
            if self._run is run:
                self._run = None
        return run.escalated

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:  # noqa: ARG002  # frameworks pass themselves
        """Run while an ASGI application does: `FastAPI(lifespan=supervisor.lifespan)`, or Starlette's."""
        async with self:
            yield

    # --- using -----------------------------------------------------------------------------------------------------

    @overload
    async def dispense(
        self, plugin: str, stub: Callable[[Any], StubT], *, timeout: float | Unset | None = UNSET
    ) -> StubT: ...
    @overload
    async def dispense(
        self, plugin: str, stub: Interface[StubT], *, timeout: float | Unset | None = UNSET
    ) -> StubT: ...
    @overload
    async def dispense(self, plugin: Interface[StubT], *, timeout: float | Unset | None = UNSET) -> StubT: ...
    @overload
    async def dispense(self, plugin: Callable[[Any], StubT], *, timeout: float | Unset | None = UNSET) -> StubT: ...
    async def dispense(self, plugin: Any, stub: Any = None, *, timeout: float | Unset | None = UNSET) -> Any:
        """Return a typed stub for an interface of a plugin, valid across its restarts.

        `dispense("store", KvStub)` names the plugin, `dispense(KV)` finds the one that provides the interface, and
        `dispense(KvStub)` does when there is only one plugin. Waits for the plugin as a call would; later calls on
        the stub wait by themselves.

        Args:
            plugin: the plugin's name, an interface, or a stub when there is only one plugin.
            stub: an interface, or anything callable with a grpclib channel.
            timeout: seconds that each call on this stub may take when it names no timeout of its own; None for no
                deadline, the plugin's `call_timeout` when left out.

        Raises:
            PluginNotFoundError: no plugin has the name or provides the interface, or several do.
            PluginUnavailableError: the plugin is at rest, or did not become ready within its `ready_timeout`.
            VersionMismatchError: the plugin speaks another version than the interface was made for.
        """
        run = self._running
        interface = stub if stub is not None else plugin
        keeper = run.find(plugin) if isinstance(plugin, str) else run.provider_of(plugin)
        channel = PluginChannel(keeper, timeout=timeout)
        instance = await channel.wait_ready()
        if isinstance(interface, Interface):
            if instance.version != interface.version:
                raise VersionMismatchError(
                    f"speaks version {instance.version}, interface {interface.name!r} was made for {interface.version}",
                    spoken=instance.version,
                    accepted=(interface.version,),
                    plugin=keeper.spec.name,
                    hint="list the version under `versions` and rebuild the plugin for it",
                )
            interface = interface.stub
        if not callable(interface):
            raise ConfigurationError(
                f"{interface!r} is no stub: it cannot be called with a channel",
                hint="dispense takes a name and a stub, an interface, or a stub",
            )
        return repair_stub(interface(channel))

    async def reattach(self, token: ReattachToken) -> Plugin:
        """Take over a plugin that runs already, as the next life of the one of its name; wait until it is ready.

        From then on it is kept as any other: watched, called, stopped, and restarted by its specification, as a child of
        this host. Said right after entering, nothing was started yet; later, the life that runs is stopped first.

        When it fails the process that the token names was not signalled, and the plugin is at rest (FAILED): `start` it
        if the error says that the process is `gone`.

        Raises:
            PluginNotFoundError: no plugin has the token's name.
            ReattachError: the process has ended, is another one, is held by another host or does not answer as it should.
            PluginUnavailableError: the supervisor is being left.
        """
        keeper = self._running.find(token.name)
        keeper.check_loop()
        before = keeper.generation
        keeper.order_reattach(token)
        await keeper.wait_begun(after=before)
        try:
            await keeper.wait_ready(patient=True)
        except PluginFailedError as failed:
            if failed.report is not None and isinstance(failed.report.error, ReattachError):
                raise failed.report.error from failed.report.error.__cause__
            raise
        if keeper.attached is not token:
            raise ReattachError("another order to take over came in between", plugin=token.name)
        return Plugin(keeper)

    def plugin(self, name: str) -> Plugin:
        """Return the handle of a plugin.

        Raises:
            PluginNotFoundError: there is no plugin of this name.
        """
        return Plugin(self._running.find(name))

    @property
    def plugins(self) -> Mapping[str, Plugin]:
        """The handles of all plugins by name, in start order."""
        return MappingProxyType({name: Plugin(keeper) for name, keeper in self._running.keepers.items()})

    def subscribe(self, *, capacity: int = 1024) -> Subscription[Event]:
        """Return the events from now on, as an async iterator that ends with the supervisor."""
        return self._running.hub.events.subscribe(capacity)

    async def ready(self) -> None:
        """Wait until every plugin is ready.

        Raises:
            PluginUnavailableError: one is at rest.
        """
        for keeper in self._running.keepers.values():
            await keeper.wait_ready()

    async def wait_closed(self) -> None:
        """Wait until the supervisor has ended: somebody left it, or a plugin with `escalate` was given up on.

        Raises:
            RestartIntensityExceededError: it was the latter.
        """
        run = self._run
        if run is not None:
            await run.ended.wait()
            if run.escalated is not None:
                raise run.escalated

    @property
    def _running(self) -> Running:
        if self._run is None:
            raise SupervisorError("the supervisor is not running", hint="use it inside `async with supervisor:`")
        return self._run


def _by_plugin(services: Services, spec: SupervisorSpec) -> Mapping[str, Sequence[Any]]:
    if not isinstance(services, Mapping):
        return {plugin.name: tuple(services) for plugin in spec.plugins}
    return {name: tuple(chosen) for name, chosen in services.items()}


def _check_services(services: Mapping[str, Sequence[Any]], spec: SupervisorSpec) -> None:
    for plugin in spec.plugins:
        offered = services.get(plugin.name, ())
        routes_of(offered, plugin=plugin.name, key="services")
        if offered and isinstance(plugin.tls, TlsContexts) and plugin.tls.server is None:
            raise ConfigurationError(
                "tls has no context for a server", plugin=plugin.name, key="tls", hint="services are served by the host"
            )


def _check_names(what: str, given: Mapping[str, object], spec: SupervisorSpec) -> None:
    names = [plugin.name for plugin in spec.plugins]
    if unknown := sorted(given.keys() - set(names)):
        raise ConfigurationError(
            f"{what} for {', '.join(map(repr, unknown))}, which no plugin is named",
            hint=f"the plugins are: {', '.join(names) or 'none'}",
        )
