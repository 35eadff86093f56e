"""Debug mode: a plugin that a person starts, in a debugger say, and that hosts attach to.

`python plugin.py --debug` needs no cookie and speaks no handshake. It prints what a host needs to find it, logs for
people, leaves stdin, stdout and `breakpoint()` alone, and ends on Ctrl-C. Hosts never end it: its token says so.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import shlex
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from supervisor.address import MemoryAddress
from supervisor.handshake import format_versions, parse_handshake
from supervisor.levels import Level
from supervisor.quoting import escape_text
from supervisor.reattach import ReattachToken
from supervisor.records import ExceptionRecord
from supervisor.sdk.descriptors import StderrWriter
from supervisor.sdk.early import give_stdout_back
from supervisor.sdk.hooks import stop_on
from supervisor.sdk.host_request import HostRequest
from supervisor.sdk.log_sink import LogSink
from supervisor.services.logs import LogBuffer

if TYPE_CHECKING:
    from supervisor.sdk.plugin import Plugin

__all__ = ["Debugged", "find_debug_name", "format_for_people"]

_FLAG = re.compile(r"--debug(=(?P<name>.*))?", re.DOTALL)
_NO_NAME = re.compile(r"^[^a-z0-9]+|[^a-z0-9_-]+")


def find_debug_name(arguments: Sequence[str]) -> str | None:
    """Return the plugin's name when `--debug` or `--debug=NAME` is among a program's arguments, else None.

    Args:
        arguments: the program and its arguments. Without a name the plugin is named after the program's file.
    """
    program, *others = arguments or ("",)
    for found in filter(None, map(_FLAG.fullmatch, others)):
        return found["name"] or _NO_NAME.sub("-", Path(program).stem.lower()).strip("-")[:63] or "plugin"
    return None


class Debugged:
    """What serving is like with a person: the counterpart of `Hosted`.

    Args:
        name: the plugin's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._versions: tuple[int, ...] = ()

    def make_sink(self, stderr: StderrWriter, level: int | None) -> LogSink:
        """Return where records go: to stderr, for people, and to a host that follows as well."""
        return LogSink(LogBuffer(), stderr.write, level=level or Level.INFO, format_line=format_for_people, echo=True)

    def read_request(self, versions: Iterable[int]) -> HostRequest:
        """Return a request for the latest of `versions`; variables of a host are some other process's."""
        give_stdout_back()
        self._versions = tuple(versions)
        return HostRequest(versions=format_versions(self._versions))

    def redirect_output(self, plugin: Plugin, request: HostRequest) -> None:
        """Do nothing: what is printed is the person's."""

    def announce(self, line: str, stop: Callable[[], None]) -> None:
        """Tell people how a host attaches to this process, and have Ctrl-C `stop` it from now on."""
        from supervisor.runners.process_table import identify  # noqa: PLC0415  # only people need it

        handshake = parse_handshake(line.encode(), versions=self._versions)
        assert not isinstance(handshake.address, MemoryAddress)
        token = ReattachToken(
            name=self._name,
            process=identify(os.getpid()),
            address=handshake.address,
            version=handshake.version,
            survives_host=True,
            test=True,
        )
        stop_on(signal.SIGINT, stop)
        print(  # noqa: T201  # stdout is the person's
            f"Plugin {self._name!r} is process {token.process.pid}. For a host to attach to it, set one of\n\n"
            f"\tSUPERVISOR_REATTACH={shlex.quote(token.to_json())}\n"
            f"\tTF_REATTACH_PROVIDERS={shlex.quote(token.to_terraform(self._name))}\n\n"
            "Ctrl-C ends it.",
            flush=True,
        )


def format_for_people(
    level: int,
    event: str,
    *,
    logger: str = "",
    logged_at: float,
    fields: Mapping[str, object] = MappingProxyType({}),
    exception: ExceptionRecord | None = None,
) -> bytes:
    """Return a record as one line, and its traceback below; the counterpart of `hclog.format_line`."""
    when = dt.datetime.fromtimestamp(logged_at).astimezone().strftime("%H:%M:%S.%f")[:-3]
    parts = [f"{when} {Level.from_number(level).name:<8}", *([f"{logger}:"] if logger else []), escape_text(event)]
    parts += [f"{key}={value!r}" for key, value in fields.items()]
    lines = [" ".join(parts)]
    if exception is not None:
        lines.append(exception.text or f"{exception.type}: {exception.message}")
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
