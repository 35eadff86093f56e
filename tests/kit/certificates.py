"""Certificates that the library would not make: on other curves, for other names, out of date, signed by others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from supervisor.tls import TlsFiles
from supervisor.transport.tls import Identity

__all__ = ["Authority", "make_go_identity", "make_key", "reissue"]


def make_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    """Make a private key, on P-256 unless told otherwise."""
    return ec.generate_private_key(curve or ec.SECP256R1())


def key_to_pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    """Return a key as PEM."""
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def sign(
    key: ec.EllipticCurvePrivateKey,
    *,
    signer: ec.EllipticCurvePrivateKey | None = None,
    issuer: str = "localhost",
    name: str = "localhost",
    ca: bool = True,
    days: int = 1,
) -> bytes:
    """Return a certificate for `key` as DER, signed by itself unless told otherwise; it began two days ago."""
    begin = datetime.now(UTC) - timedelta(days=2)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=2 + days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(signer or key, hashes.SHA512())
        .public_bytes(serialization.Encoding.DER)
    )


def make_go_identity(*, days: int = 1) -> Identity:
    """Make an identity on P-521, as go-plugin's are."""
    key = make_key(ec.SECP521R1())
    return Identity(sign(key, days=days), key_to_pem(key))


def reissue(identity: Identity) -> Identity:
    """Return another certificate for the key of an identity: whoever trusts the first finds it valid."""
    key = serialization.load_pem_private_key(identity._key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Identity(sign(key), identity._key)


class Authority:
    """Signs certificates, and writes what each side needs into files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = make_key()
        self._write("authority.pem", sign(self._key, issuer="authority", name="authority"))

    def issue(self, side: str, *, name: str = "localhost", days: int = 1, password: bytes | None = None) -> TlsFiles:
        """Return the files of one side."""
        key = make_key()
        self._write(f"{side}.pem", sign(key, signer=self._key, issuer="authority", name=name, ca=False, days=days))
        (self._folder / f"{side}.key").write_bytes(key_to_pem(key, password))
        return TlsFiles(
            certificate=str(self._folder / f"{side}.pem"),
            key=str(self._folder / f"{side}.key"),
            authority=str(self._folder / "authority.pem"),
        )

    def _write(self, name: str, certificate: bytes) -> None:
        pem = x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM)
        (self._folder / name).write_bytes(pem)
