"""The caretaker: a tiny process that looks after a plugin for as long as it has no host.

Run as `python -I -S caretaker_process.py DIRECTORY LEADER LISTENER STDOUT STDERR LOCK`; all but the first are inherited
descriptors: a pidfd of the plugin, a listening socket in the directory, the reading ends of the plugin's pipes, and the
lock that keeps other hosts from taking the directory for a dead one's. Standard input is a connection to the first host.

While a host is connected it reads the pipes itself. Without one they would break, and a write to a broken pipe ends
programs that do not expect it (Go's do not): so the caretaker reads them then, and forgets what it reads. The next host
connects to the listener, and gets the pipes; a second one at a time is turned away. When the plugin has ended the caretaker
ends too, and removes the directory if there is no host to do it.

Standard library only: it must start fast and must not depend on the host's packages.
"""

# Plain strings: pathlib would slow the start.

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys

_CHUNK = 65536


class Caretaker:
    """One plugin's."""

    def __init__(self, leader: int, listener: int, pipes: list[int]) -> None:
        self._leader = leader
        self._listener = socket.socket(fileno=listener)
        self._pipes = pipes
        self._open = set(pipes)
        self._poll = select.poll()
        self._poll.register(leader, select.POLLIN)
        self._poll.register(self._listener, select.POLLIN)
        self.host: socket.socket | None = None

    def watch(self) -> None:
        """Do what there is to do until the plugin has ended."""
        while True:
            ready = dict(self._poll.poll())
            # First of all: who comes after a host that is gone finds its place free.
            if self.host is not None and self.host.fileno() in ready:
                self._lose_host()
            if self._leader in ready:
                return
            if self._listener.fileno() in ready:
                self._admit()
            if self.host is None:  # else the one just admitted reads them
                for pipe in self._open.intersection(ready):
                    self._drain(pipe)

    def take_host(self, connection: socket.socket) -> None:
        """Leave the pipes to a host until its end of the connection is closed."""
        self.host = connection
        self._poll.register(connection, select.POLLIN)
        for pipe in self._open:
            with contextlib.suppress(KeyError):
                self._poll.unregister(pipe)

    def _lose_host(self) -> None:
        assert self.host is not None
        self._poll.unregister(self.host)
        self.host.close()
        self.host = None
        for pipe in self._open:
            self._poll.register(pipe, select.POLLIN)

    def _admit(self) -> None:
        connection, _ = self._listener.accept()
        # Whoever hangs up at once has not taken the place of anybody.
        with contextlib.suppress(OSError):
            if self.host is None:
                socket.send_fds(connection, [b"yours"], self._pipes)
                self.take_host(connection)
                return
            connection.send(b"taken")
        connection.close()

    def _drain(self, pipe: int) -> None:
        # Hosts make their end non-blocking, and this is the same one.
        with contextlib.suppress(BlockingIOError):
            if not os.read(pipe, _CHUNK):
                self._poll.unregister(pipe)
                self._open.discard(pipe)


def main(directory: str, leader: int, listener: int, stdout: int, stderr: int) -> None:
    """Look after the plugin until it ends; then remove the directory, if nobody else does."""
    # Whoever asks politely (a terminal, a service manager) means the host.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    caretaker = Caretaker(leader, listener, [stdout, stderr])
    caretaker.take_host(socket.socket(fileno=0))
    caretaker.watch()
    if caretaker.host is not None:
        # It removes the directory and us, unless it is killed before or has not yet taken the plugin for its own.
        with contextlib.suppress(OSError):
            caretaker.host.recv(1)
    import shutil  # noqa: PLC0415 - slow to import, and needed only in the end

    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:6]))
