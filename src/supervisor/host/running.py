"""The root task of a running supervisor, and the keepers it owns."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import anyio

from supervisor.abc import Observer, Runner
from supervisor.errors import PluginNotFoundError, RestartIntensityExceededError, SupervisorError
from supervisor.host.hub import Hub
from supervisor.host.keeper import Keeper
from supervisor.host.output import Output, Stdio
from supervisor.interface import Interface
from supervisor.policy import affected
from supervisor.records import LogSource
from supervisor.spec import PluginSpec, SupervisorSpec

__all__ = ["Running"]


class Running:
    """One time of being entered: made, started, and stopped once.

    Attributes:
        keepers: one for each plugin, in start order.
        hub: where events and records leave.
        ended: set when nothing runs any more.
        escalated: why the supervisor ended by itself, None when it did not.
    """

    def __init__(
        self,
        spec: SupervisorSpec,
        observers: Sequence[Observer] | None,
        runner: Callable[[], Runner] | None,
        services: Mapping[str, Sequence[Any]],
        stdio: Mapping[str, Stdio],
    ) -> None:
        self.hub = Hub(_default_observers() if observers is None else observers)
        self.ended = anyio.Event()
        self.escalated: RestartIntensityExceededError | None = None
        self._strategy = spec.strategy
        self._runner = _default_runner() if runner is None else runner()
        self._stopping = anyio.Event()
        self._root: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        outputs = _make_outputs(stdio)
        self.keepers: dict[str, Keeper] = {
            plugin.name: Keeper(
                plugin,
                runner=self._runner,
                hub=self.hub,
                dice=random.random,
                on_restart=self._restart_affected,
                on_give_up=self._give_up,
                services=services.get(plugin.name, ()),
                outputs=outputs.get(plugin.name, {}),
            )
            for plugin in spec.plugins
        }

    def check_loop(self) -> None:
        """Raise a SupervisorError on another loop than the one that this was entered on."""
        if asyncio.get_running_loop() is not self._loop:
            raise SupervisorError(
                "the supervisor is used from another event loop than it was entered on",
                hint="leave it where it was entered, for example by asyncio.run_coroutine_threadsafe",
            )

    def abandon(self) -> None:
        """Kill what runs, if the loop is closed and nobody else can do it any more. Synchronous."""
        if self._loop.is_closed():
            self._runner.close()

    # --- finding ---------------------------------------------------------------------------------------------------

    def find(self, name: str) -> Keeper:
        """Return the keeper of the plugin of this name; PluginNotFoundError when there is none."""
        try:
            return self.keepers[name]
        except KeyError:
            known = ", ".join(self.keepers) or "none"
            raise PluginNotFoundError(f"no plugin is named {name!r}", hint=f"the plugins are: {known}") from None

    def provider_of(self, wanted: object) -> Keeper:
        """Return the one plugin that provides an interface, or the only plugin for anything else.

        Raises:
            PluginNotFoundError: there is none, or more than one.
        """
        if isinstance(wanted, Interface):
            found = [keeper for keeper in self.keepers.values() if wanted.name in keeper.spec.provides]
            what = f"interface {wanted.name!r}"
            hint = f'add provides = ["{wanted.name}"] to the plugin that does'
        else:
            found = list(self.keepers.values())
            what = getattr(wanted, "__name__", repr(wanted))
            hint = "add a plugin"
        match found:
            case [keeper]:
                return keeper
            case []:
                raise PluginNotFoundError(f"no plugin provides {what}", hint=hint)
            case _:
                names = ", ".join(repr(keeper.spec.name) for keeper in found)
                raise PluginNotFoundError(
                    f"{what} could be any of {names}", hint=f"name the plugin: dispense({found[0].spec.name!r}, ...)"
                )

    # --- the root task ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the root task. It belongs to nobody's task group, so leaving may happen in another task."""
        self._root = asyncio.create_task(self._keep_all(), name="supervisor")

    async def stop(self, *, hurried: bool) -> None:
        """Stop all plugins and wait for the root task; see `Supervisor.aclose` about cancellation."""
        root = cast("asyncio.Task[None]", self._root)
        self._stopping.set()
        cancelled: asyncio.CancelledError | None = None
        # The shield holds off the scopes of anyio, which would cancel every await in here over and over.
        with anyio.CancelScope(shield=True):
            while not root.done():
                try:
                    await asyncio.wait([root])
                except asyncio.CancelledError as error:
                    if hurried or cancelled is not None:
                        root.cancel()
                    cancelled = error
        if cancelled is not None:
            raise cancelled
        if not root.cancelled():
            root.result()

    async def _keep_all(self) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                for keeper in self.keepers.values():
                    tasks.start_soon(self._keep, keeper, name=f"keep {keeper.spec.name}")
                await self._stopping.wait()
                for keeper in reversed(self.keepers.values()):
                    keeper.retire()
                for keeper in self.keepers.values():
                    await keeper.wait_at_rest()
                tasks.cancel_scope.cancel()
        finally:
            self._runner.close()
            for keeper in self.keepers.values():
                keeper.logs.close()
            self.hub.events.close()
            self.ended.set()

    async def _keep(self, keeper: Keeper) -> None:
        try:
            await keeper.run()
        except Exception as error:  # noqa: BLE001  # a defect in one keeper must not take the others down
            keeper.break_down(error)
            asyncio.get_running_loop().call_exception_handler(
                {
                    "message": f"the keeper of plugin {keeper.spec.name!r} broke down",
                    "exception": error,
                }
            )

    def _restart_affected(self, name: str) -> None:
        """Restart who restarts together with `name`, each after those before it in start order."""
        names = affected(self._strategy, list(self.keepers), name)
        keepers = [keeper for each in names if (keeper := self.keepers[each]).wanted]
        for position, keeper in enumerate(keepers):
            keeper.follow(keepers[:position])
            if keeper.spec.name != name:
                keeper.order_restart()

    def _give_up(self, plugin: PluginSpec, cause: str) -> None:
        if plugin.escalate and self.escalated is None:
            self.escalated = RestartIntensityExceededError(
                f"given up on, and the supervisor with it: {cause}", plugin=plugin.name, hint="mend the plugin"
            )
            self._stopping.set()


def _make_outputs(stdio: Mapping[str, Stdio]) -> dict[str, dict[LogSource, Output]]:
    """Return the outputs of each plugin. A writer has one, so that it is called from one thread at a time."""
    made: dict[int, Output] = {}
    outputs: dict[str, dict[LogSource, Output]] = {}
    for name, given in stdio.items():
        for source, writer in ((LogSource.STDOUT, given.stdout), (LogSource.STDERR, given.stderr)):
            if writer is not None:
                output = made.setdefault(id(writer), Output(writer))
                outputs.setdefault(name, {})[source] = output
    return outputs


def _default_observers() -> Sequence[Observer]:
    from supervisor.observe.structlog import StructlogObserver  # noqa: PLC0415  # only when nobody else observes

    return (StructlogObserver(),)


def _default_runner() -> Runner:
    from supervisor.runners.subprocess import SubprocessRunner  # noqa: PLC0415  # only when nobody brings another

    return SubprocessRunner()
