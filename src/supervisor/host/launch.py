"""How a life begins as a rule: a process is launched, and says in its handshake where it listens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import anyio
from anyio.abc import TaskGroup

from supervisor.abc import LaunchedProcess, Process, Runner
from supervisor.handshake import Handshake, HandshakeReader
from supervisor.host.hearing import Hearing
from supervisor.records import LogSource
from supervisor.spec import PluginSpec

__all__ = ["Launch"]


class Launch:
    """Begins one life; see `Attachment` for the other way.

    Attributes:
        confirmed: that the process is this host's to signal and to end: nobody else started it.
    """

    confirmed: Final = True

    def __init__(self, spec: PluginSpec, generation: int) -> None:
        self._spec = spec
        self._generation = generation
        self._process: LaunchedProcess | None = None

    async def begin(self, runner: Runner, variables: Mapping[str, str]) -> Process:
        """Start the process; see `Runner.launch`."""
        self._process = await runner.launch(self._spec, generation=self._generation, variables=variables)
        return self._process

    async def introduce(
        self,
        hearing: Hearing,
        readers: TaskGroup,
        *,
        on_eof: Callable[[], Awaitable[object]],
        on_notice: Callable[[str], None],
    ) -> Handshake:
        """Begin to hear the process, and return its handshake.

        Args:
            hearing: what takes its output.
            readers: where that is done.
            on_eof: awaited when stdout has ended without a handshake.
            on_notice: told of noise before it.

        Raises:
            HandshakeError: it is wrong, or there is none.
        """
        assert self._process is not None
        stdout = self._process.stdout
        hearing.hear_pipe(readers, self._process.stderr, LogSource.STDERR)
        reader = HandshakeReader(versions=self._spec.versions)
        try:
            while True:
                chunk = await stdout.receive()
                if (handshake := reader.feed(chunk)) is not None:
                    return handshake
        except anyio.EndOfStream:
            # Dying processes close their pipes first: what the kernel says of the exit is the better story.
            await on_eof()
            reader.feed_eof()
        finally:
            noise = "".join(f"{line}\n" for line in reader.noise).encode()
            if noise:
                on_notice(f"{len(reader.noise)} lines on stdout before the handshake")
            hearing.hear_pipe(readers, stdout, LogSource.STDOUT, first=noise + reader.leftover)

    def confirm(self) -> None:
        """Do nothing: there was never a doubt."""
