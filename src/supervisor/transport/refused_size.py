"""How a server of ours says that a message was over its limit, in numbers: the status has a text only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from supervisor.errors import MessageTooLargeError

if TYPE_CHECKING:
    from multidict import MultiDict

__all__ = ["LIMIT_KEY", "SIZE_KEY", "refusal_of", "too_large_from_status"]

SIZE_KEY = "x-message-size"
"""Trailer by which our server says how large the message was that it refused, in bytes."""

LIMIT_KEY = "x-message-limit"
"""Trailer by which our server says how large a message may be, in bytes."""


def refusal_of(error: BaseException) -> GRPCError:
    """Return the status for a message over the limit, caused by the error that says so."""
    refusal = GRPCError(Status.RESOURCE_EXHAUSTED, str(error.args[0]))
    refusal.__cause__ = error
    return refusal


def too_large_from_status(error: GRPCError, trailers: MultiDict[str | bytes] | None) -> MessageTooLargeError | None:
    """Return the typed error when the peer's status says, by our trailers, that a message was over its limit."""
    if error.status is not Status.RESOURCE_EXHAUSTED or trailers is None:
        return None
    size, limit = str(trailers.get(SIZE_KEY, "")), str(trailers.get(LIMIT_KEY, ""))
    if not (size.isascii() and size.isdigit() and limit.isascii() and limit.isdigit()):
        return None
    return MessageTooLargeError(
        f"a message of {size} bytes is over the peer's limit of {limit}", size=int(size), limit=int(limit)
    )
