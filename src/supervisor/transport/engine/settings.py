"""Every bound that one connection keeps, in one value; `faults` has the error for each."""

from __future__ import annotations

from typing import NamedTuple

from supervisor.terms import Limits

__all__ = ["WireSettings", "wire_settings"]

_KIB = 1 << 10
_MIB = 1 << 20


class WireSettings(NamedTuple):
    """What this side takes from its peer, and what it announces of that in its SETTINGS (RFC 9113, section 6.5.2).

    Attributes:
        message_size: bytes of one message, compressed or not. Over it: `MessageTooLargeError`, for that call.
        calls_in_flight: streams open at once. A server refuses one more; a client's next call queues.
        calls_queued: a client's calls that may wait for their turn. Over it: `CallQueueFullError`.
        calls_ending: handlers that may still be ending after their calls were reset, beside twice `calls_in_flight`.
        header_list: bytes of one header block, encoded and decoded. Over it: `HeaderListTooLargeError`.
        header_table: bytes of the dynamic table that the peer may use to compress headers.
        frame_size: bytes of one frame's payload, either direction. Over it: `FrameSizeError`.
        stream_window: bytes that the peer may send on a new stream. Over it: `WindowError`. A message that fits into it
            arrives without waiting for leave.
        settled_window: bytes that it may have under way, unread, on a stream of small messages. What is under way is what
            any other call waits behind.
        largest_window: what that may become on a stream whose messages are large, while they are read.
        control_burst: frames that carry nothing (see `flood`) that may arrive at once. Over it: `FloodError`.
        control_rate: how many of them per second are earned back.
        output_backlog: bytes that may wait to be sent to a peer that does not read, before small replies, which
            normally overtake that wait, wait too; twice that ends the connection with `FloodError`.
    """

    message_size: int = 64 * _MIB
    calls_in_flight: int = 10_000
    calls_queued: int = 1_000_000
    calls_ending: int = 100
    header_list: int = 64 * _KIB
    header_table: int = 4096
    frame_size: int = _MIB
    stream_window: int = 256 * _KIB
    settled_window: int = 64 * _KIB
    largest_window: int = 4 * _MIB
    control_burst: int = 10_000
    control_rate: float = 5_000.0
    output_backlog: int = 4 * _MIB


def wire_settings(limits: Limits) -> WireSettings:
    """Return the settings of a connection under a plugin's limits."""
    return WireSettings(message_size=limits.message_size, calls_in_flight=limits.calls_in_flight)
