"""Levels, and the rule that makes a plugin's text safe to print."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.levels import Level
from supervisor.quoting import escape_text, quote_text
from supervisor.records import LogRecord


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("trace", Level.TRACE), ("DEBUG", Level.DEBUG), (" info ", Level.INFO), ("notice", Level.INFO),
        ("warn", Level.WARNING), ("Warning", Level.WARNING), ("err", Level.ERROR), ("exception", Level.ERROR),
        ("fatal", Level.CRITICAL), ("panic", Level.CRITICAL), ("critical", Level.CRITICAL), ("off", None), ("", None),
    ],
)  # fmt: skip
def test_levels_have_many_names(name: str, level: Level | None) -> None:
    """Those of the standard library, structlog, hclog, slog and logrus."""
    assert Level.from_name(name) is level


@pytest.mark.parametrize(
    ("number", "level"),
    [
        (-1, Level.TRACE),
        (0, Level.TRACE),
        (5, Level.TRACE),
        (19, Level.DEBUG),
        (25, Level.INFO),
        (10**9, Level.CRITICAL),
    ],
)
def test_a_number_between_two_levels_is_the_lower_one(number: int, level: Level) -> None:
    """And none is above the highest, whatever a plugin says."""
    assert Level.from_number(number) is level


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain ü 漢 😀", "plain ü 漢 😀"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[2J\x07\x7f\x9b", "\\x1b[2J\\x07\\x7f\\x9b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\u2028b\u2029\u0085", "a\\u2028b\\u2029\\x85"),
        ("\ufeff\u200b\u2066", "\\ufeff\\u200b\\u2066"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_shown(text: str, safe: str) -> None:
    """Controls, bidi marks, separators and lone surrogates become escapes, other scripts stay."""
    assert escape_text(text) == safe


@given(st.text(st.characters(exclude_categories=[])))
def test_escaped_text_is_one_encodable_line_without_controls(text: str) -> None:
    """So no sink can choke on it or be fooled by it, and escaping twice changes nothing."""
    safe = escape_text(text)

    assert len(safe.splitlines()) <= 1
    assert safe.encode().decode() == safe
    assert not {unicodedata.category(character) for character in safe} & {"Cc", "Cs", "Zl", "Zp"}
    assert escape_text(safe) == safe


@given(st.text(st.characters(exclude_categories=[])))
def test_a_traceback_keeps_its_newlines_and_tabs_only(text: str) -> None:
    """Each of its lines is as safe as a line."""
    safe = escape_text(text, multiline=True)

    assert safe.count("\n") == text.count("\n")
    assert safe.count("\t") == text.count("\t")
    assert all(escape_text(part) == part for line in safe.split("\n") for part in line.split("\t"))


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a\n", "'a\\n'"),
        (b"\xff\x00", "'\\xff\\x00'"),
        ("x" * 80, "'" + "x" * 80 + "'"),
        ("x" * 81, "'" + "x" * 79 + "…'"),
        (b"x" * 10**6, "'" + "x" * 79 + "…'"),
        ("\x1b" * 80, "'" + "\\x1b" * 19 + "\\x1…'"),
        ("", "''"),
    ],
)
def test_a_quote_is_escaped_and_short(text: str | bytes, quoted: str) -> None:
    """Foreign text in a message takes 80 characters at most."""
    assert quote_text(text) == quoted


@given(st.text(st.characters(exclude_categories=[])) | st.binary(), st.integers(1, 20))
def test_a_quote_never_exceeds_its_limit(text: str | bytes, limit: int) -> None:
    """Whatever the escapes add."""
    quoted = quote_text(text, limit=limit, mark="")

    assert len(quoted) <= limit
    assert escape_text(quoted) == quoted


def test_a_records_fields_cannot_be_changed() -> None:
    """Observers share it."""
    with pytest.raises(TypeError):
        LogRecord(level=Level.INFO, event="x").fields["a"] = 1  # type: ignore[index]  # the point is that it fails
