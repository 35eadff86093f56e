"""The handshake: the one line on stdout by which a plugin says where it listens and what it speaks.

    CORE-VERSION|VERSION|NETWORK|ADDRESS|PROTOCOL[|CERTIFICATE[|MULTIPLEX]]

as hashicorp/go-plugin defines it. Nothing here reads or writes: bytes go in, a value or a typed error comes out,
whatever the chunks look like, and what is kept is bounded.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

from supervisor.address import Address, TcpAddress, UnixAddress, parse_address
from supervisor.errors import ConfigurationError, HandshakeError, VersionMismatchError
from supervisor.quoting import quote_text

__all__ = [
    "COOKIE_KEY",
    "COOKIE_VALUE",
    "CORE_VERSION",
    "MAX_LINE",
    "MAX_NOISE_LINES",
    "Handshake",
    "HandshakeReader",
    "format_handshake",
    "format_versions",
    "negotiate",
    "parse_boolean",
    "parse_handshake",
    "require_multiplexing",
]

COOKIE_KEY = "SUPERVISOR_PLUGIN"
COOKIE_VALUE = "3f0c7a1e-6d58-4b5f-9a53-0a3f7f6a2d11"
"""The magic cookie of hosts and plugins that choose none; see `spec.MagicCookie`."""

CORE_VERSION = 1
"""The only version of go-plugin's core protocol there has ever been."""

MAX_LINE = 16 * 1024
"""Longest line, and most noise before it, in bytes; a P-521 certificate makes a line of about 900."""

MAX_NOISE_LINES = 64
"""Lines of noise that are kept to be shown."""

_FIELDS = range(4, 8)
_INTEGER = "[0-9]{1,9}"
_BASE64 = "[A-Za-z0-9+/]+"
# Go's strconv.ParseBool.
_BOOLEANS = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True) | dict.fromkeys(
    ("0", "f", "F", "FALSE", "false", "False"), False
)
# go-plugin ignores a field 5 of up to 50 characters: early plugins put other things there.
_IGNORED_CERTIFICATE = 50
# Digits and a bar, or anything with `unix` or `tcp` in the third place: a banner without a newline, a byte order mark
# or a sign in front of a handshake is worth an error now, not a timeout later.
_LOOKS_LIKE_HANDSHAKE = rb"[0-9]+\||[^|]*\|[^|]*\|(?:unix|tcp)\|"
_BLANKS = b" \t\r\n"
_STRAY_OUTPUT = "the handshake must be the first thing on the plugin's stdout; print to stderr instead"


class Handshake(NamedTuple):
    """What a plugin said.

    Attributes:
        version: the version of the application's protocol that the plugin settled on.
        address: where it listens.
        core_version: the version of the core protocol, always 1.
        protocol: the RPC protocol, always `grpc`.
        certificate: its leaf certificate as DER, when it speaks TLS.
        multiplex: whether it can multiplex broker connections; None when it did not say.
    """

    version: int
    address: Address
    core_version: int = CORE_VERSION
    protocol: str = "grpc"
    certificate: bytes | None = None
    multiplex: bool | None = None


def parse_handshake(line: bytes, *, versions: tuple[int, ...]) -> Handshake:
    """Parse a whole line, with or without its newline.

    Blanks around the line are trimmed, inside it nothing is. Rules and texts follow go-plugin's host where it has them.

    Args:
        line: the bytes of the line.
        versions: the versions of the application's protocol that this host accepts.

    Raises:
        VersionMismatchError: the plugin speaks another core version, or an application version not in `versions`.
        HandshakeError: any other field, or their number, is wrong; `field` says which.
    """
    if len(line) > MAX_LINE:
        raise _too_long(line)
    fields = line.strip(_BLANKS).decode("utf-8", "surrogateescape").split("|")
    if len(fields) not in _FIELDS:
        raise HandshakeError(
            f"unrecognized plugin message {quote_text(line)}: {len(fields)} fields instead of 4 to 7",
            hint="is this program a plugin?",
        )
    core, version, network, address, *rest = fields
    return Handshake(
        core_version=_parse_core_version(core),
        version=_parse_version(version, versions),
        address=parse_address(network, address),
        protocol=_parse_protocol(rest[0] if rest else "netrpc"),
        certificate=_parse_certificate(rest[1]) if len(rest) > 1 else None,
        multiplex=_parse_multiplex(rest[2]) if len(rest) > 2 else None,  # noqa: PLR2004 - the seventh field
    )


def _parse_integer(text: str, *, field: str, what: str, hint: str | None = None) -> int:
    # int() would take signs, blanks, underscores and the digits of every script.
    if not re.fullmatch(_INTEGER, text):
        raise HandshakeError(f"{what} {quote_text(text)} is not a number of up to 9 digits", field=field, hint=hint)
    return int(text)


def _parse_core_version(text: str) -> int:
    spoken = _parse_integer(text, field="core_version", what="core protocol version", hint=_STRAY_OUTPUT)
    if spoken != CORE_VERSION:
        raise VersionMismatchError(
            f"incompatible core API version with plugin. Plugin version: {spoken}, Core version: {CORE_VERSION}",
            spoken=spoken,
            accepted=(CORE_VERSION,),
            field="core_version",
            hint="rebuild the plugin against a matching SDK",
        )
    return spoken


def _parse_version(text: str, versions: tuple[int, ...]) -> int:
    spoken = _parse_integer(text, field="version", what="protocol version")
    if spoken not in versions:
        accepted = " ".join(map(str, sorted(versions)))
        raise VersionMismatchError(
            f"incompatible API version with plugin. Plugin version: {spoken}, Client versions: [{accepted}]",
            spoken=spoken,
            accepted=tuple(sorted(versions)),
            field="version",
            hint=f"update the plugin, or add {spoken} to its versions if the host can speak it",
        )
    return spoken


def _parse_protocol(text: str) -> str:
    if text != "grpc":
        protocol = quote_text(text, mark='"')
        raise HandshakeError(
            f"unsupported plugin protocol {protocol}. Supported: [grpc]",
            field="protocol",
            hint="serve the plugin over gRPC",
        )
    return text


def _parse_certificate(text: str) -> bytes | None:
    if len(text) <= _IGNORED_CERTIFICATE:
        return None
    # Standard alphabet without padding: Go's base64.RawStdEncoding.
    if not re.fullmatch(_BASE64, text):
        raise HandshakeError(f"server certificate {quote_text(text)} is not unpadded base64", field="certificate")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise HandshakeError(f"server certificate is not base64: {error}", field="certificate") from error


def _parse_multiplex(text: str) -> bool | None:
    if not text:
        return None
    said_so = parse_boolean(text)
    if said_so is None:
        said = quote_text(text, mark='"')
        raise HandshakeError(
            f"error parsing {said} as a boolean for gRPC broker multiplexing support",
            field="multiplex",
        )
    return said_so


def parse_boolean(text: str) -> bool | None:
    """Return what Go's strconv.ParseBool does; None where it fails."""
    return _BOOLEANS.get(text)


def require_multiplexing(handshake: Handshake) -> None:
    """Refuse a plugin that cannot multiplex, for a host that asked it to.

    Raises:
        HandshakeError: it cannot, or does not say.
    """
    if not handshake.multiplex:
        raise HandshakeError(
            "client requested gRPC broker multiplexing but plugin does not support the feature",
            field="multiplex",
            hint=(
                "for Go plugins, update the github.com/hashicorp/go-plugin dependency and recompile"
                if handshake.multiplex is None
                else "leave `multiplex` off for this plugin"
            ),
        )


def _too_long(line: bytes) -> HandshakeError:
    return HandshakeError(f"line of more than {MAX_LINE} bytes on stdout: {quote_text(line)}", hint=_STRAY_OUTPUT)


class HandshakeReader:
    """Find the handshake in the chunks of a plugin's stdout.

    Lines before it that do not look like one are noise: the first of them are kept, escaped and shortened, in
    `noise`, to be warned about. A reader serves one handshake: after it has returned one or has raised, it is spent.

    Attributes:
        noise: what the plugin printed before the handshake, at most `MAX_NOISE_LINES` lines; blank ones are left out.
        leftover: the bytes that came after the handshake's newline, for whoever reads stdout next.
    """

    def __init__(self, *, versions: tuple[int, ...]) -> None:
        self.noise: list[str] = []
        self.leftover = b""
        self._versions = versions
        self._partial = bytearray()
        self._noise_size = 0
        self._spent = False

    def feed(self, chunk: bytes) -> Handshake | None:
        """Take the next chunk; return the handshake once its line is complete.

        Raises:
            HandshakeError: the line is wrong, it or the noise before it is longer than `MAX_LINE`.
            RuntimeError: the reader is spent.
        """
        self._check_usable()
        try:
            start = 0
            while (end := chunk.find(b"\n", start)) >= 0:
                self._partial += chunk[start:end]
                line = bytes(self._partial)
                self._partial.clear()
                start = end + 1
                if (found := self._take_line(line)) is not None:
                    self._spent = True
                    self.leftover = chunk[start:]
                    return found
            self._partial += chunk[start:]
            if len(self._partial) > MAX_LINE:
                raise _too_long(bytes(self._partial))
        except HandshakeError:
            self._spent = True
            self._partial.clear()
            raise
        return None

    def feed_eof(self) -> NoReturn:
        """Say that stdout has ended.

        A last line without a newline is not accepted, since half an address cannot be told from a whole one.

        Raises:
            HandshakeError: always; it quotes what there was.
            RuntimeError: the reader is spent.
        """
        self._check_usable()
        self._spent = True
        if self._partial:
            raise HandshakeError(f"stdout ended in the middle of a line: {quote_text(bytes(self._partial))}")
        if self.noise:
            raise HandshakeError(f"stdout ended without a handshake, after {self.noise[-1]!r}", hint=_STRAY_OUTPUT)
        raise HandshakeError("stdout ended without a handshake", hint="is this program a plugin?")

    def _check_usable(self) -> None:
        if self._spent:
            raise RuntimeError("this HandshakeReader is spent")

    def _take_line(self, line: bytes) -> Handshake | None:
        if len(line) > MAX_LINE:
            raise _too_long(line)
        text = line.strip(_BLANKS)
        if re.match(_LOOKS_LIKE_HANDSHAKE, text):
            return parse_handshake(text, versions=self._versions)
        self._noise_size += len(line) + 1
        if self._noise_size > MAX_LINE:
            raise HandshakeError(f"more than {MAX_LINE} bytes of noise before the handshake", hint=_STRAY_OUTPUT)
        if text and len(self.noise) < MAX_NOISE_LINES:
            self.noise.append(quote_text(text, limit=200, mark=""))
        return None


def format_handshake(
    *,
    version: int,
    address: UnixAddress | TcpAddress,
    certificate: bytes | None = None,
    multiplex: bool | None = None,
) -> str:
    r"""Return the line that a plugin prints, its newline included.

    Args:
        version: the version of the application's protocol, from `negotiate`.
        address: where the plugin listens.
        certificate: its leaf certificate as DER. Only when the host sent `PLUGIN_CLIENT_CERT`: a Go host without TLS
            dereferences nil on a certificate it did not ask for.
        multiplex: only when the host set `PLUGIN_MULTIPLEX_GRPC`: hosts before go-plugin 1.6.0 would take the field
            for a part of the certificate.

    Raises:
        ConfigurationError: the version or the address cannot be written into a line.
    """
    where = str(address)
    if not re.fullmatch(_INTEGER, str(version)):
        raise ConfigurationError(f"protocol version {version} is not a number of up to 9 digits")
    if set(where) & set("|\n\r\0") or where != where.strip():
        raise ConfigurationError(f"address {quote_text(where)} cannot be written into a handshake line")
    fields = [str(CORE_VERSION), str(version), address.network, where, "grpc"]
    if certificate is not None or multiplex is not None:
        fields.append(base64.b64encode(certificate or b"").decode("ascii").rstrip("="))
    if multiplex is not None:
        fields.append(str(multiplex).lower())
    return "|".join(fields) + "\n"


def format_versions(versions: Iterable[int]) -> str:
    """Return the value of `PLUGIN_PROTOCOL_VERSIONS`: what the host accepts, ascending."""
    return ",".join(map(str, sorted(set(versions))))


def negotiate(own: Iterable[int], offered: str) -> int:
    """Choose the plugin's version, as go-plugin does: the highest common one, else the plugin's own lowest.

    With nothing in common the host is left to refuse, since it can say so to somebody. Elements of `offered` that are
    not numbers are passed over.

    Args:
        own: the versions that the plugin can serve.
        offered: the value of `PLUGIN_PROTOCOL_VERSIONS`; empty from hosts that predate it.

    Raises:
        ConfigurationError: `own` is empty.
    """
    served = set(own)
    if not served:
        raise ConfigurationError("a plugin serves at least one version")
    wanted = {int(part) for part in map(str.strip, offered.split(",")) if re.fullmatch(_INTEGER, part)}
    return max(served & wanted, default=min(served))
