"""One line to one record: the dialects, the prefixes, and the hostile."""

import json
import time
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor.levels import Level
from supervisor.log_lines import parse_line
from supervisor.quoting import escape_text
from supervisor.records import LogRecord, LogSource


def parse(**fields: object) -> LogRecord:
    """Parse the JSON object of `fields`."""
    return parse_line(json.dumps(fields))


def test_hclog() -> None:
    """A Go plugin's record keeps its level, module, time and key/values with their types."""
    record = parse_line(
        '{"@level":"warn","@message":"disk full","@module":"store.disk","@timestamp":"2024-05-01T12:00:00.250000Z",'
        '"@caller":"disk.go:12","free":0,"ratio":0.5,"ok":false,"path":"/x","message":"mine"}'
    )

    assert (record.level, record.event, record.logger) == (Level.WARNING, "disk full", "store.disk")
    assert record.logged_at == 1714564800.25
    assert record.fields == {
        "@caller": "disk.go:12", "free": 0, "ratio": 0.5, "ok": False, "path": "/x", "message": "mine"
    }  # fmt: skip


def test_structlog() -> None:
    """A structlog JSONRenderer's record loses nothing."""
    record = parse(
        event="got it", level="debug", timestamp="2024-05-01T14:00:00+02:00", logger="kv", key="a", n=[1, None]
    )

    assert (record.level, record.event, record.logger) == (Level.DEBUG, "got it", "kv")
    assert record.logged_at == 1714564800.0
    assert record.fields == {"key": "a", "n": [1, None]}


@pytest.mark.parametrize(
    ("line", "said", "logged_at", "fields"),
    [
        (
            '{"asctime":"2024-05-01 12:00:00,000","levelname":"ERROR","name":"app","message":"no"}',
            (Level.ERROR, "no", "app"), None, {"asctime": "2024-05-01 12:00:00,000"},
        ),
        (
            '{"time":"2024-05-01T12:00:00.123456789Z","level":"INFO","msg":"slog","name":"bob"}',
            (Level.INFO, "slog", ""), 1714564800.123456, {"name": "bob"},
        ),
        ('{"level":"fatal","msg":"logrus","time":"2024-05-01T12:00:00Z"}', (Level.CRITICAL, "logrus", ""), 1714564800.0, {}),
        ('{"level":"error","ts":1714564800.5,"logger":"z","msg":"zap"}', (Level.ERROR, "zap", "z"), 1714564800.5, {}),
        ('{"level":30,"time":1714564800123,"msg":"pino"}', (Level.INFO, "pino", ""), None, {"level": 30, "time": 1714564800123}),
    ],
)  # fmt: skip
def test_other_loggers(
    line: str, said: tuple[Level, str, str], logged_at: float | None, fields: dict[str, object]
) -> None:
    """What is understood is taken; a local time, a number for a level and a user's `name` stay fields."""
    record = parse_line(line)

    assert (record.level, record.event, record.logger) == said
    assert (record.logged_at, record.fields) == (logged_at, fields)


@pytest.mark.parametrize(
    ("line", "level", "event", "logger"),
    [
        ("[TRACE] a", Level.TRACE, "a", ""),
        ("[DEBUG] a", Level.DEBUG, "a", ""),
        ("[INFO]  a", Level.INFO, "a", ""),
        ("[WARN] a", Level.WARNING, "a", ""),
        ("[WARNING]: a", Level.WARNING, "a", ""),
        ("[ERR] a", Level.ERROR, "a", ""),
        ("[error] a", Level.ERROR, "a", ""),
        ("[ERROR]", Level.ERROR, "[ERROR]", ""),
        ("INFO:     Started server", Level.INFO, "Started server", ""),
        ("WARNING:root:careful: now", Level.WARNING, "careful: now", "root"),
        ("ERROR:http://x", Level.ERROR, "http://x", ""),
        ("warning: unused", Level.WARNING, "unused", ""),
        ("ERROR cannot open", Level.ERROR, "ERROR cannot open", ""),
        ("CRITICAL: meltdown", Level.CRITICAL, "meltdown", ""),
        ("Error opening the file is fine", Level.INFO, "Error opening the file is fine", ""),
        ("INFORMATION: a", Level.INFO, "INFORMATION: a", ""),
        (" [ERROR] a", Level.INFO, " [ERROR] a", ""),
        ("plain text", Level.INFO, "plain text", ""),
        ("", Level.INFO, "", ""),
    ],
)
def test_text(line: str, level: Level, event: str, logger: str) -> None:
    """A prefix sets the level and leaves the text when it is a tag; other text is information."""
    record = parse_line(line.encode())

    assert (record.level, record.event, record.logger) == (level, event, logger)
    assert record.fields == {}


def test_the_source_and_the_cut_are_noted() -> None:
    """A piece of a long line is text, even when it looks like JSON: its beginning is missing."""
    record = parse_line(b'{"event":"forged","level":"critical"}', source=LogSource.STDOUT, truncated=True)

    assert (record.source, record.truncated, record.level) == (LogSource.STDOUT, True, Level.INFO)
    assert record.event == '{"event":"forged","level":"critical"}'


def test_an_exception_as_text_is_read() -> None:
    """The texts of structlog's `format_exc_info` and python-json-logger's `exc_info` give type, message and frames."""
    text = 'Traceback (most recent call last):\n  File "a.py", line 3, in f\n    1 / 0\n    ~~^~~\nZeroDivisionError: division by zero'
    for key in ("exception", "exc_info"):
        exception = parse(event="boom", **{key: text}).exception

        assert exception is not None
        assert (exception.type, exception.message, exception.text) == ("ZeroDivisionError", "division by zero", text)
        assert [(f.filename, f.lineno, f.name, f.line) for f in exception.frames] == [("a.py", 3, "f", "1 / 0")]


def test_an_exception_as_structure_is_read() -> None:
    """In structlog's `dict_tracebacks` the raised exception comes first; the text has it last, as Python prints it."""
    stacks = [
        {
            "exc_type": "KeyError",
            "exc_value": "'k'",
            "frames": [{"filename": "b.py", "lineno": 2, "name": "g", "line": "d[k]"}],
        },
        {"exc_type": "OSError", "exc_value": "gone", "frames": [], "is_cause": True},
    ]
    record = parse(event="boom", exception=stacks)

    assert record.level is Level.ERROR
    assert record.exception is not None
    assert (record.exception.type, record.exception.message) == ("KeyError", "'k'")
    assert record.exception.frames[0].line == "d[k]"
    assert record.exception.text.splitlines()[1] == "OSError: gone"
    assert record.exception.text.endswith("    d[k]\nKeyError: 'k'")


@pytest.mark.parametrize("odd", ["NullPointer", 5, [], [{}], [[1]], [{"exc_type": 5}], {"type": "x"}, None])
def test_an_exception_of_another_shape_stays_a_field(odd: object) -> None:
    """What is not understood is not lost."""
    record = parse(event="boom", exception=odd)

    assert record.exception is None
    assert record.fields == {"exception": odd}


@pytest.mark.parametrize(
    "frames",
    [5, [5], [{}], [{"filename": 5, "lineno": 1, "name": "x"}], [{"filename": "a", "lineno": "1", "name": "x"}]],
)
def test_frames_of_another_shape_are_left_out(frames: object) -> None:
    """The exception is still worth having."""
    exception = parse(event="boom", exception=[{"exc_type": "E", "exc_value": 1, "frames": frames}]).exception

    assert exception is not None
    assert (exception.type, exception.message, exception.frames) == ("E", "1", ())


@pytest.mark.parametrize(
    ("line", "event", "fields"),
    [
        ('{"@message":5}', "5", {}),
        (
            '{"@message":true,"@level":7,"@timestamp":[],"@module":{}}',
            "true",
            {"@level": 7, "@timestamp": [], "@module": {}},
        ),
        ('{"msg":"a","msg":"b"}', "b", {}),
        ('{"msg":"a","x":NaN,"y":-Infinity,"z":1e999}', "a", {"x": "NaN", "y": "-Infinity", "z": "inf"}),
        ('{"msg":"a","levelno":1,"args":[1],"exc_text":"t"}', "a", {"levelno": 1, "args": [1], "exc_text": "t"}),
        ('{"msg":"a","time":true,"level":"loud"}', "a", {"time": True, "level": "loud"}),
        ('{"msg":"a","time":"0001-01-01T00:00:00Z"}', "a", {"time": "0001-01-01T00:00:00Z"}),
        ('{"msg":"a","time":"9999-12-31T23:59:59-23:59"}', "a", {"time": "9999-12-31T23:59:59-23:59"}),
    ],
)
def test_wrong_types_are_coerced_or_kept(line: str, event: str, fields: dict[str, object]) -> None:
    """No value of a plugin's record can raise; numbers that JSON does not know become text."""
    record = parse_line(line)

    assert (record.event, record.fields) == (event, fields)


@pytest.mark.parametrize(
    "line",
    [
        '{"@message":null}', '{"@message":{"a":1}}', '{"msg":["a"]}', '{"a":1}', "{}", "[1]", "null", '{"msg":"a"', "{msg}",
        "[" * 60_000, '{"msg":' * 9_000 + "1" + "}" * 9_000, '{"msg":"a","x":' + "[" * 40 + "]" * 40 + "}",
    ],
)  # fmt: skip
def test_what_is_no_record_is_text(line: str) -> None:
    """The raw line is the event, at INFO."""
    record = parse_line(line)

    assert (record.level, record.event, record.fields) == (Level.INFO, line, {})


def test_huge_integers_become_text() -> None:
    """5,000 digits raise in int(), and more than 64 bits raise in what takes the record."""
    record = parse_line('{"msg":"a","big":' + "7" * 5_000 + ',"max":9223372036854775807}')

    assert record.fields == {"big": "7" * 5_000, "max": 2**63 - 1}


def test_brackets_inside_strings_do_not_count_as_depth() -> None:
    """A flat record may talk about brackets."""
    assert parse(msg="[" * 100 + '\\"{').event == "[" * 100 + '\\"{'


def test_text_is_escaped_wherever_it_goes() -> None:
    """Escapes, bidi controls, lone surrogates, separators and newlines cannot forge a line or move a cursor."""
    record = parse_line('{"msg":"a\\u001b[2J\\nb","logger":"l\\u202e","k\\u2028":{"\\r":["\\ud800"]}}')

    assert record.event == "a\\x1b[2J\\nb"
    assert record.logger == "l\\u202e"
    assert record.fields == {"k\\u2028": {"\\r": ["\\ud800"]}}
    assert parse_line(b"a\x00\xff\xe2\x80\xae\r\n").event == "a\\x00\\xff\\u202e\\r\\n"


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["@message", "@level", "@timestamp", "@module", "event", "level", "timestamp", "logger", "msg", "time", "exception"]
)


def strings_of(value: object) -> list[str]:
    """All strings in nested dicts and lists, keys included."""
    match value:
        case str():
            return [value]
        case Mapping():
            return [text for pair in value.items() for part in pair for text in strings_of(part)]
        case list():
            return [text for item in value for text in strings_of(item)]
        case _:
            return []


@given(
    st.binary() | st.dictionaries(KEYS | st.text(max_size=3), JSONISH, max_size=6).map(lambda d: json.dumps(d).encode())
)
@example(b'{"msg":"a","time":"\\ud800"}')
@example(b'{"\\ud800":1,"msg":2}')
@example(b'{"msg":"a","exception":"Traceback (most recent call last):"}')
def test_any_bytes_are_a_record_of_safe_text(line: bytes) -> None:
    """Whatever is printed becomes one record, whose text is safe to print."""
    record = parse_line(line)

    for text in [record.event, record.logger, *strings_of(record.fields)]:
        assert escape_text(text) == text


@pytest.mark.parametrize(
    "line",
    ['{"' * 30_000 + "}", '{"' + '\\"' * 30_000 + "[" * 99 + "}", " " * 60_000 + "{", "ERROR" + ":a" * 30_000,
     '{"msg":0.' + "1" * 60_000 + "}", '{"msg":1e' + "1" * 60_000 + "}", "a" * 60_000, '{"msg":"a","time":"' + "1" * 60_000 + '"}',
     '{"msg":"a","exception":"Traceback (most recent call last):' + '\\n  File \\"a\\", line 1' * 2_500 + '"}'],
)  # fmt: skip
def test_no_line_is_expensive(line: str) -> None:
    """64 KiB cost milliseconds, not seconds, whatever they are: nothing is quadratic."""
    start = time.process_time()
    parse_line(line)

    assert time.process_time() - start < 0.5
