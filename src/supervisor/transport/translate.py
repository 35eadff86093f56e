"""The one place where foreign exceptions become ours.

A caller of a plugin sees `SupervisorError`, `GRPCError` (the application's own status) or `CancelledError`, whatever
grpclib, h2, a codec or the operating system raised.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Literal

import grpclib.exceptions
from grpclib.exceptions import GRPCError
from h2.exceptions import H2Error

from supervisor.address import Address
from supervisor.errors import (
    CallResetError,
    CertificateError,
    ConnectError,
    ConnectionLostError,
    DeadlineExceededError,
    ProtocolViolationError,
    SupervisorError,
    TransportError,
)

__all__ = [
    "Translator",
    "connect_error",
    "translate",
]

_ENDS = (GRPCError, CallResetError, ConnectionLostError, DeadlineExceededError, ProtocolViolationError)


def translate(error: BaseException, *, maybe_executed: bool = True) -> BaseException:
    """Return the error that a caller sees for `error`: the same one when it is ours, a status or a cancellation.

    Args:
        error: what was raised under a call.
        maybe_executed: whether the request may have reached the peer.
    """
    match error:
        case SupervisorError() | GRPCError():
            return error
        case TimeoutError():
            return DeadlineExceededError("the call's deadline passed")
        case grpclib.exceptions.StreamTerminatedError() | OSError():
            return ConnectionLostError(f"the connection ended under the call: {error}", maybe_executed=maybe_executed)
        case grpclib.exceptions.ProtocolError():
            return ProtocolViolationError(f"the call was used out of order: {error}")
        case H2Error():
            return ProtocolViolationError(f"HTTP/2 rules were broken: {error or type(error).__name__}")
        case _:
            return error


def connect_error(address: Address, error: BaseException) -> TransportError:
    """Return the error for a connection to `address` that could not be made because of `error`."""
    match error:
        case CertificateError():
            return CertificateError(f"cannot connect to {address}: {error.args[0]}", phase="connect", hint=error.hint)
        case FileNotFoundError():
            return ConnectError(f"no socket at {address}", phase="connect", hint="the plugin removed it or never bound")
        case ConnectionRefusedError():
            return ConnectError(f"nobody listens at {address}", phase="connect", hint="is the plugin still running?")
        case OSError():
            return ConnectError(f"cannot connect to {address}: {error.strerror or error}", phase="connect")
        case SupervisorError():
            return ConnectError(f"cannot connect to {address}: {error.args[0]}", phase="connect", hint=error.hint)
        case _:
            return ConnectError(f"cannot connect to {address}: {error!r}", phase="connect")


class Translator:
    """`with translator:` raises the translation of what its body raises, from the original. Reusable.

    Attributes:
        untouched: an exception that is the caller's own and passes as it is.
        ended: whether an error has passed that no call survives; a caller that handled it is not told again.
    """

    __slots__ = ("_maybe_executed", "ended", "untouched")

    def __init__(self, maybe_executed: Callable[[], bool]) -> None:
        self._maybe_executed = maybe_executed
        self.untouched: BaseException | None = None
        self.ended = False

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> Literal[False]:
        if exc is None:
            return False
        if exc is self.untouched:
            self.ended = True
            return False
        ours = translate(exc, maybe_executed=self._maybe_executed())
        self.ended = self.ended or isinstance(ours, _ENDS)
        if ours is not exc:
            raise ours from exc
        return False
