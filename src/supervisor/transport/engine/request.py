"""What the header block of a request says; read once per block, however many calls begin with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Mapping
from typing import Any, Final

from grpclib.const import Cardinality, Status
from grpclib.const import Handler as Method

from supervisor.transport.engine.compression import GZIP
from supervisor.transport.engine.headers import Fields, HeaderBlock
from supervisor.transport.engine.metadata import MalformedMetadataError, check_binary, decode_timeout

__all__ = ["Refusal", "RequestHead", "read_request"]

_TOLD: Final = {b"grpc-encoding", b"grpc-accept-encoding", b"user-agent", b"content-type", b"te"}
"""What decides how a request is served, beside its pseudo-headers."""

_SHOWN: Final = 200
"""Characters that a refusal repeats of what it refuses: the caller may take no more."""

Refusal = tuple[Status, str, int]
"""Status, message and HTTP status for a request that cannot be served."""


class RequestHead:
    """The headers of a request.

    Attributes:
        path: the route.
        method: what serves it; None when nobody does.
        background: whether it is of those that no stop waits for.
        streams: whether it may consist of several messages.
        timeout: seconds until the caller gives up; None when it did not say.
        encoding: how messages that are compressed are.
        accepted: how messages to the caller may be.
        direct: the servicer's own method, when a generated handler would only pass it the message.
        user_agent: how the caller's library calls itself.
        refusal: the answer, when the request cannot be served.
    """

    def __init__(
        self, block: Fields, methods: Mapping[str, Method], subtype: bytes, background: Container[str] = ()
    ) -> None:
        fields = dict(block)
        self.path = fields.get(b":path", b"").decode("latin-1")
        self.method: Any = methods.get(self.path)
        self.direct = direct_method(self.method) if self.method is not None else None
        self.encoding = fields.get(b"grpc-encoding", b"identity")
        self.accepted = fields.get(b"grpc-accept-encoding", b"")
        agent = fields.get(b"user-agent")
        self.user_agent = None if agent is None else agent.decode("latin-1")
        self.background = self.path in background
        self.streams = self.method is not None and self.method.cardinality.client_streaming
        self.timeout: float | None = None
        self.refusal = self._refusal(fields, subtype)
        self._read_extra(block)

    def with_extra(self, extra: Fields) -> RequestHead | None:
        """Return a head that says the same, and the deadline of one call; None when `extra` says more of how to serve it.

        It is this one when all there is in `extra` is metadata.
        """
        head = self
        for name, value in extra:
            if name == b"grpc-timeout" or name[-4:] == b"-bin":
                if head is self:
                    head = object.__new__(RequestHead)
                    head.__dict__.update(self.__dict__)
                head._read_extra(((name, value),))
            elif name[:1] == b":" or name in _TOLD:
                return None
        return head

    def _read_extra(self, fields: Fields) -> None:
        """Take the deadline, and see that metadata can be read, whether or not anybody will."""
        if self.refusal is not None:
            return
        try:
            check_binary(fields)
            for name, value in fields:
                if name == b"grpc-timeout":
                    self.timeout = decode_timeout(value)
        except MalformedMetadataError as error:
            self.refusal = Status.INTERNAL, f"the request's headers cannot be read: {error}", 200

    def _refusal(self, fields: Mapping[bytes, bytes], subtype: bytes) -> Refusal | None:
        content_type = fields.get(b"content-type", b"")
        kind, _, received = content_type.partition(b"+")
        if fields.get(b":method") != b"POST":
            return Status.INTERNAL, "a gRPC request is a POST", 405
        if kind != b"application/grpc" or (received or b"proto") != subtype:
            text = content_type.decode("latin-1")[:_SHOWN]
            return Status.INTERNAL, f"content-type {text!r} is not served here", 415
        if fields.get(b"te") != b"trailers":
            return Status.INTERNAL, "the request lacks 'te: trailers'", 400
        if self.encoding not in {b"identity", GZIP}:
            text = self.encoding.decode("latin-1")[:_SHOWN]
            return Status.UNIMPLEMENTED, f"grpc-encoding {text!r} is not served here", 200
        if self.method is None:
            return Status.UNIMPLEMENTED, f"unknown method {self.path[:_SHOWN]}", 200
        return None


def direct_method(method: Method) -> Callable[[Any], Awaitable[Any]] | None:
    """Return the servicer's method behind a handler that betterproto generated for a unary call.

    Such a handler receives the message, awaits the method of its own name, and sends what that returns.
    """
    func = method.func
    code = getattr(func, "__code__", None)
    name = getattr(func, "__name__", "").removeprefix("__rpc_")
    if method.cardinality is not Cardinality.UNARY_UNARY or code is None:
        return None
    if code.co_names != ("recv_message", name, "send_message") or code.co_argcount != 2:  # noqa: PLR2004 - self, stream
        return None
    found: Callable[[Any], Awaitable[Any]] | None = getattr(func.__self__, name, None)
    return found


def read_request(
    block: HeaderBlock, methods: Mapping[str, Method], subtype: bytes, background: Container[str] = ()
) -> RequestHead:
    """Return what a request's block says."""
    if block.view is None:
        if block.base is not None:
            block.view = read_request(block.base, methods, subtype, background).with_extra(block.extra)
        if block.view is None:
            block.view = RequestHead(block.fields, methods, subtype, background)
    found: RequestHead = block.view
    return found
