"""The bytes of a log record, held against betterproto's generated classes."""

from __future__ import annotations

from typing import Any

import betterproto
from hypothesis import given
from log_strategies import log_fields

from supervisor._proto.supervisor.logs.v1 import Batch, Value
from supervisor.records import ExceptionRecord, Frame
from supervisor.services.log_encoding import RECORD_LIMIT, encode_batch, encode_record


def parse(*records: bytes, dropped: int = 0) -> Batch:
    """Parse records with the generated classes."""
    return Batch().parse(encode_batch(records, dropped).SerializeToString())


def plain(value: Value) -> object:
    """Return what a generated Value stands for."""
    content: Any
    kind, content = betterproto.which_one_of(value, "kind")
    match kind:
        case "null":
            return None
        case "list":
            return [plain(item) for item in content.items]
        case "dict":
            return {item.key: plain(item.value) for item in content.items}
        case _:
            return content


def test_every_field_of_a_record() -> None:
    """The generated classes read what was written."""
    frame = Frame(filename="a.py", lineno=7, name="main", line="fail()")
    error = ExceptionRecord(type="ValueError", message="bad", frames=(frame,), text="Traceback")
    record = parse(
        encode_record(
            30, "event", logger="app", logged_at=1700000000.25, fields={"a": 1}, exception=error, truncated=True
        )
    ).records[0]
    assert (record.level, record.event, record.logger, record.logged_at) == (30, "event", "app", 1700000000250000)
    assert [(field.key, plain(field.value)) for field in record.fields] == [("a", 1)]
    exception: Any = record.exception  # its annotation is hidden by the builtin of the same name
    assert (exception.type, exception.message, exception.text) == ("ValueError", "bad", "Traceback")
    (read,) = exception.frames
    assert (read.filename, read.lineno, read.name, read.line) == ("a.py", 7, "main", "fail()")
    assert record.truncated


def test_moments_before_the_epoch() -> None:
    """int64 is two's complement on the wire."""
    assert parse(encode_record(20, "", logged_at=-1.5)).records[0].logged_at == -1_500_000


def test_the_order_of_records_and_the_drop_counter() -> None:
    """A batch is its records, one after the other, and the counter."""
    batch = parse(encode_record(20, "one"), encode_record(20, "two"), dropped=1 << 40)
    assert [record.event for record in batch.records] == ["one", "two"]
    assert batch.dropped == 1 << 40


def test_fields_that_do_not_fit_are_left_out() -> None:
    """A record of many large fields is cut, and marked."""
    record = encode_record(20, "event", fields={str(n): "x" * 10_000 for n in range(1000)})
    assert len(record) < RECORD_LIMIT + 1000
    (parsed,) = parse(record).records
    assert parsed.truncated
    assert len(parsed.fields) == RECORD_LIMIT // 10_020


def test_text_that_is_not_unicode() -> None:
    """Lone surrogates become visible escapes, since protobuf's text is UTF-8."""
    (record,) = parse(encode_record(20, "a\udc80", fields={"\ud800": "\udfff"})).records
    assert record.event == "a\\udc80"
    assert (record.fields[0].key, record.fields[0].value.text) == ("\\ud800", "\\udfff")


@given(log_fields)
def test_any_value_is_read_back_by_the_generated_classes(fields: dict[str, Any]) -> None:
    """Whatever is logged, betterproto reads the same."""
    (record,) = parse(encode_record(20, "event", fields=fields)).records
    assert {field.key: plain(field.value) for field in record.fields} == fields
