"""Lines that a Go host understands, whatever is logged."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_strategies import log_fields

from supervisor.records import ExceptionRecord
from supervisor.sdk.hclog import LINE_LIMIT, format_line


@pytest.mark.parametrize(
    ("level", "word"),
    [(0, "trace"), (5, "trace"), (10, "debug"), (20, "info"), (25, "info"), (30, "warn"), (40, "error"), (50, "error")],
)
def test_levels_are_hclogs_words(level: int, word: str) -> None:
    """A Go host knows neither `warning` nor `critical`."""
    assert json.loads(format_line(level, "", logged_at=0.0))["@level"] == word


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1700000000.25, "2023-11-14T22:13:20.250000Z"),
        (1e30, "1970-01-01T00:00:00.000000Z"),
    ],
)
def test_timestamps_have_six_digits(moment: float, text: str) -> None:
    """Go's parser takes exactly six; a moment that no calendar has is the epoch."""
    assert json.loads(format_line(20, "", logged_at=moment))["@timestamp"] == text


def test_the_authors_keys_cannot_pose_as_hclogs() -> None:
    """A number under `@message` ends a Go host's process."""
    line = json.loads(format_line(20, "event", logged_at=0.0, fields={"@message": 5, "@level": None}))
    assert line["@message"] == "event"
    assert line["@level"] == "info"
    assert (line["_@message"], line["_@level"]) == (5, None)


def test_values_that_json_lacks() -> None:
    """Bytes, NaN, infinity and objects are shown as Python shows them."""
    fields = {"raw": b"\x00", "nan": float("nan"), "many": [float("inf")], "set": {1}}
    line = json.loads(format_line(20, "event", logged_at=0.0, fields=fields))
    assert (line["raw"], line["nan"], line["many"], line["set"]) == ("b'\\x00'", "nan", "[inf]", "{1}")


@pytest.mark.parametrize("letter", ["x", "\u2028", "\U0001f600", "\udc80"])
def test_a_line_has_a_limit(letter: str) -> None:
    """However characters are escaped, the line is shorter than a Go host's buffer, and says that it was cut."""
    text = letter * 100_000
    error = ExceptionRecord(type="E", message="", text=f"{text}the end")
    line = format_line(20, text, logged_at=0.0, logger=text, fields={"a": text, "b": text, text: 1}, exception=error)
    assert len(line) <= LINE_LIMIT + 100
    parsed = json.loads(line)
    assert parsed["@message"].endswith("…")
    assert parsed["exception"].startswith("…")
    assert parsed["exception"].endswith("the end")
    assert parsed["truncated"] is True


def parse(line: bytes) -> dict[str, Any]:
    """Return the line's object; it has to be one line of ASCII."""
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    parsed = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert isinstance(parsed, dict)
    return parsed


@given(st.text(), log_fields)
def test_anything_is_one_line_of_json(event: str, fields: dict[str, Any]) -> None:
    """Every event is a line, and every field is in it."""
    parsed = parse(format_line(20, event, logged_at=0.0, fields=fields))
    assert parsed["@message"] == event
    assert len(parsed) == 3 + len({f"_{key}" if key.startswith("@") else key for key in fields})
