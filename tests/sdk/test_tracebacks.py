"""Exceptions as records."""

from __future__ import annotations

import pytest

from supervisor.sdk.tracebacks import describe_exception


def fail(depth: int = 0) -> None:
    """Raise from `depth` calls further down."""
    if depth:
        fail(depth - 1)
    raise ValueError("bad", 5)


def caught(depth: int = 0) -> ValueError:
    """Return the exception that `fail` raises."""
    try:
        fail(depth)
    except ValueError as error:
        return error
    raise AssertionError


def test_an_exception_has_type_message_frames_and_text() -> None:
    """The frames are outermost first, with their source lines."""
    record = describe_exception(caught())
    assert record is not None
    assert (record.type, record.message) == ("ValueError", "('bad', 5)")
    assert [(frame.name, frame.line) for frame in record.frames] == [
        ("caught", "fail(depth)"),
        ("fail", 'raise ValueError("bad", 5)'),
    ]
    assert record.text.startswith("Traceback (most recent call last):\n")
    assert record.text.endswith("\nValueError: ('bad', 5)")


def test_every_form_of_exc_info() -> None:
    """An exception, stdlib's triple, and true for the one being handled; anything else is none."""
    error = caught()
    expected = describe_exception(error)
    assert describe_exception((type(error), error, error.__traceback__)) == expected
    try:
        raise error
    except ValueError:
        current = describe_exception(True)  # noqa: FBT003  # structlog's and stdlib's own idiom
    assert current is not None
    assert current.type == "ValueError"
    for nothing in (None, False, True, (None, None, None), ()):
        assert describe_exception(nothing) is None


def test_a_type_of_a_module_has_its_name() -> None:
    """The type says where it comes from, unless it is a builtin."""
    record = describe_exception(pytest.UsageError("x"))
    assert record is not None
    assert record.type.endswith(".UsageError")
    assert "." in record.type


def test_a_deep_recursion_is_cut_to_its_innermost_frames() -> None:
    """A thousand frames say no more than a hundred."""
    record = describe_exception(caught(500))
    assert record is not None
    assert len(record.frames) == 100
    assert record.frames[-1].line == 'raise ValueError("bad", 5)'
    assert len(record.text) < 50_000


def test_an_exception_that_cannot_be_shown() -> None:
    """A __str__ that raises costs the message only."""

    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    record = describe_exception(OddError())
    assert record is not None
    assert record.message == "<exception str() failed>"


def test_groups_keep_their_members() -> None:
    """An exception group's text has each member."""
    record = describe_exception(ExceptionGroup("several", [ValueError("one"), KeyError("two")]))
    assert record is not None
    assert "ValueError: one" in record.text
    assert "KeyError: 'two'" in record.text
