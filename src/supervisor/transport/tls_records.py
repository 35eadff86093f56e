"""How TLS looks from outside: for who does not speak it and meets somebody who does."""

from __future__ import annotations

from typing import Final

__all__ = ["is_tls_record"]

_RECORDS: Final = range(20, 24)
"""TLS's types of records: change of cipher, alert, handshake, data."""

_MAJOR: Final = b"\x03"


def is_tls_record(data: bytes) -> bool:
    """Whether bytes that open a connection can be TLS; HTTP/2 and text cannot."""
    return bool(data) and data[0] in _RECORDS and data[1:2] in {b"", _MAJOR}
