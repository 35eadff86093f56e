"""`grpc-status-details-bin`: a `google.rpc.Status` beside the status, for any library's messages.

The details are `Any` messages: a type's URL and a message's bytes, which the application unpacks with its own classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any as AnyType

import betterproto
from grpclib.const import Status
from grpclib.encoding.base import StatusDetailsCodecBase

from supervisor.errors import EncodeError
from supervisor.transport.codec import decode, encode

__all__ = ["Any", "StatusDetailsCodec"]


@dataclass(eq=False, repr=False)
class Any(betterproto.Message):
    """`google.protobuf.Any`."""

    type_url: str = betterproto.string_field(1)
    value: bytes = betterproto.bytes_field(2)


@dataclass(eq=False, repr=False)
class _RpcStatus(betterproto.Message):
    """`google.rpc.Status`."""

    code: int = betterproto.int32_field(1)
    message: str = betterproto.string_field(2)
    details: list[Any] = betterproto.message_field(3)  # noqa: RUF009 - betterproto's way to say it


class StatusDetailsCodec(StatusDetailsCodecBase):
    """Takes anything with a `type_url` and a `value`, and google.protobuf's messages; gives `Any`."""

    def encode(self, status: Status, message: str | None, details: Sequence[AnyType]) -> bytes:
        """Return the bytes for the trailers; raises `EncodeError`."""
        packed = [_pack(detail) for detail in details]
        return encode(_RpcStatus(code=status.value, message=message or "", details=packed))

    def decode(self, status: Status, message: str | None, data: bytes) -> list[Any]:  # noqa: ARG002 - grpclib's signature
        """Return the details; raises `DecodeError`."""
        return decode(_RpcStatus, data).details


def _pack(detail: AnyType) -> Any:
    if hasattr(detail, "type_url") and hasattr(detail, "value"):
        return Any(type_url=detail.type_url, value=bytes(detail.value))
    descriptor = getattr(detail, "DESCRIPTOR", None)
    if descriptor is None:
        raise EncodeError(
            f"a {type(detail).__name__} is no status detail: it is neither an Any nor names its own type",
            value_type=type(detail).__name__,
        )
    return Any(type_url=f"type.googleapis.com/{descriptor.full_name}", value=detail.SerializeToString())
