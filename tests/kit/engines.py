"""Looks inside the protocols of both engines."""

from __future__ import annotations

from typing import Any


def transport_of(protocol: Any) -> Any:
    """Return the asyncio transport under a protocol of either engine."""
    return protocol.transport if hasattr(protocol, "transport") else protocol.connection._transport


def is_writable(protocol: Any) -> bool:
    """Whether the socket of a protocol of either engine takes bytes."""
    found: bool = protocol.writable if hasattr(protocol, "writable") else protocol.connection.writable
    return found
