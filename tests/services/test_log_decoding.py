"""Reading a plugin's log records: the same values, or a DecodeError, whatever the bytes."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_strategies import log_fields

from supervisor._proto.supervisor.logs.v1 import Batch, DictValue, Field, Record, Value
from supervisor.errors import DecodeError
from supervisor.levels import Level
from supervisor.records import ExceptionRecord, Frame, LogRecord, LogSource
from supervisor.services.log_decoding import decode_batch
from supervisor.services.log_encoding import RawBatch, encode_batch, encode_record


def test_a_record_comes_back_whole() -> None:
    """Every part that was encoded is decoded."""
    frame = Frame(filename="a.py", lineno=7, name="main", line="fail()")
    error = ExceptionRecord(type="ValueError", message="two\nlines", frames=(frame,), text="Trace\n  back")
    fields = {"none": None, "yes": True, "int": -5, "float": 0.5, "text": "t", "raw": b"\x00", "many": [1, {"a": "b"}]}
    data = encode_record(
        35, "event", logger="app", logged_at=1700000000.25, fields=fields, exception=error, truncated=True
    )
    batch = decode_batch(encode_batch([data], 3))
    assert batch.dropped == 3
    assert batch.records == (
        LogRecord(
            level=Level.WARNING,
            event="event",
            logger="app",
            logged_at=1700000000.25,
            fields=fields,
            exception=error,
            source=LogSource.STREAM,
            truncated=True,
        ),
    )


def test_text_is_made_safe() -> None:
    """No control character of a plugin reaches the host's terminal; tracebacks keep their lines."""
    error = ExceptionRecord(type="E\x1b[31m", message="a\nb\x1b", text="c\nd\x1b")
    data = encode_record(20, "e\n\x1b[2J", logger="l\r", fields={"k\u202e": "v\x00", "n": ["\u2028"]}, exception=error)
    (record,) = decode_batch(encode_batch([data], 0)).records
    assert record.event == "e\\n\\x1b[2J"
    assert record.logger == "l\\r"
    assert dict(record.fields) == {"k\\u202e": "v\\x00", "n": ["\\u2028"]}
    assert record.exception == ExceptionRecord(type="E\\x1b[31m", message="a\nb\\x1b", text="c\nd\\x1b")


def test_records_of_a_later_version_are_read() -> None:
    """Unknown fields of every wire type are passed over."""
    unknown = b"\x78\x05\x79" + bytes(8) + b"\x7a\x01x\x7d" + bytes(4)
    record = encode_record(20, "event")
    body = record[2:] + unknown
    (read,) = decode_batch(RawBatch(b"\x0a" + bytes([len(body)]) + body + unknown)).records
    assert read.event == "event"


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\x0a\x05",
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x10" + b"\xff" * 11,
        b"\x02\x00",
        b"\x0b",
        b"\x0f",
        b"\x79\x00",
        b"\x0a\x03\x12\x01\xff",
        b"\x0a\x04\x2a\x02\x12\x09",
        b"\x0a\x05\x2a\x03\x12\x01\x21",
        b"\x80",
    ],
    ids=lambda data: data.hex(),
)
def test_bytes_that_are_not_a_batch(data: bytes) -> None:
    """Cut, overlong, unnumbered, grouped or not UTF-8: one typed error."""
    with pytest.raises(DecodeError):
        decode_batch(RawBatch(data))


def encode_length(data: bytes) -> bytes:
    """Return `data` after its length."""
    return bytes([len(data) & 0x7F | 0x80, len(data) >> 7]) + data


def test_nesting_is_bounded() -> None:
    """A plugin cannot exhaust the host's stack."""
    value = b"\x08\x01"
    for _ in range(100):
        items = b"\x0a" + encode_length(value)
        value = b"\x3a" + encode_length(items)
    record = b"\x2a" + encode_length(b"\x12" + encode_length(value))
    with pytest.raises(DecodeError, match="nests deeper"):
        decode_batch(RawBatch(b"\x0a" + encode_length(record)))


def test_the_generated_classes_are_understood() -> None:
    """A plugin in another language writes as betterproto does: default values left out."""
    value = Value(dict=DictValue(items=[Field(key="a", value=Value(integer=-3)), Field(key="b", value=Value(text=""))]))
    data = bytes(Batch(records=[Record(level=10, event="e", fields=[Field(key="d", value=value)])], dropped=2))
    batch = decode_batch(RawBatch(data))
    assert batch.dropped == 2
    (record,) = batch.records
    assert (record.level, record.event, record.logged_at) == (Level.DEBUG, "e", None)
    assert dict(record.fields) == {"d": {"a": -3, "b": ""}}


@given(st.binary(max_size=200))
def test_random_bytes_give_a_batch_or_a_typed_error(data: bytes) -> None:
    """Nothing else escapes, whatever a plugin sends."""
    with contextlib.suppress(DecodeError):
        decode_batch(RawBatch(data))


@given(log_fields, st.data())
def test_damaged_records_give_a_batch_or_a_typed_error(fields: dict[str, Any], damage: st.DataObject) -> None:
    """A flipped byte or a cut is noticed or gives another value, and never anything worse."""
    data = bytearray(encode_batch([encode_record(20, "event", fields=fields)], 1).data)
    where = damage.draw(st.integers(0, len(data) - 1))
    data[where] = damage.draw(st.integers(0, 255))
    cut = damage.draw(st.integers(0, len(data)))
    for damaged in (bytes(data), bytes(data[:cut])):
        with contextlib.suppress(DecodeError):
            decode_batch(RawBatch(damaged))


def test_a_hostile_batch_costs_linear_time() -> None:
    """A megabyte of empty records and unknown fields is done in a moment."""
    started = time.process_time()
    decode_batch(RawBatch(b"\x0a\x00" * 50_000 + b"\x78\x01" * 200_000))
    assert time.process_time() - started < 5
