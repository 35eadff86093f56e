"""What a plugin says of itself before it is run for good: its answer to a host that looks for plugins.

go-plugin has no such thing. A host that discovers programs runs each once with `SUPERVISOR_MANIFEST` in its environment
and without the magic cookie. This library's sdk answers with one line of JSON on stdout and exits with status 0; other
plugins say that they are plugins, and exit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from supervisor.errors import ConfigurationError
from supervisor.quoting import quote_text

__all__ = ["MANIFEST_VARIABLE", "MAX_MANIFEST", "Manifest", "find_manifest"]

MANIFEST_VARIABLE: Final = "SUPERVISOR_MANIFEST"
"""The environment variable that asks; its value is the newest format that the host reads."""

MAX_MANIFEST: Final = 64 * 1024
"""Bytes on stdout, the noise before the answer included."""

_FORMAT: Final = 1
_MARK: Final = '{"supervisor_manifest":'


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a plugin is.

    Attributes:
        id: its name, when it has one of its own; it becomes the name in the supervisor.
        version: of the program, for people.
        interfaces: names of the interfaces that it provides; the full names of its gRPC services when it does not say.
        protocols: the versions of the application's protocol that it speaks.
    """

    id: str | None = None
    version: str = ""
    interfaces: tuple[str, ...] = ()
    protocols: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "interfaces", tuple(self.interfaces))
        object.__setattr__(self, "protocols", tuple(self.protocols))

    def to_json(self) -> str:
        """Return it as one line without a newline, which `find_manifest` reads."""
        return _MARK + json.dumps(
            {
                "supervisor_manifest": _FORMAT,
                "id": self.id,
                "version": self.version,
                "interfaces": self.interfaces,
                "protocols": self.protocols,
            },
            separators=(",", ":"),
        ).removeprefix(_MARK)


def find_manifest(output: bytes) -> Manifest | None:
    """Find a manifest in what a program wrote to stdout; the last line of it that looks like one counts.

    Returns:
        None when there is none: the program does not know the question.

    Raises:
        ConfigurationError: there is one, and it is not right.
    """
    for line in reversed(output.splitlines()):
        if line.startswith(_MARK.encode()):
            return _parse(line)
    return None


def _parse(line: bytes) -> Manifest:
    try:
        told = json.loads(line)
        _check_format(told["supervisor_manifest"])
        return Manifest(
            id=_typed(told, "id", str | None),
            version=_typed(told, "version", str),
            interfaces=_items(told, "interfaces", str),
            protocols=_items(told, "protocols", int),
        )
    except (ValueError, KeyError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ConfigurationError(f"manifest {quote_text(line)} is not right: {reason}") from error


def _check_format(number: object) -> None:
    if number != _FORMAT:
        raise ValueError(f"its format is {quote_text(repr(number), mark='')}, and this host reads {_FORMAT}")


def _typed(told: dict[str, Any], key: str, kind: Any) -> Any:
    value = told[key]
    if not isinstance(value, kind):
        raise ValueError(f"{key} is {quote_text(repr(value), mark='')}")  # noqa: TRY004 - one kind of error to translate
    return value


def _items(told: dict[str, Any], key: str, kind: type) -> tuple[Any, ...]:
    values = _typed(told, key, list)
    if not all(type(value) is kind for value in values):  # exactly: True is no number
        raise ValueError(f"{key} is {quote_text(repr(values), mark='')}")
    return tuple(values)
