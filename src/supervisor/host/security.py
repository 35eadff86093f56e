"""Whether and how one life speaks TLS: what the plugin is told before its launch, and what its handshake then makes of it."""

from __future__ import annotations

import errno

from supervisor.address import Address, TcpAddress
from supervisor.errors import CertificateError, ConnectError, HandshakeError, LaunchError
from supervisor.spec import PluginSpec
from supervisor.tls import TlsContexts, TlsFiles
from supervisor.transport.tls import Identity, load_contexts, make_identity

__all__ = ["Security"]


class Security:
    """The TLS of one life: manual if the specification has `tls`, else AutoMTLS if it has that, else none."""

    def __init__(self, spec: PluginSpec) -> None:
        self._spec = spec
        self._identity: Identity | None = None
        self._manual: TlsContexts | None = None

    def variables(self) -> dict[str, str]:
        """Make a certificate for this life, or read the application's; return what the plugin is told of it.

        Raises:
            LaunchError: the application's cannot be read or used.
        """
        match self._spec.tls:
            case TlsFiles() as files:
                self._manual = _load(files, self._spec.name)
            case TlsContexts() as contexts:
                self._manual = contexts
            case None if self._spec.auto_mtls:
                self._identity = make_identity()
                return {"PLUGIN_CLIENT_CERT": self._identity.pem}
        return {}

    def settle(self, certificate: bytes | None, address: Address) -> TlsContexts | None:
        """Return the contexts for every connection of this life, None for plain text. The private key is let go of.

        Args:
            certificate: what the plugin announced, as DER.
            address: where it listens.

        Raises:
            HandshakeError: the plugin announced a certificate that it was not asked for, none though it was, or
                something else; or it can be reached by every user of the machine without TLS.
            ConnectError: this side's key could not be loaded, for want of descriptors or memory.
        """
        identity, self._identity = self._identity, None
        if identity is None and certificate is not None:
            raise HandshakeError(
                "announced a certificate that nobody asked for",
                field="certificate",
                hint="set auto_mtls = true if it is to speak TLS; otherwise look for a PLUGIN_CLIENT_CERT in its "
                "environment",
            )
        if identity is not None:
            return self._pin(identity, certificate)
        if self._manual is None and isinstance(address, TcpAddress) and not self._spec.insecure:
            raise HandshakeError(
                f"listens at {address} without TLS, where every user of this machine can connect",
                field="network",
                hint="set auto_mtls = true, or insecure = true if that is meant",
            )
        return self._manual

    def _pin(self, identity: Identity, certificate: bytes | None) -> TlsContexts:
        if certificate is None:
            raise HandshakeError(
                "was asked for AutoMTLS and announced no certificate",
                field="certificate",
                hint="set auto_mtls = false, or serve it with an SDK that knows AutoMTLS",
            )
        try:
            return identity.pin(certificate)
        except CertificateError as error:
            raise HandshakeError(f"error parsing server cert: {error}", field="certificate") from error
        except OSError as error:
            raise ConnectError(f"TLS cannot be set up: {error.strerror or error}", phase="connect") from error


def _load(files: TlsFiles, plugin: str) -> TlsContexts:
    try:
        return load_contexts(files)
    except CertificateError as error:
        # A number says that no restart mends it; OpenSSL's are not the system's.
        cause = error.__cause__
        number = cause.errno if isinstance(cause, FileNotFoundError | PermissionError) else errno.EINVAL
        raise LaunchError(str(error.args[0]), errno=number, plugin=plugin, hint=error.hint) from error
