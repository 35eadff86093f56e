"""Identities and contexts: the recipe, what is trusted, and that no key is left anywhere."""

from __future__ import annotations

import dataclasses
import os
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from certificates import Authority, make_go_identity
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from supervisor.errors import CertificateError
from supervisor.transport.tls import load_contexts, make_identity, read_certificates

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_certificate_follows_the_recipe() -> None:
    """P-256, self-signed, for `localhost` in both roles, from half a minute ago for thirty years; Go and OpenSSL take it."""
    certificate = x509.load_der_x509_certificate(make_identity().certificate)
    now = datetime.now(UTC)

    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert certificate.issuer == certificate.subject
    assert abs(now - timedelta(seconds=30) - certificate.not_valid_before_utc) < timedelta(seconds=5)
    assert certificate.not_valid_after_utc - now > timedelta(days=29 * 365)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (authority.critical, authority.value.ca) == (True, True)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert usage.value.key_encipherment
    assert usage.value.key_agreement
    assert usage.value.key_cert_sign


def test_two_identities_have_nothing_in_common() -> None:
    """Each life has its own key and serial number."""
    one, other = (x509.load_der_x509_certificate(make_identity().certificate) for _ in range(2))

    assert one.serial_number != other.serial_number
    assert one.public_key() != other.public_key()


def test_identity_does_not_show_its_key() -> None:
    """Neither its repr nor that of the contexts ends up in a log with more than a name."""
    identity = make_identity()

    assert repr(identity) == "Identity()"
    assert "PRIVATE KEY" not in identity.pem
    assert "pinned" not in repr(identity.pin(identity.certificate))


def test_certificates_of_a_pem_text_are_all_read() -> None:
    """As go-plugin's pool takes every certificate of `PLUGIN_CLIENT_CERT`, whatever stands between them."""
    one, other = make_identity(), make_go_identity()

    assert read_certificates(f"\n{one.pem}\nsome text\n{other.pem}") == (one.certificate, other.certificate)


@pytest.mark.parametrize(
    "text", ["", "junk", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----", "-----BEGIN CERTIFICATE-----"]
)
def test_text_that_holds_no_certificate_is_refused(text: str) -> None:
    """An unparsable value is said to be one; go-plugin logs it and fails every connection."""
    with pytest.raises(CertificateError):
        make_identity().pin(*read_certificates(text))


@pytest.mark.parametrize("junk", [b"", b"junk", b"\x30\x82\x01\x00", make_go_identity().certificate[:-1]])
def test_what_is_pinned_must_be_a_certificate(junk: bytes) -> None:
    """Bytes that are none are refused before anything is dialled."""
    with pytest.raises(CertificateError, match="not a certificate"):
        make_identity().pin(junk)


def test_contexts_are_strict() -> None:
    """TLS 1.2 at least, a certificate demanded in both roles, and no session to resume without one."""
    identity = make_identity()
    tls = identity.pin(identity.certificate)
    assert tls.client is not None
    assert tls.server is not None
    for context in (tls.client, tls.server):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert ssl.OP_NO_TICKET in context.options
        assert [found["subject"] for found in context.get_ca_certs()] == [
            ((("organizationName", "plugin-supervisor"),), (("commonName", "localhost"),))
        ]
    assert tls.server.num_tickets == 0


@pytest.mark.parametrize("memory_files", [True, False])
def test_no_key_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory_files: bool) -> None:
    """With files in memory and without, the key is in no directory afterwards, and in none but a private one before."""
    if not memory_files:
        monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    loaded: list[tuple[int, int]] = []
    real = ssl.SSLContext.load_cert_chain

    def load(context: ssl.SSLContext, path: str) -> None:
        loaded.append((os.stat(path).st_mode & 0o077, len(list(tmp_path.iterdir()))))
        real(context, path)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load)
    identity = make_identity()
    identity.pin(identity.certificate)

    if memory_files:
        assert [files for _, files in loaded] == [0, 0]
    else:
        assert loaded == [(0, 1), (0, 1)]
    assert list(tmp_path.iterdir()) == []


def test_the_applications_files_are_loaded_for_both_roles(tmp_path: Path) -> None:
    """A host is the server of brokered connections."""
    files = dataclasses.replace(Authority(tmp_path).issue("host"), server_name="elsewhere")
    tls = load_contexts(files)

    assert (tls.client is not None, tls.server is not None) == (True, True)
    assert (tls.server_name, tls.pinned) == ("elsewhere", ())


@pytest.mark.parametrize("name", ["certificate", "key", "authority"])
@pytest.mark.parametrize("wrong", ["missing", "junk", "of another"])
def test_file_that_cannot_be_used_is_named(tmp_path: Path, name: str, wrong: str) -> None:
    """The error says which file; it never waits for a password on the terminal."""
    files = Authority(tmp_path).issue("host", password=b"secret" if wrong == "of another" and name == "key" else None)
    path = tmp_path / "wrong"
    if wrong == "junk":
        path.write_text("junk")
    elif wrong == "of another":
        (tmp_path / "other").mkdir()
        other = Authority(tmp_path / "other").issue("host")
        path.write_bytes(Path(files.key if name == "key" else other.key).read_bytes())
    with pytest.raises(CertificateError, match=str(path)) as caught:
        load_contexts(dataclasses.replace(files, **{name: str(path)}))

    assert caught.value.hint is not None
    assert isinstance(caught.value.__cause__, OSError)


def test_cryptography_is_loaded_by_the_first_identity() -> None:
    """Contexts alone, and a server without TLS, do without it: it costs a start 30 ms."""
    code = (
        "import sys, supervisor.transport.server, supervisor.transport.tls as tls\n"
        "print('cryptography' in sys.modules, tls.make_identity() and 'cryptography' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.split() == ["False", "True"]
