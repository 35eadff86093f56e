"""Certificates and contexts: throw-away identities for AutoMTLS, and the application's own for manual TLS.

AutoMTLS as hashicorp/go-plugin has it: each side makes a certificate for one life, tells the other by a private way
(`PLUGIN_CLIENT_CERT`, the handshake's fifth field) and trusts exactly what it was told. A certificate serves both roles,
since in brokered connections the host is the server.
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from supervisor.errors import CertificateError
from supervisor.tls import TlsContexts, TlsFiles

__all__ = ["ALPN", "Identity", "load_contexts", "make_identity", "read_certificates"]

ALPN: Final = "h2"
"""What both sides must agree on; grpc-go has refused peers without it since 1.67."""

_BACKDATED: Final = timedelta(seconds=30)
"""For clocks that differ a little, as containers' may."""

_VALID_FOR: Final = timedelta(hours=262_980)
"""Thirty years, as go-plugin's: a certificate ends with the life it was made for, not with a date."""

_PEM: Final = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Identity:
    """A throw-away certificate and its private key, which is nowhere but in this process's memory.

    Drop it once it is pinned: the contexts hold what they need.

    Attributes:
        certificate: the certificate as DER.
    """

    certificate: bytes = field(repr=False)
    _key: bytes = field(repr=False)

    @property
    def pem(self) -> str:
        """The certificate as PEM, as `PLUGIN_CLIENT_CERT` carries it."""
        return ssl.DER_cert_to_PEM_cert(self.certificate)

    def pin(self, *certificates: bytes) -> TlsContexts:
        """Return contexts for both roles in which this side shows its certificate and trusts these, as DER, alone.

        Raises:
            CertificateError: what is to be trusted is not a certificate.
        """
        client, server = _new_context(ssl.PROTOCOL_TLS_CLIENT), _new_context(ssl.PROTOCOL_TLS_SERVER)
        # The very certificate is compared after the handshake, which says more than the name in it.
        client.check_hostname = False
        with _readable(self.pem.encode() + self._key) as path:
            for context in (client, server):
                context.load_cert_chain(path)
                _trust(context, certificates)
        return TlsContexts(client=client, server=server, pinned=certificates)


def make_identity() -> Identity:
    """Make a certificate by go-plugin's recipe, on P-256: it is faster than P-521, and BoringSSL can verify it."""
    # Only here, and so only with AutoMTLS: it costs a plugin's start 30 ms and 9 MiB.
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "plugin-supervisor"),
            x509.NameAttribute(NameOID.COMMON_NAME, "localhost"),
        ]
    )
    now = datetime.now(UTC)
    both_roles = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    usage = x509.KeyUsage(
        digital_signature=True, key_encipherment=True, key_agreement=True, key_cert_sign=True,
        content_commitment=False, data_encipherment=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _VALID_FOR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(both_roles), critical=False)
        # Go looks for the name here and nowhere else.
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Identity(
        certificate.public_bytes(serialization.Encoding.DER),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        ),
    )


def read_certificates(pem: str) -> tuple[bytes, ...]:
    """Return the certificates of a PEM text as DER.

    Raises:
        CertificateError: there is none, or one is not base64.
    """
    try:
        found = tuple(map(ssl.PEM_cert_to_DER_cert, _PEM.findall(pem)))
    except ValueError as error:
        raise CertificateError(f"not a certificate in PEM: {error}", phase="handshake") from error
    if not found:
        raise CertificateError("not a certificate in PEM", phase="handshake")
    return found


def load_contexts(files: TlsFiles) -> TlsContexts:
    """Return contexts for both roles made of the application's files.

    Raises:
        CertificateError: a file cannot be read or used; `__cause__` is an OSError with its number.
    """
    contexts = _new_context(ssl.PROTOCOL_TLS_CLIENT), _new_context(ssl.PROTOCOL_TLS_SERVER)
    for context in contexts:
        try:
            what, path = "authority", files.authority
            context.load_verify_locations(path)
            what, path = "certificate or key", f"{files.certificate}, {files.key}"
            # A key with a password would otherwise be asked for on the terminal.
            context.load_cert_chain(files.certificate, files.key, password=bytes)
        except OSError as error:  # ssl.SSLError is one
            reason = getattr(error, "reason", None) or error.strerror or str(error)
            raise CertificateError(
                f"tls {what} ({path}) cannot be used: {reason}",
                phase="launch",
                hint="PEM files are needed, and a key without a password that belongs to the certificate",
            ) from error
    return TlsContexts(client=contexts[0], server=contexts[1], server_name=files.server_name)


def _new_context(protocol: ssl._SSLMethod) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN])
    # Nobody resumes: a connection lasts for a life, and every one is to show its certificate.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    if protocol is ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    return context


def _trust(context: ssl.SSLContext, certificates: tuple[bytes, ...]) -> None:
    # A peer's certificate is an anchor by itself, whoever has signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for certificate in certificates:
        try:
            context.load_verify_locations(cadata=certificate)
        except (ssl.SSLError, ValueError) as error:
            reason = str(getattr(error, "reason", None) or error).replace("_", " ").lower()
            raise CertificateError(f"not a certificate: {reason}", phase="handshake") from error


@contextlib.contextmanager
def _readable(secret: bytes) -> Iterator[str]:
    """Give `secret` a path while the body runs: OpenSSL, as Python has it, loads keys from files only.

    On Linux it is a file in memory that no other process has a path to; elsewhere one of ours in a directory of ours.
    """
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        descriptor = os.memfd_create("identity", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, secret)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory(prefix="plugin") as directory:  # 0700
        path = Path(directory) / "identity"
        path.touch(0o600)
        path.write_bytes(secret)
        yield str(path)
