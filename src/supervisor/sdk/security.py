"""Whether and how the plugin speaks TLS, from what the host asked for and what the author brings."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from supervisor.errors import CertificateError, ConfigurationError

if TYPE_CHECKING:
    from supervisor.tls import TlsContexts, TlsFiles

__all__ = ["Security", "choose_security"]

_VARIABLE = "PLUGIN_CLIENT_CERT"


class Security(NamedTuple):
    """What the plugin serves with.

    Attributes:
        tls: contexts for its own connections and the brokered ones; None for plain text.
        certificate: what it is to announce in the handshake as DER, when the host asked for it.
    """

    tls: TlsContexts | None = None
    certificate: bytes | None = None


def choose_security(manual: TlsFiles | TlsContexts | None, client_certificate: str | None) -> Security:
    """Choose manual TLS if the author brings it, else AutoMTLS if the host asked for it, else plain text.

    With manual TLS no certificate is announced, as in go-plugin: both sides know beforehand whom they trust.

    Args:
        manual: the argument of `serve`.
        client_certificate: the value of `PLUGIN_CLIENT_CERT`: the host's certificate as PEM.

    Raises:
        ConfigurationError: the author's files cannot be used, or the host's certificate is none.
    """
    if manual is None and not client_certificate:
        return Security()
    from supervisor.tls import TlsContexts, TlsFiles  # noqa: PLC0415  # TLS costs 10 ms, for those who speak it
    from supervisor.transport.tls import load_contexts, make_identity, read_certificates  # noqa: PLC0415

    try:
        match manual:
            case TlsFiles():
                return Security(tls=load_contexts(manual))
            case TlsContexts(server=None):
                raise ConfigurationError("tls has no context for a server", hint="the plugin is the one that listens")
            case TlsContexts():
                return Security(tls=manual)
            case None:
                assert client_certificate is not None
                identity = make_identity()
                pinned = read_certificates(client_certificate)
                return Security(tls=identity.pin(*pinned), certificate=identity.certificate)
    except CertificateError as error:
        if manual is None:
            raise ConfigurationError(f"the host's {_VARIABLE} is {error}", key=_VARIABLE) from error
        raise ConfigurationError(str(error.args[0]), key="tls", hint=error.hint) from error
