"""Chunks to lines: bounded, lossless, and the same for any chunking."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import ConfigurationError
from supervisor.log_lines import Line, LineSplitter


def split(*chunks: bytes, limit: int = 16) -> list[Line]:
    """Split the chunks and flush."""
    splitter = LineSplitter(limit)
    return [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.flush()


def test_lines_come_as_soon_as_they_are_complete() -> None:
    """A half line is kept until its end arrives."""
    splitter = LineSplitter()

    assert splitter.feed(b"one\ntw") == [Line(b"one")]
    assert splitter.feed(b"") == []
    assert splitter.feed(b"o\n\nthree") == [Line(b"two"), Line(b"")]
    assert splitter.flush() == [Line(b"three")]
    assert splitter.flush() == []


def test_one_carriage_return_belongs_to_the_newline() -> None:
    """CRLF ends a line; a progress bar's carriage returns stay in it, to be escaped later."""
    assert split(b"one\r\n10%\r20%\r\r\nlast\r") == [Line(b"one"), Line(b"10%\r20%\r"), Line(b"last")]


def test_a_line_at_the_limit_is_whole_and_one_above_is_cut() -> None:
    """The limit counts bytes of the line, not its end."""
    assert split(b"x" * 16 + b"\r\ny\n") == [Line(b"x" * 16), Line(b"y")]
    assert split(b"x" * 17 + b"\ny\n") == [
        Line(b"x" * 16, truncated=True),
        Line(b"x", truncated=True),
        Line(b"y"),
    ]


def test_a_cut_leaves_characters_whole() -> None:
    """Both pieces of a cut line are valid UTF-8 when the line was."""
    pieces = split("é€😀".encode() * 20 + b"\n")

    assert all(piece.truncated and len(piece.data) <= 16 for piece in pieces)
    assert "".join(piece.data.decode() for piece in pieces) == "é€😀" * 20


def test_an_endless_line_is_never_kept_whole() -> None:
    """A flood without newlines costs the limit, and every byte of it comes out."""
    splitter = LineSplitter(1024)
    total = 0
    for _ in range(200):
        total += sum(len(line.data) for line in splitter.feed(b"\xff" * 10_000))
        assert len(splitter._partial) <= 1025

    assert total + sum(len(line.data) for line in splitter.flush()) == 2_000_000


def test_a_limit_that_holds_no_character_is_refused() -> None:
    """A UTF-8 character needs up to four bytes."""
    with pytest.raises(ConfigurationError):
        LineSplitter(3)


STREAMS = st.lists(st.sampled_from([b"a", b"\n", b"\r", b"\r\n", "é".encode(), "😀".encode(), b"\x80", b"x" * 9])).map(
    b"".join
)


@given(STREAMS, st.lists(st.integers(0, 200)), st.integers(4, 12))
def test_any_chunking_gives_the_same_lines(stream: bytes, cuts: list[int], limit: int) -> None:
    """Where the pipe cuts the stream makes no difference, neither does reading it byte by byte."""
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    whole = split(stream, limit=limit)

    assert split(*(stream[a:b] for a, b in pairwise(edges)), limit=limit) == whole
    assert split(*(stream[i : i + 1] for i in range(len(stream))), limit=limit) == whole


@given(STREAMS, st.integers(4, 12))
def test_nothing_is_lost(stream: bytes, limit: int) -> None:
    """All bytes but the line ends come out, in order, and in pieces within the limit."""
    lines = split(stream, limit=limit)

    assert b"".join(line.data for line in lines).replace(b"\r", b"") == stream.replace(b"\n", b"").replace(b"\r", b"")
    assert all(len(line.data) <= limit for line in lines)
