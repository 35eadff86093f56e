"""hclog's text lines, which plugins in Go print when their logger was not told to write JSON.

2026-11-21T05:14:32.123Z [WARN]  store.disk: nearly full: path=/data left="3 %"
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["HclogText", "read_hclog_text"]

_HEADER = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(?:Z|[+-]\d{4})) \[(?P<level>TRACE|DEBUG|INFO|WARN|ERROR)\] {1,2}"
    r"(?:(?P<caller>[\w./@-]+\.go:\d+): )?(?:(?P<logger>[\w.@/-]+): )?"
)
_PAIRS_BEGIN = re.compile(r':(?= [^\s="]+=)')
_PAIR = re.compile(
    r' (?P<key>[^\s="]+)=(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<list>\[[^\]]*+\])|(?P<bare>[^\s"]*+))(?!\S)'
)


class HclogText(NamedTuple):
    """The parts of a line. All that hclog writes is text; numbers cannot be told from strings that look like some."""

    time: str
    level: str
    logger: str
    message: str
    fields: dict[str, object]


def read_hclog_text(text: str) -> HclogText | None:
    """Return the parts of `text`, None if it is no such line.

    hclog does not escape what could be taken for its own syntax, so the first word of a logger without a name is taken
    for the name if a colon follows it. What does not look like pairs to its very end stays in the message.
    """
    header = _HEADER.match(text)
    if header is None:
        return None
    message, fields = _split_pairs(text[header.end() :])
    if header["caller"]:
        fields["caller"] = header["caller"]
    return HclogText(header["time"], header["level"], header["logger"] or "", message, fields)


def _split_pairs(rest: str) -> tuple[str, dict[str, object]]:
    begin = _PAIRS_BEGIN.search(rest)
    if begin is None:
        return rest, {}
    fields: dict[str, object] = {}
    at = begin.end()
    while at < len(rest):
        pair = _PAIR.match(rest, at)
        if pair is None:
            return rest, {}
        quoted = pair["quoted"]
        fields[pair["key"]] = quoted.replace('\\"', '"') if quoted is not None else pair["list"] or pair["bare"]
        at = pair.end()
    return rest[: begin.start()], fields
