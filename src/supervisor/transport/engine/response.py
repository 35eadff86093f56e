"""What the header blocks of a response say; read once per block, however many calls are answered with it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final
from urllib.parse import unquote_to_bytes

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from supervisor.errors import ProtocolViolationError
from supervisor.transport.engine.headers import USUAL_END, USUAL_HEAD, HeaderBlock
from supervisor.transport.engine.metadata import MalformedMetadataError, check_binary
from supervisor.transport.engine.stream import MakeError

__all__ = ["ResponseEnd", "ResponseHead", "read_end", "read_head"]

_HTTP_STATUSES: Final = {
    b"400": Status.INTERNAL,
    b"401": Status.UNAUTHENTICATED,
    b"403": Status.PERMISSION_DENIED,
    b"404": Status.UNIMPLEMENTED,
    b"429": Status.UNAVAILABLE,
    b"502": Status.UNAVAILABLE,
    b"503": Status.UNAVAILABLE,
    b"504": Status.UNAVAILABLE,
}
"""What an answer that is not gRPC's means (gRPC's "HTTP to gRPC Status Code Mapping")."""


class ResponseEnd:
    """The status of a call.

    Attributes:
        ok: whether it is OK, and nothing is wrong with the block.
        status: the status; None when there is none.
        message: what the peer said about it.
        details: `grpc-status-details-bin` as it came.
        problem: makes the error when the block breaks gRPC's rules.
    """

    __slots__ = ("details", "message", "ok", "problem", "status")

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self.ok = False
        self.status: Status | None = None
        self.message: str | None = None
        self.details = fields.get(b"grpc-status-details-bin")
        self.problem: MakeError | None = None
        code = fields.get(b"grpc-status")
        if code is None:
            self.problem = partial(ProtocolViolationError, "the response ended without a status")
            return
        try:
            self.status = Status(int(code))
        except ValueError:
            self.status, self.message = Status.UNKNOWN, f"Invalid grpc-status: {code.decode('latin-1')!r}"
            return
        self.ok = self.status is Status.OK
        if not self.ok and b"grpc-message" in fields:
            # Percent-encoded, as it should be, or raw UTF-8, as some servers send it.
            self.message = unquote_to_bytes(fields[b"grpc-message"]).decode("utf-8", "replace")


class ResponseHead:
    """The headers of a response.

    Attributes:
        problem: makes the error when they are not those of a gRPC response.
        only: whether they are the whole response, status included.
        encoding: how messages that are compressed are.
        end: the status, when it is among them.
    """

    __slots__ = ("encoding", "end", "only", "problem")

    def __init__(self, fields: Mapping[bytes, bytes], subtype: bytes) -> None:
        self.only = b"grpc-status" in fields
        self.encoding = fields.get(b"grpc-encoding", b"identity")
        self.end = ResponseEnd(fields) if self.only else None
        self.problem = _problem(fields, subtype)


def _problem(fields: Mapping[bytes, bytes], subtype: bytes) -> MakeError | None:
    status, content_type = fields.get(b":status"), fields.get(b"content-type")
    has_status = b"grpc-status" in fields
    if status is None:
        return partial(ProtocolViolationError, "the response has no HTTP status")
    if status != b"200" and not has_status:  # else that one says more
        known = _HTTP_STATUSES.get(status, Status.UNKNOWN)
        return partial(GRPCError, known, f"Received :status = {status.decode('latin-1')!r}")
    if content_type is None:
        if has_status:  # grpclib's own server leaves it out of its refusals, of an unknown method for example
            return None
        return partial(ProtocolViolationError, "the response has neither a content-type nor a status")
    kind, _, received = content_type.partition(b"+")
    if kind != b"application/grpc" or (received or b"proto") != subtype:
        text = content_type.decode("latin-1")
        return partial(ProtocolViolationError, f"the response is not gRPC: content-type {text!r}")
    return None


def read_head(block: HeaderBlock, subtype: bytes) -> ResponseHead:
    """Return what a response's first block says."""
    if not isinstance(block.view, ResponseHead):
        view = ResponseHead(dict(block.fields), subtype)
        try:
            check_binary(block.fields)
        except MalformedMetadataError as error:
            view.problem = partial(ProtocolViolationError, str(error))
        block.view = view
        if view.problem is None and not view.only:
            block.usual = USUAL_HEAD
    found: ResponseHead = block.view
    return found


def read_end(block: HeaderBlock) -> ResponseEnd:
    """Return what a response's last block says, which may be its first."""
    if block.view is None:
        view = ResponseEnd(dict(block.fields))
        try:
            check_binary(block.fields)
        except MalformedMetadataError as error:
            view.ok = False
            view.problem = partial(ProtocolViolationError, str(error))
        block.view = view
        if view.ok:
            block.usual = USUAL_END
    found = block.view
    if isinstance(found, ResponseHead):
        return found.end or ResponseEnd(dict(block.fields))
    assert isinstance(found, ResponseEnd)
    return found
