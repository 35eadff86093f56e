"""What OpenSSL says, in words that help; the one place where `ssl`'s exceptions become ours."""

from __future__ import annotations

import ssl
from typing import Final

from supervisor.errors import CertificateError, ConnectError, TransportError

__all__ = ["NOT_PINNED", "NOT_TLS", "WANTS_TLS", "explain"]

NOT_PINNED: Final = "the peer's certificate is not the one it announced"
NOT_TLS: Final = "the peer does not speak TLS: what it sent is plain text"

WANTS_TLS: Final = bytes.fromhex("15 0301 0002 02 46")
"""A fatal alert, "protocol version", by which a peer that does not speak TLS can tell what it was dealing with."""

_REFUSALS: Final = (
    "CERTIFICATE",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
    "DECRYPT_ERROR",  # a signature that does not fit: another key than the certificate's
)
"""Parts of the names of alerts that concern the certificate which this side has shown, or has not."""


def explain(error: ssl.SSLError, *, pinned: bool = False) -> TransportError:
    """Return the error for a handshake or a connection that TLS has ended.

    A `CertificateError` when a certificate is the reason, on whichever side.

    Args:
        error: what OpenSSL raised.
        pinned: whether the peer had to show one certain certificate.
    """
    reason = (error.reason or "").removeprefix("SSL_")
    ours: TransportError
    if isinstance(error, ssl.SSLCertVerificationError):
        said = NOT_PINNED if pinned else "the peer's certificate is refused"
        ours = CertificateError(f"{said}: {error.verify_message}", phase="connect")
    elif reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        ours = CertificateError("the peer shows no certificate", phase="connect")
    elif "_ALERT_" in reason:
        ours = _explain_alert(reason.partition("_ALERT_")[2])
    elif isinstance(error, ssl.SSLEOFError):
        ours = ConnectError(
            "the peer closed the connection in the TLS handshake",
            phase="connect",
            hint="it may not speak TLS, or may refuse this side's certificate; look at its last lines on stderr",
        )
    else:
        ours = ConnectError(f"TLS failed: {_words(reason) or error}", phase="connect")
    ours.__cause__ = error
    return ours


def _explain_alert(alert: str) -> TransportError:
    if any(part in alert for part in _REFUSALS):
        return CertificateError(f"the peer refused this side's certificate: {_words(alert)}", phase="connect")
    # Up to TLS 1.2 a server that misses a certificate says no more than this.
    hint = "it may demand a certificate" if alert == "HANDSHAKE_FAILURE" else None
    return ConnectError(f"the peer ended TLS: {_words(alert)}", phase="connect", hint=hint)


def _words(name: str) -> str:
    return name.replace("_", " ").lower()
