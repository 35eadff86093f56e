"""Telling a sub-message that somebody set from one that was only looked at.

betterproto creates an unset sub-message when it is read and stores it in the parent, where it looks like one that the
caller put there: `Outer(inner=Inner())` must be sent with an empty `inner`, `Outer().inner` must not set anything.
Nothing in the objects tells the two apart, so the one method through which betterproto makes such defaults,
`Message._get_field_default`, is wrapped to mark what it makes. The wrapper changes no value and no behaviour.

A default timestamp or duration cannot carry a mark; it is recognised by its identity.

One way to lose the mark remains: `copy.deepcopy` builds its copy by constructor calls, so a sub-message that was read and then
deep-copied with its parent counts as set. (betterproto's copies drop unknown fields for the same reason.)
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, Final

import betterproto

__all__ = ["READ_DURATION", "READ_TIMESTAMP", "is_set", "mark_defaults"]


class _ReadDuration(timedelta):
    """A duration of nothing with an identity: Python 3.13 keeps only one `timedelta(0)`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(timedelta())


READ_TIMESTAMP: Final = datetime(1970, 1, 1, tzinfo=UTC)
READ_DURATION: Final[timedelta] = _ReadDuration()

_MARK: Final = "_default_of_a_read"

_attributes = object.__getattribute__


def is_set(message: betterproto.Message) -> bool:
    """Whether an empty sub-message was set by the caller or received from a peer, rather than created by a read."""
    attributes: dict[str, Any] = _attributes(message, "__dict__")
    return bool(attributes["_serialized_on_wire"]) or _MARK not in attributes


def mark_defaults() -> None:
    """Wrap betterproto's maker of defaults; a second call does nothing."""
    make_default = betterproto.Message._get_field_default  # noqa: SLF001 - see the module's docstring
    if hasattr(make_default, "__wrapped__"):
        return

    @wraps(make_default)
    def make_marked_default(self: betterproto.Message, field_name: str) -> Any:
        value = make_default(self, field_name)
        kind = type(value)
        if kind is datetime:
            return READ_TIMESTAMP
        if kind is timedelta:
            return READ_DURATION
        if isinstance(value, betterproto.Message):
            _attributes(value, "__dict__")[_MARK] = True
        return value

    setattr(betterproto.Message, "_get_field_default", make_marked_default)  # noqa: B010 - mypy forbids the assignment


mark_defaults()
