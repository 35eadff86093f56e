"""The rule: a plugin that a host has started, as opposed to `Debugged`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from supervisor.levels import Level
from supervisor.sdk.descriptors import StderrWriter
from supervisor.sdk.early import take_stdout
from supervisor.sdk.host_request import HostRequest, forget_host, read_environment
from supervisor.sdk.log_sink import LogSink
from supervisor.services.logs import LogBuffer

if TYPE_CHECKING:
    from supervisor.sdk.plugin import Plugin

__all__ = ["Hosted"]


class Hosted:
    """What serving is like with a host: it says what it wants, gets the handshake, the prints and the records."""

    def __init__(self) -> None:
        self._stdout = -1

    def make_sink(self, stderr: StderrWriter, level: int | None) -> LogSink:
        """Return where records go: to the host, and as hclog's lines to stderr while it does not listen."""
        return LogSink(LogBuffer(), stderr.write, level=level or Level.INFO)

    def read_request(self, versions: Iterable[int]) -> HostRequest:  # noqa: ARG002  # the host decides
        """Take stdout for the handshake and return what the host asked for."""
        self._stdout = take_stdout()
        request = read_environment(os.environ)
        forget_host(os.environ)
        return request

    def redirect_output(self, plugin: Plugin, request: HostRequest) -> None:
        """Have the host get what is printed."""
        plugin.stream_output(stderr=request.sync_stderr)

    def announce(self, line: str, stop: Callable[[], None]) -> None:  # noqa: ARG002  # the host stops it
        """Say the handshake."""
        os.write(self._stdout, line.encode())
