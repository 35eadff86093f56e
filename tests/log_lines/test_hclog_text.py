"""The text that hclog writes when it does not write JSON."""

from __future__ import annotations

import time

import pytest

from supervisor.levels import Level
from supervisor.log_lines import parse_line
from supervisor.log_lines.hclog_text import read_hclog_text

AT = "2026-11-21T05:14:32.123Z"


@pytest.mark.parametrize(
    ("line", "level", "logger", "event", "fields"),
    [
        (f"{AT} [INFO]  up", Level.INFO, "", "up", {}),
        (f"{AT} [WARN]  a.b-c: nearly full", Level.WARNING, "a.b-c", "nearly full", {}),
        (f"{AT} [TRACE] a: b: key=value n=1", Level.TRACE, "a", "b", {"key": "value", "n": "1"}),
        (f'{AT} [ERROR] a: b: error="open \\"x\\": no" path=C:\\x', Level.ERROR, "a", "b", {"error": 'open "x": no', "path": "C:\\x"}),
        (f'{AT} [DEBUG] a: b: many=["x y", "z"] empty=""', Level.DEBUG, "a", "b", {"many": '["x y", "z"]', "empty": ""}),
        (f"{AT} [INFO]  a/main.go:12: a: b: k=v", Level.INFO, "a", "b", {"k": "v", "caller": "a/main.go:12"}),
        (f"{AT} [INFO]  a: says: k=v and more", Level.INFO, "a", "says: k=v and more", {}),
        (f"{AT} [INFO]  a: http://x: status=200", Level.INFO, "a", "http://x", {"status": "200"}),
    ],
)  # fmt: skip
def test_a_line_is_taken_apart(line: str, level: Level, logger: str, event: str, fields: dict[str, object]) -> None:
    """Level, logger, message and pairs; what is no pair to its very end stays in the message."""
    record = parse_line(line)

    assert (record.level, record.logger, record.event) == (level, logger, event)
    assert dict(record.fields) == fields
    assert record.logged_at == 1795238072.123


def test_a_zone_is_read() -> None:
    """Local time comes with its offset."""
    assert parse_line("2026-11-21T06:14:32.123+0100 [INFO]  up").logged_at == parse_line(f"{AT} [INFO]  up").logged_at


@pytest.mark.parametrize(
    "line", ["2026-11-21 05:14:32 [INFO] up", f"{AT} INFO up", f"{AT} [NOTE] up", f" {AT} [INFO]  up", f"{AT} [INFO]"]
)
def test_what_is_not_hclogs_is_left_alone(line: str) -> None:
    """It stays text."""
    assert read_hclog_text(line) is None


@pytest.mark.parametrize(
    "hostile", [': a="' * 20_000, ": a=b" * 20_000, ": " * 30_000, ' a="\\' * 20_000, ": a=[" * 20_000]
)
def test_a_hostile_line_costs_no_more_than_its_length(hostile: str) -> None:
    """Nothing starts over."""
    begun = time.process_time()
    parse_line(f"{AT} [INFO]  a: b: k=v{hostile}")

    assert time.process_time() - begun < 1.0
