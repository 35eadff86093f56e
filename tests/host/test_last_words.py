"""The end of stderr, kept short."""

from __future__ import annotations

from supervisor.host.last_words import LastWords


def test_oldest_lines_go_first() -> None:
    """Of more lines than wanted the last ones are kept, in order."""
    words = LastWords(2)
    for line in "abc":
        words.add(line)
    assert words.lines == ("b", "c")
    assert str(words) == "its last line on stderr: c"


def test_size_is_bounded() -> None:
    """Long lines push out more than one, and a single huge one is cut."""
    words = LastWords(50)
    for _ in range(40):
        words.add("x" * 1000)
    assert len(words.lines) == 16
    words.add("y" * 100_000)
    (only,) = words.lines
    assert len(only) == 16 * 1024
    assert only.startswith("yyy")
    assert len(str(words)) < 250


def test_silence_is_said() -> None:
    """Nothing on stderr is told as such."""
    assert str(LastWords(5)) == "it printed nothing on stderr"
