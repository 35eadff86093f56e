"""Read the file, merge the defaults, and build the specifications."""

from __future__ import annotations

import glob
import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from supervisor.config.checking import Place, check_table
from supervisor.config.tables import (
    ConfigFile,
    HealthTable,
    PluginTable,
    RestartTable,
    SupervisorTable,
    Table,
    TlsTable,
)
from supervisor.errors import ConfigurationError
from supervisor.policy import Backoff, Restart, RestartIntensity, RestartPolicy
from supervisor.spec import Discovery, HealthProbe, MagicCookie, PluginSpec, StopPolicy, SupervisorSpec
from supervisor.terms import Limits
from supervisor.tls import TlsFiles

__all__ = ["load_config", "parse_config"]

T = TypeVar("T")

_RESTART_TYPES: Mapping[str, Restart] = {
    "always": Restart.PERMANENT,
    "on-failure": Restart.TRANSIENT,
    "never": Restart.TEMPORARY,
}
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")


def load_config(path: str | os.PathLike[str]) -> SupervisorSpec:
    """Read the configuration file at `path`.

    Raises:
        ConfigurationError: it cannot be read, or see `parse_config`.
    """
    name = os.fspath(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{name}: cannot be read: {error.strerror or error}", path=name) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{name}: is not UTF-8: {error}", path=name) from error
    return parse_config(text, path=name)


def parse_config(text: str, *, path: str | os.PathLike[str], python: str = sys.executable) -> SupervisorSpec:
    """Read a configuration.

    Args:
        text: the file's content.
        path: the file's name, for the errors and as the place that relative paths start from. A plugin without a
            `cwd` runs in the file's folder, so that paths among its arguments start there too.
        python: what `{python}` in a command stands for.

    Raises:
        ConfigurationError: the text is not TOML, a key is unknown, a value is not one it takes, or values cannot work
            together. It names file, table and key, what was found and what is allowed.
    """
    place = Place(os.fspath(path))
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{place.path}: is not valid TOML: {error}", path=place.path) from error
    _check_file(raw, place)
    defaults: dict[str, Any] = raw.get("defaults", {})
    plugins = []
    for name, table in raw.get("plugins", {}).items():
        here = place / "plugins" / name
        if "command" not in table:
            raise here.error(
                "is missing", key="command", hint='say what to run, as in command = ["{python}", "plugin.py"]'
            )
        merged = msgspec.convert(_merge(defaults, table), PluginTable)
        plugins.append(_build_plugin(name, merged, here, Path(place.path).absolute().parent, python))
    table = msgspec.convert(raw, ConfigFile).supervisor
    discovery = _build_discovery(table, defaults, place, python)
    return _build(place, SupervisorSpec, plugins=tuple(plugins), strategy=table.strategy, discovery=discovery)


def _build_discovery(
    table: SupervisorTable, defaults: Mapping[str, Any], place: Place, python: str
) -> Discovery | None:
    if not (table.discover or table.discover_entry_points):
        return None
    folder = Path(place.path).absolute().parent
    merged = msgspec.convert({**defaults, "command": ["template"]}, PluginTable)
    return _build(
        place / "supervisor",
        Discovery,
        pattern=str(Path(glob.escape(str(folder)), table.discover)) if table.discover else None,
        entry_points=table.discover_entry_points,
        template=_build_plugin("template", merged, place / "defaults", folder, python),
    )


def _check_file(raw: dict[str, Any], place: Place) -> None:
    """Check each table where it stands, so that an error in `[defaults]` is not blamed on a plugin."""
    check_table({key: value for key, value in raw.items() if key != "plugins"}, ConfigFile, place)
    plugins = raw.get("plugins", {})
    if not isinstance(plugins, dict):
        raise (place / "plugins").error("is not a table", hint="write [plugins.NAME] for each plugin")
    for name, table in plugins.items():
        check_table(table, PluginTable, place / "plugins" / name)


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `over` with what only `under` has; tables are merged, everything else is replaced."""
    merged = {**under, **over}
    for key in under.keys() & over.keys():
        if isinstance(under[key], dict) and isinstance(over[key], dict):
            merged[key] = _merge(under[key], over[key])
    return merged


def _build(place: Place, factory: Callable[..., T], **values: Any) -> T:
    """Call `factory` and say where its values came from when it refuses them."""
    try:
        return factory(**values)
    except ConfigurationError as error:
        raise place.error(str(error.args[0]), hint=error.hint) from error


def _build_from(place: Place, factory: Callable[..., T], table: Table) -> T:
    return _build(place, factory, **msgspec.structs.asdict(table))


def _build_plugin(name: str, table: PluginTable, place: Place, folder: Path, python: str) -> PluginSpec:
    health = HealthTable() if table.health is True else table.health
    command = _expand_command(table.command, place, folder, python)
    return _build(
        place,
        PluginSpec,
        **msgspec.structs.asdict(table)
        | {
            "name": name,
            "command": command,
            "sha256": _rename_pins(table.sha256, tuple(zip(table.command, command, strict=True))),
            "plugin_dir": str(folder / table.plugin_dir) if table.plugin_dir else None,
            "cwd": str(folder / table.cwd),
            "cookie": _build_from(place / "cookie", MagicCookie, table.cookie),
            "restart": _build_restart(table.restart, place / "restart"),
            "health": _build_from(place / "health", HealthProbe, health) if health else None,
            "stop": _build_from(place / "stop", StopPolicy, table.stop),
            "limits": _build_from(place / "limits", Limits, table.limits),
            "call_timeout": None if table.call_timeout == "none" else table.call_timeout,
            "idempotent": frozenset(table.idempotent),
            "tls": _build_tls(table.tls, place / "tls", folder) if table.tls else None,
        },
    )


def _build_tls(table: TlsTable, place: Place, folder: Path) -> TlsFiles:
    paths = {name: getattr(table, name) for name in ("certificate", "key", "authority")}
    return _build(
        place,
        TlsFiles,
        server_name=table.server_name,
        **{name: str(folder / path) if path else "" for name, path in paths.items()},
    )


def _build_restart(table: RestartTable, place: Place) -> RestartPolicy:
    return _build(
        place,
        RestartPolicy,
        restart=_RESTART_TYPES.get(table.type) or Restart(table.type),
        intensity=_build_from(place / "intensity", RestartIntensity, table.intensity),
        backoff=_build_from(place / "backoff", Backoff, table.backoff),
        stable_after=table.stable_after,
    )


def _rename_pins(
    sha256: str | dict[str, str] | None, expanded: Sequence[tuple[str, str]]
) -> str | dict[str, str] | None:
    """Return the pins under the names that the parts of the command have in the end; two may have had the same one."""
    if not isinstance(sha256, dict):
        return sha256
    renamed = {final: sha256[name] for name, final in expanded if name in sha256}
    known = {name for name, _ in expanded}
    return renamed | {name: digest for name, digest in sha256.items() if name not in known}


def _expand_command(command: tuple[str, ...], place: Place, folder: Path, python: str) -> tuple[str, ...]:
    program, *arguments = (part.replace("{python}", python) for part in command)
    if _PLACEHOLDER.fullmatch(program):
        raise place.error(f"starts with {program!r}, and the only placeholder is '{{python}}'", key="command")
    # A bare name is looked up on the PATH; with a slash it is a path, and must not depend on `cwd`.
    return (str(folder / program) if "/" in program else program, *arguments)
