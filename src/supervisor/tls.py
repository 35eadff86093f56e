"""TLS as the application brings it: values that say where certificates are, or contexts that hold them.

Manual TLS: nothing is exchanged in the handshake, both sides know beforehand whom they trust. With AutoMTLS the library
makes such contexts by itself; see `supervisor.transport.tls`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from supervisor.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl

__all__ = ["SERVER_NAME", "TlsContexts", "TlsFiles"]

SERVER_NAME = "localhost"
"""The name that every certificate of go-plugin's AutoMTLS is made out to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files, read again for every life of a plugin, so that renewed certificates are taken up by a restart.

    Both sides show a certificate and demand one. A certificate has to be good for both roles: in brokered connections
    the host is the server.

    Attributes:
        certificate: path of this side's certificate, with those between it and the authority.
        key: path of its private key, without a password.
        authority: path of the certificates of those who sign the other side's.
        server_name: the name that a server's certificate must be made out to.
    """

    certificate: str
    key: str
    authority: str
    server_name: str = SERVER_NAME

    def __post_init__(self) -> None:
        for name in ("certificate", "key", "authority", "server_name"):
            if not getattr(self, name):
                raise ConfigurationError(f"tls has no {name}", hint="tls needs certificate, key and authority")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsContexts:
    """Contexts that are used as they are, for keys that are in no file. They must offer `h2` by ALPN.

    Attributes:
        client: for connections that this side opens; a host needs it.
        server: for connections that this side accepts; a plugin needs it.
        server_name: the name that a server's certificate must be made out to, if the context checks names.
        pinned: certificates as DER of which the other side must show exactly one; whom the context trusts when empty.
    """

    client: ssl.SSLContext | None = None
    server: ssl.SSLContext | None = None
    server_name: str = SERVER_NAME
    pinned: tuple[bytes, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.client is None and self.server is None:
            raise ConfigurationError("tls has no context", hint="give it a client's, a server's or both")
