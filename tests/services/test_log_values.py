"""What a log record may carry."""

from __future__ import annotations

import datetime as dt
import enum
import json
from collections import OrderedDict
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.services.log_values import TEXT_LIMIT, cut_text, freeze


class Colour(enum.StrEnum):
    """Text with a class of its own."""

    RED = "red"


class Number(enum.IntEnum):
    """An integer with a class of its own."""

    ONE = 1


@pytest.mark.parametrize(
    ("value", "frozen"),
    [
        (True, True),
        (None, None),
        (5, 5),
        (-(1 << 63), -(1 << 63)),
        (1 << 63, str(1 << 63)),
        (1.5, 1.5),
        ("text", "text"),
        (b"raw", b"raw"),
        (bytearray(b"raw"), b"raw"),
        (Colour.RED, "red"),
        (Number.ONE, 1),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "2026-01-02T03:04:05+00:00"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        ((1, [2, "three"]), [1, [2, "three"]]),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({1: Number.ONE}), {"1": 1}),
        (PurePosixPath("/x"), "PurePosixPath('/x')"),
        ({1}, "{1}"),
    ],
)
def test_values_become_plain(value: object, frozen: object) -> None:
    """Each kind becomes the plain type that stands for it, exactly."""
    result = freeze(value)
    assert result == frozen
    assert type(result) is type(frozen)


def test_later_changes_do_not_show() -> None:
    """A record says what was true when it was logged."""
    value = {"items": [1]}
    frozen = freeze(value)
    value["items"].append(2)
    assert frozen == {"items": [1]}


@pytest.mark.parametrize("method", ["__repr__", "__iter__", "__len__"])
def test_a_value_that_raises_is_named(method: str) -> None:
    """Foreign methods may raise; the record says so instead of them."""

    def fail(*_: object) -> object:
        raise RuntimeError(method)

    base: type = object if method == "__repr__" else OrderedDict
    value = type("Odd", (base,), {method: fail})()
    frozen = freeze({"fine": 1, "odd": value})
    assert isinstance(frozen, dict | str)
    assert freeze(value) is not None


def test_a_cycle_ends() -> None:
    """A list inside itself is cut where it nests too deep."""
    value: list[object] = []
    value.append(value)
    assert json.dumps(freeze(value)).count("[") == 8
    assert "nested too deep" in json.dumps(freeze(value))


def test_many_values_are_cut() -> None:
    """A field has a thousand values at most, however they are arranged, and says how many there are more."""
    flat = freeze(list(range(100_000)))
    assert isinstance(flat, list)
    assert len(flat) <= 1001
    assert flat[-1] == f"… {100_000 - len(flat) + 1} more"
    wide = freeze({str(n): list(range(100)) for n in range(100)})
    assert isinstance(wide, dict)
    assert sum(len(item) for item in wide.values() if isinstance(item, list)) <= 1100


def test_large_texts_and_numbers_are_cut() -> None:
    """One value has 16 KiB at most; a number with a million digits is not even rendered."""
    assert freeze("x" * 100_000) == "x" * (TEXT_LIMIT - 1) + "…"
    assert freeze(b"x" * 100_000) == b"x" * TEXT_LIMIT
    assert freeze(1 << 4_000_000) == "<integer of about 1204120 digits>"
    assert cut_text("abc", 3) == "abc"
    assert cut_text("abcd", 3) == "ab…"


anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.complex_numbers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
)


@given(anything)
def test_freezing_twice_changes_nothing(value: object) -> None:
    """What is frozen is plain, so that it can be encoded without another look."""
    frozen = freeze(value)
    assert repr(freeze(frozen)) == repr(frozen)
