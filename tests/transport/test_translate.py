"""The table of foreign exceptions."""

from __future__ import annotations

import asyncio

import grpclib.exceptions
import h2.exceptions
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from multidict import MultiDict

from supervisor.address import UnixAddress
from supervisor.errors import (
    ConnectError,
    ConnectionLostError,
    DeadlineExceededError,
    DecodeError,
    HandshakeError,
    MessageTooLargeError,
    ProtocolViolationError,
)
from supervisor.transport.refused_size import LIMIT_KEY, SIZE_KEY, too_large_from_status
from supervisor.transport.translate import (
    Translator,
    connect_error,
    translate,
)

TABLE = [
    (TimeoutError(), DeadlineExceededError),
    (grpclib.exceptions.StreamTerminatedError("gone"), ConnectionLostError),
    (ConnectionResetError("gone"), ConnectionLostError),
    (BrokenPipeError(), ConnectionLostError),
    (grpclib.exceptions.ProtocolError("order"), ProtocolViolationError),
    (h2.exceptions.ProtocolError(), ProtocolViolationError),
    (h2.exceptions.StreamClosedError(1), ProtocolViolationError),
]


@pytest.mark.parametrize(("foreign", "ours"), TABLE, ids=lambda value: getattr(value, "__name__", repr(value)))
def test_foreign_exception_becomes_ours(foreign: Exception, ours: type[Exception]) -> None:
    """Each foreign exception has one of ours, which carries it as its cause."""
    with pytest.raises(ours) as caught, Translator(lambda: False):
        raise foreign
    assert caught.value.__cause__ is foreign


@pytest.mark.parametrize("error", [GRPCError(Status.OK), DecodeError("x"), asyncio.CancelledError(), KeyError("x")])
def test_what_is_the_callers_passes_unchanged(error: BaseException) -> None:
    """A status, an error of ours, a cancellation and a caller's own mistake are not touched."""
    assert translate(error) is error


def test_lost_connection_says_whether_the_call_may_have_run() -> None:
    """`maybe_executed` is passed on."""
    for executed in (True, False):
        error = translate(OSError(), maybe_executed=executed)
        assert isinstance(error, ConnectionLostError)
        assert error.maybe_executed is executed


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(2, "no"), "no socket at /s"),
        (ConnectionRefusedError(111, "no"), "nobody listens at /s"),
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (HandshakeError("not ours"), "not ours"),
        (RuntimeError("odd"), "odd"),
    ],
)
def test_connect_error_names_the_address_and_the_reason(error: Exception, text: str) -> None:
    """A connection that could not be made says where and why."""
    ours = connect_error(UnixAddress("/s"), error)
    assert isinstance(ours, ConnectError)
    assert ours.phase == "connect"
    assert "/s" in str(ours)
    assert text in str(ours)


def test_refusal_of_our_server_is_typed_and_others_are_not() -> None:
    """RESOURCE_EXHAUSTED becomes `MessageTooLargeError` only with the trailers of our own limit."""
    status = GRPCError(Status.RESOURCE_EXHAUSTED, "quota")
    trailers: MultiDict[str | bytes] = MultiDict({SIZE_KEY: "20", LIMIT_KEY: "10"})
    error = too_large_from_status(status, trailers)
    assert isinstance(error, MessageTooLargeError)
    assert (error.size, error.limit) == (20, 10)
    assert too_large_from_status(status, None) is None
    assert too_large_from_status(status, MultiDict({SIZE_KEY: "x", LIMIT_KEY: "10"})) is None
    assert too_large_from_status(status, MultiDict({SIZE_KEY: "²", LIMIT_KEY: "10"})) is None
    assert too_large_from_status(GRPCError(Status.NOT_FOUND), trailers) is None
