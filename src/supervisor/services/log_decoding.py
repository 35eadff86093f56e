"""Log records read from the bytes of `supervisor.logs.v1`, by hand; see `log_encoding`.

The bytes come from a plugin, so every length is checked, nesting is bounded and text is made safe to print.
"""

from __future__ import annotations

import struct
from typing import Final

from supervisor.errors import DecodeError
from supervisor.levels import Level
from supervisor.quoting import escape_text
from supervisor.records import ExceptionRecord, Frame, LogRecord, LogSource
from supervisor.services.log_encoding import RawBatch

__all__ = ["RecordBatch", "decode_batch"]

_DEPTH: Final = 32
_LEVELS: Final = {level.value: level for level in Level}
_unpack_double = struct.Struct("<d").unpack_from


class RecordBatch:
    """Records in the order in which they were logged; `dropped` counts those lost before the first of them."""

    __slots__ = ("dropped", "records")

    def __init__(self, records: tuple[LogRecord, ...], dropped: int) -> None:
        self.records = records
        self.dropped = dropped


class _Reader:
    """Walks over the fields of one message."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data = data
        self.at = at
        self.end = end

    def varint(self) -> int:
        data, at = self.data, self.at
        result = shift = 0
        while True:
            if at >= self.end or shift > 63:  # noqa: PLR2004  # ten bytes of seven bits
                raise DecodeError("a log record has a varint without an end")
            byte = data[at]
            at += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004
                self.at = at
                return result & 0xFFFF_FFFF_FFFF_FFFF
            shift += 7

    def tag(self) -> int:
        at = self.at
        byte = self.data[at]
        if byte < 0x80:  # noqa: PLR2004
            self.at = at + 1
            tag = byte
        else:
            tag = self.varint()
        if tag >> 3 == 0:
            raise DecodeError("a log record has a field without a number")
        return tag

    def nested(self) -> _Reader:
        size = self.varint()
        start = self.at
        if size > self.end - start:
            raise DecodeError("a log record is cut short")
        self.at = start + size
        return _Reader(self.data, start, start + size)

    def raw(self) -> bytes:
        size = self.varint()
        start = self.at
        if size > self.end - start:
            raise DecodeError("a log record is cut short")
        self.at = start + size
        return self.data[start : self.at]

    def text(self, *, multiline: bool = False) -> str:
        """Read text, and make it safe to print: what a plugin says is not to move the host's cursor."""
        try:
            text = self.raw().decode()
        except UnicodeDecodeError as error:
            raise DecodeError(f"a log record has text that is not UTF-8: {error.reason}") from error
        return text if text.isprintable() else escape_text(text, multiline=multiline)

    def double(self) -> float:
        if self.end - self.at < 8:  # noqa: PLR2004
            raise DecodeError("a log record is cut short")
        (number,) = _unpack_double(self.data, self.at)
        self.at += 8
        return float(number)

    def skip(self, tag: int) -> None:
        """Pass over a field of a later version of the protocol."""
        match tag & 7:
            case 0:
                self.varint()
            case 1:
                self.at += 8
            case 2:
                self.nested()
            case 5:
                self.at += 4
            case wire_type:
                raise DecodeError(f"a log record has a field of wire type {wire_type}")
        if self.at > self.end:
            raise DecodeError("a log record is cut short")


def decode_batch(batch: RawBatch) -> RecordBatch:
    """Parse a batch.

    Raises:
        DecodeError: the bytes are not one. Nothing else, whatever they are.
    """
    reader = _Reader(batch.data, 0, len(batch.data))
    records: list[LogRecord] = []
    dropped = 0
    while reader.at < reader.end:
        match reader.tag():
            case 0x0A:
                records.append(_read_record(reader.nested()))
            case 0x10:
                dropped = reader.varint()
            case tag:
                reader.skip(tag)
    return RecordBatch(tuple(records), dropped)


def _read_record(reader: _Reader) -> LogRecord:
    level = logged_at = 0
    event = logger = ""
    fields: dict[str, object] = {}
    exception: ExceptionRecord | None = None
    truncated = False
    while reader.at < reader.end:
        match reader.tag():
            case 0x2A:
                key, value = _read_field(reader.nested(), _DEPTH)
                fields[key] = value
            case 0x08:
                level = reader.varint()
            case 0x12:
                event = reader.text()
            case 0x1A:
                logger = reader.text()
            case 0x20:
                logged_at = reader.varint()
            case 0x32:
                exception = _read_exception(reader.nested())
            case 0x38:
                truncated = bool(reader.varint())
            case tag:
                reader.skip(tag)
    if logged_at >= 1 << 63:
        logged_at -= 1 << 64
    return LogRecord(
        level=_LEVELS.get(level) or Level.from_number(level),
        event=event,
        logger=logger,
        logged_at=logged_at / 1e6 if logged_at else None,
        fields=fields,
        exception=exception,
        source=LogSource.STREAM,
        truncated=truncated,
    )


def _read_field(reader: _Reader, depth: int) -> tuple[str, object]:
    key = ""
    value: object = None
    while reader.at < reader.end:
        match reader.tag():
            case 0x0A:
                key = reader.text()
            case 0x12:
                value = _read_value(reader.nested(), depth)
            case tag:
                reader.skip(tag)
    return key, value


def _read_value(reader: _Reader, depth: int) -> object:  # noqa: C901  # one case for each kind of value
    if depth == 0:
        raise DecodeError(f"a log record nests deeper than {_DEPTH}")
    value: object = None
    while reader.at < reader.end:
        match reader.tag():
            case 0x2A:
                value = reader.text()
            case 0x18:
                number = reader.varint()
                value = (number >> 1) ^ -(number & 1)
            case 0x10:
                value = bool(reader.varint())
            case 0x21:
                value = reader.double()
            case 0x08:
                reader.varint()
                value = None
            case 0x32:
                value = reader.raw()
            case 0x3A:
                value = _read_list(reader.nested(), depth - 1)
            case 0x42:
                value = _read_dict(reader.nested(), depth - 1)
            case tag:
                reader.skip(tag)
    return value


def _read_list(reader: _Reader, depth: int) -> list[object]:
    items: list[object] = []
    while reader.at < reader.end:
        match reader.tag():
            case 0x0A:
                items.append(_read_value(reader.nested(), depth))
            case tag:
                reader.skip(tag)
    return items


def _read_dict(reader: _Reader, depth: int) -> dict[str, object]:
    items: dict[str, object] = {}
    while reader.at < reader.end:
        match reader.tag():
            case 0x0A:
                key, value = _read_field(reader.nested(), depth)
                items[key] = value
            case tag:
                reader.skip(tag)
    return items


def _read_exception(reader: _Reader) -> ExceptionRecord:
    kind = message = text = ""
    frames: list[Frame] = []
    while reader.at < reader.end:
        match reader.tag():
            case 0x0A:
                kind = reader.text()
            case 0x12:
                message = reader.text(multiline=True)
            case 0x1A:
                frames.append(_read_frame(reader.nested()))
            case 0x22:
                text = reader.text(multiline=True)
            case tag:
                reader.skip(tag)
    return ExceptionRecord(type=kind, message=message, frames=tuple(frames), text=text)


def _read_frame(reader: _Reader) -> Frame:
    filename = name = line = ""
    lineno = 0
    while reader.at < reader.end:
        match reader.tag():
            case 0x0A:
                filename = reader.text()
            case 0x10:
                lineno = reader.varint() & 0xFFFF_FFFF
            case 0x1A:
                name = reader.text()
            case 0x22:
                line = reader.text()
            case tag:
                reader.skip(tag)
    return Frame(filename=filename, lineno=lineno, name=name, line=line)
