"""How a peer can break the rules, an error for each; the codes are RFC 9113's, section 7."""

from __future__ import annotations

import enum

from supervisor.errors import ProtocolViolationError, TransportError

__all__ = [
    "CallQueueFullError",
    "ErrorCode",
    "FloodError",
    "FrameOrderError",
    "FrameSizeError",
    "HeaderCompressionError",
    "HeaderListTooLargeError",
    "MetadataTooLargeError",
    "PrefaceError",
    "SettingError",
    "WindowError",
    "WireViolationError",
    "code_name",
]


class ErrorCode(enum.IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


def code_name(code: int) -> str:
    """Return the name of an error code, or its number when it has none."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return str(code)


class WireViolationError(ProtocolViolationError):
    """The peer broke HTTP/2, and the connection with it.

    Attributes:
        code: what the peer is told.
    """

    code = ErrorCode.PROTOCOL_ERROR


class PrefaceError(WireViolationError):
    """The peer did not begin as HTTP/2 begins (section 3.4): it speaks something else."""


class FrameSizeError(WireViolationError):
    """A frame is longer than was offered, or has a length that its type cannot have (section 4.2)."""

    code = ErrorCode.FRAME_SIZE_ERROR


class FrameOrderError(WireViolationError):
    """A frame came where it may not come (sections 5.1 and 6)."""


class SettingError(WireViolationError):
    """A setting has a value that it cannot have (section 6.5.2)."""


class WindowError(WireViolationError):
    """A window was overrun, or opened beyond the protocol's largest (section 5.2)."""

    code = ErrorCode.FLOW_CONTROL_ERROR


class HeaderCompressionError(WireViolationError):
    """A header block is not HPACK (section 4.3); the tables of the two sides have parted."""

    code = ErrorCode.COMPRESSION_ERROR


class HeaderListTooLargeError(WireViolationError):
    """A header block is larger than the limit (section 10.5.1).

    Attributes:
        limit: the largest accepted, in bytes.
    """

    code = ErrorCode.ENHANCE_YOUR_CALM

    def __init__(self, message: str, *, limit: int = 0) -> None:
        super().__init__(message)
        self.limit = limit


class FloodError(WireViolationError):
    """The peer sends frames whose only effect is work (section 10.5).

    Attributes:
        limit: how many it may send at once, or for unread output how many bytes may wait.
    """

    code = ErrorCode.ENHANCE_YOUR_CALM

    def __init__(self, message: str, *, limit: int = 0) -> None:
        super().__init__(message)
        self.limit = limit


class MetadataTooLargeError(TransportError):
    """Headers are larger than the peer said that it takes; nothing was sent.

    Attributes:
        size: bytes, as section 10.5.1 of RFC 9113 counts them.
        limit: the largest that the peer takes.
        maybe_executed: always False.
    """

    maybe_executed = False

    def __init__(self, message: str, *, size: int = 0, limit: int = 0) -> None:
        super().__init__(message, hint="send less metadata")
        self.size = size
        self.limit = limit


class CallQueueFullError(TransportError):
    """As many calls as are allowed already wait for their turn; nothing was sent.

    Attributes:
        limit: how many may wait.
        maybe_executed: always False.
    """

    maybe_executed = False

    def __init__(self, message: str, *, limit: int = 0) -> None:
        super().__init__(message, hint="raise the limit or make fewer calls at once")
        self.limit = limit
