"""A connection of the engine's without a socket, whose owner writes down what it hears."""

from __future__ import annotations

from typing import Any

from supervisor.transport.engine import frames
from supervisor.transport.engine.headers import HeaderBlock
from supervisor.transport.engine.roles import ClientConnection, ServerConnection
from supervisor.transport.engine.settings import WireSettings
from supervisor.transport.engine.stream import BODY, ENDED, HEAD, Stream

SETTINGS = frames.settings(())
REQUEST = b"\x83\x86\x04\x04/a/b"  # POST, http, a path as a literal that leaves the table alone
RESPONSE = b"\x88"  # 200


class RecordedStream(Stream):
    """Takes a whole call as it takes one that comes in pieces."""

    def take_whole(self, headers: HeaderBlock, message: bytes, trailers: HeaderBlock) -> bool:
        if headers.is_interim or self.phase != HEAD:
            return False
        self.headers, self.trailers, self.phase = headers, trailers, ENDED
        self.messages.append(message)
        return True


class Recorder:
    """An owner; `seen` is what became of everything, in an order that does not depend on how the bytes were cut."""

    def __init__(self, *, client_side: bool, settings: WireSettings | None = None) -> None:
        self.now = 0.0
        self.written = b""
        self.told: list[Any] = []
        self.opened: dict[int, Stream] = {}
        role = ClientConnection if client_side else ServerConnection
        self.connection = role(self, settings or WireSettings(), self._write, clock=lambda: self.now)

    def _write(self, data: bytes) -> None:
        self.written += data

    def open(self) -> Stream:
        """Open a stream of a client's."""
        assert isinstance(self.connection, ClientConnection)
        stream = RecordedStream(self.connection, many=True)
        self.opened[self.connection.open(stream)] = stream
        return stream

    def accept(self, stream_id: int, headers: HeaderBlock, *, end: bool) -> None:
        stream = RecordedStream(self.connection, many=True)
        stream.id, stream.headers, stream.phase = stream_id, headers, ENDED if end else BODY
        self.connection.streams[stream_id] = self.opened[stream_id] = stream
        self.told.append(("accept", stream_id, headers.fields, end))

    def accept_whole(self, stream_id: int, headers: HeaderBlock, message: bytes) -> bool:
        self.accept(stream_id, headers, end=False)
        self.opened[stream_id].messages.append(message)
        self.opened[stream_id].phase = ENDED
        return True

    def stream_reset(self, stream: Stream, code: int) -> None:
        self.told.append(("reset", stream.id, code))

    def windows_opened(self) -> None:
        self.told.append(("windows", self.connection.send_window))

    def settings_heard(self) -> None:
        self.told.append("settings")

    def settings_taken(self) -> None:
        self.told.append("taken")

    def going_away(self, last_stream_id: int, code: int) -> None:
        self.told.append(("goaway", last_stream_id, code))

    def seen(self) -> Any:
        """Return all that was heard and received."""
        return self.told, {
            number: (
                None if stream.headers is None else stream.headers.fields,
                [(type(message), message) for message in stream.messages],
                None if stream.trailers is None else stream.trailers.fields,
                stream.phase,
                stream.fault is None,
                stream.failure is None,
                stream.in_message,
            )
            for number, stream in self.opened.items()
        }


def server(**settings: Any) -> Recorder:
    """Return a server's side whose client has greeted it."""
    recorder = Recorder(client_side=False, settings=WireSettings(**settings))
    recorder.connection.receive(frames.PREFACE + SETTINGS)
    recorder.told.clear()
    return recorder


def client(**settings: Any) -> Recorder:
    """Return a client's side whose server has greeted it."""
    recorder = Recorder(client_side=True, settings=WireSettings(**settings))
    recorder.connection.receive(SETTINGS)
    recorder.told.clear()
    return recorder
