"""Find plugins: by files that match a pattern, and by the entry points of what is installed.

Each program found is run once, under the same care as a plugin, with `SUPERVISOR_MANIFEST` in its environment and without
the magic cookie: this library's sdk answers with a manifest and exits, Go plugins say that they are plugins and exit.
Whoever says nothing is a plugin that is named after its file. See `supervisor.manifest`.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import anyio

from supervisor.abc import ByteSource, LaunchedProcess, Runner
from supervisor.errors import ConfigurationError, LaunchError
from supervisor.manifest import MANIFEST_VARIABLE, MAX_MANIFEST, Manifest, find_manifest
from supervisor.spec import Discovery, PluginSpec, Stdin

__all__ = ["discover", "find_plugins"]

_GROUP: Final = "supervisor.plugins"
_LAST_WORDS: Final = 0.25
"""Seconds after the exit for what was printed; a grandchild can hold the pipe for ever."""

_SCRIPTS: Final = (".py", ".pyz")


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A program that may be a plugin.

    Attributes:
        name: what it is called if it does not say.
        source: where it was found, for errors.
        spec: how it is asked, and run; its name is a stand-in.
    """

    name: str
    source: str
    spec: PluginSpec


async def discover(
    pattern: str | None = None,
    *,
    entry_points: bool = False,
    template: PluginSpec | None = None,
    timeout: float = 10.0,
) -> list[PluginSpec]:
    """Return the specifications of the plugins that are there, by path and then by entry point.

    Args:
        pattern: a glob of files, `**` included; those that may be executed are plugins.
        entry_points: look at the entry points in the group `supervisor.plugins` too.
        template: what all of them have, but for name, command, interfaces and manifest.
        timeout: seconds for a program to answer.

    Raises:
        ConfigurationError: there is nothing to look for; a manifest is not right; a name is none, or is there twice.
    """
    given = {} if template is None else {"template": template}
    return list(await find_plugins(Discovery(pattern=pattern, entry_points=entry_points, timeout=timeout, **given)))


async def find_plugins(
    discovery: Discovery, *, known: Iterable[PluginSpec] = (), make_runner: Callable[[], Runner] | None = None
) -> tuple[PluginSpec, ...]:
    """Find what `discovery` describes and ask it, a few at a time. Safe to cancel: nothing is left running.

    A program that cannot be launched is a plugin all the same, so that its keeper says what is wrong with it.

    Args:
        discovery: where to look.
        known: plugins whose programs are not to be found again.
        make_runner: where programs are asked; in subprocesses when None.

    Raises:
        ConfigurationError: a manifest is not right; a name is none, or is there twice.
    """
    candidates = [*_find_files(discovery, list(known)), *_find_entry_points(discovery)]
    manifests: list[Manifest | None] = [None] * len(candidates)
    runner = _default_runner() if make_runner is None else make_runner()
    limit = anyio.CapacityLimiter(os.cpu_count() or 1)

    async def ask(index: int, spec: PluginSpec) -> None:
        async with limit:
            output = await _ask(spec, runner, discovery.timeout)
        try:
            manifests[index] = find_manifest(output)
        except ConfigurationError as error:
            problems.append(_about(candidates[index], error))

    problems: list[ConfigurationError] = []
    try:
        async with anyio.create_task_group() as tasks:
            for index, candidate in enumerate(candidates):
                tasks.start_soon(ask, index, candidate.spec)
    finally:
        runner.close()
    if problems:
        raise problems[0] from problems[0].__cause__
    return _specify(candidates, manifests)


def _find_files(discovery: Discovery, known: Sequence[PluginSpec]) -> list[_Candidate]:
    if discovery.pattern is None:
        return []
    taken = {Path(spec.cwd or ".", part).resolve() for spec in known for part in spec.command if "/" in part}
    owner = discovery.template.verify_owner
    found = []
    # Not Path.glob, which takes no absolute patterns.
    for path in sorted(Path(name).absolute() for name in glob.glob(discovery.pattern, recursive=True)):  # noqa: PTH207
        # Not Path.is_file, which raises where a folder may not be passed.
        if not os.path.isfile(path) or not os.access(path, os.X_OK) or path.resolve() in taken:  # noqa: PTH113
            continue
        name = path.stem if path.suffix in _SCRIPTS else path.name
        spec = replace(discovery.template, command=(str(path),), verify_owner=True if owner is None else owner)
        found.append(_Candidate(name, str(path), spec))
    return found


def _find_entry_points(discovery: Discovery) -> list[_Candidate]:
    if not discovery.entry_points:
        return []
    from importlib import metadata  # noqa: PLC0415  # slow to import, and seldom wanted

    found = []
    for entry_point in sorted(metadata.entry_points(group=_GROUP), key=lambda each: each.name):
        # -P: nothing is imported from whatever directory the plugin runs in.
        command = (sys.executable, "-P", "-m", "supervisor.sdk.entry", entry_point.name)
        spec = replace(discovery.template, command=command)
        source = f"entry point {entry_point.name!r} of {entry_point.dist.name if entry_point.dist else 'nobody'}"
        found.append(_Candidate(entry_point.name, source, spec))
    return found


async def _ask(spec: PluginSpec, runner: Runner, timeout: float) -> bytes:
    """Run a program and return what it printed, if it ended in good order and in time; else nothing."""
    asked = replace(spec, stdin=Stdin.LIFELINE, survive_host=False)
    try:
        process = await runner.launch(asked, generation=1, variables={MANIFEST_VARIABLE: "1", spec.cookie.key: ""})
    except (LaunchError, OSError):
        return b""
    try:
        return await _listen(process, timeout)
    finally:
        process.kill_tree()
        process.close()


async def _listen(process: LaunchedProcess, timeout: float) -> bytes:
    told = bytearray()
    good = False
    async with anyio.create_task_group() as readers:
        readers.start_soon(_drain, process.stdout, told)
        readers.start_soon(_drain, process.stderr, None)
        with anyio.move_on_after(timeout):
            good = (await process.wait()).clean
        readers.cancel_scope.deadline = anyio.current_time() + (_LAST_WORDS if good else 0)
    return bytes(told) if good and len(told) <= MAX_MANIFEST else b""


async def _drain(source: ByteSource, into: bytearray | None) -> None:
    """Read until the end, and keep a little more than a manifest may have."""
    try:
        while True:
            chunk = await source.receive()
            if into is not None and len(into) <= MAX_MANIFEST:
                into += chunk
    except anyio.EndOfStream:
        pass


def _specify(candidates: Sequence[_Candidate], manifests: Sequence[Manifest | None]) -> tuple[PluginSpec, ...]:
    specs: dict[str, PluginSpec] = {}
    sources: dict[str, str] = {}
    for candidate, manifest in zip(candidates, manifests, strict=True):
        name = (manifest.id if manifest is not None else None) or candidate.name
        if name in specs:
            raise ConfigurationError(
                f"two plugins are named {name!r}: {sources[name]} and {candidate.source}", hint="names must be unique"
            )
        provides = candidate.spec.provides or (manifest.interfaces if manifest is not None else ())
        try:
            specs[name] = replace(candidate.spec, name=name, provides=provides, manifest=manifest)
        except ConfigurationError as error:
            raise _about(candidate, error) from error
        sources[name] = candidate.source
    return tuple(specs.values())


def _about(candidate: _Candidate, error: ConfigurationError) -> ConfigurationError:
    return ConfigurationError(f"{candidate.source}: {error.args[0]}", path=candidate.source, hint=error.hint)


def _default_runner() -> Runner:
    from supervisor.runners.subprocess import SubprocessRunner  # noqa: PLC0415  # only when nobody brings another

    return SubprocessRunner()
