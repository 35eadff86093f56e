"""What a log record may carry: any Python value, made plain, bounded and safe to keep."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from typing import Final

__all__ = ["TEXT_LIMIT", "cut_text", "freeze"]

TEXT_LIMIT: Final = 16 * 1024
"""Most characters of one text, or bytes of one blob."""

_DEPTH: Final = 8
_NODES: Final = 1000
"""Containers nest this deep, and one field has this many values in all; the rest is shortened."""

_INT64: Final = 1 << 63

# These are kept as they are, when they are small enough.
_PLAIN: Final = frozenset({bool, type(None), float})
_MOMENTS: Final = (dt.datetime, dt.date, dt.time)


def freeze(value: object) -> object:
    """Return a plain copy of `value`: bool, int of 64 bits, float, str, bytes, None, list or dict with text keys.

    Moments become ISO text, larger integers become text, anything else its `repr`. Later changes of `value` do not
    show. Whatever the value does when it is looked at, nothing is raised.
    """
    try:
        return _freeze(value, _DEPTH, [_NODES])
    except Exception as error:  # noqa: BLE001  # foreign __repr__, __iter__ and the like may raise anything
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def cut_text(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return `text`, or its beginning with an ellipsis when it is longer than `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _freeze(value: object, depth: int, budget: list[int]) -> object:  # noqa: PLR0911  # one return for each kind of value
    kind = type(value)
    budget[0] -= 1
    if kind in _PLAIN:
        return value
    if isinstance(value, str):
        return cut_text(str.__str__(value))
    if isinstance(value, int):
        number = int.__int__(value)
        return number if -_INT64 <= number < _INT64 else _show_integer(number)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value[:TEXT_LIMIT])
    if isinstance(value, _MOMENTS):
        return value.isoformat()
    if isinstance(value, list | tuple | Mapping):
        return _freeze_container(value, depth, budget)
    return cut_text(repr(value))


def _freeze_container(
    value: list[object] | tuple[object, ...] | Mapping[object, object], depth: int, budget: list[int]
) -> object:
    if depth == 0:
        return f"<{type(value).__name__} of {len(value)}, nested too deep>"
    if isinstance(value, Mapping):
        # A snapshot first: another thread may be changing it.
        pairs = list(value.items()) if len(value) <= _NODES else [*zip(value, value.values(), strict=False)][:_NODES]
        frozen: dict[str, object] = {}
        for done, (key, item) in enumerate(pairs):
            if budget[0] <= 0:
                frozen["…"] = f"{len(value) - done} more"
                break
            frozen[_key(key)] = _freeze(item, depth - 1, budget)
        return frozen
    items: list[object] = []
    for item in value[:_NODES]:
        if budget[0] <= 0:
            break
        items.append(_freeze(item, depth - 1, budget))
    if len(items) < len(value):
        items.append(f"… {len(value) - len(items)} more")
    return items


def _key(key: object) -> str:
    return cut_text(str.__str__(key) if isinstance(key, str) else repr(key), 256)


def _show_integer(number: int) -> str:
    # str() refuses integers of more than 4300 digits, and is quadratic below that; hex() is neither.
    digits = int(number.bit_length() * math.log10(2))
    return str(number) if digits < 1000 else f"<integer of about {digits} digits>"  # noqa: PLR2004
