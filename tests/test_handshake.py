"""The handshake line: what is accepted, what each wrong field says, and that chunks make no difference."""

import base64
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor.address import TcpAddress, UnixAddress
from supervisor.errors import ConfigurationError, HandshakeError, VersionMismatchError
from supervisor.handshake import (
    MAX_LINE,
    MAX_NOISE_LINES,
    Handshake,
    HandshakeReader,
    format_handshake,
    format_versions,
    negotiate,
    parse_handshake,
    require_multiplexing,
)
from supervisor.quoting import escape_text

DER = bytes(range(256)) * 2
CERTIFICATE = base64.b64encode(DER).decode().rstrip("=")
STORE = UnixAddress("/tmp/plugin/s")
LINE = b"1|1|unix|/tmp/plugin/s|grpc\n"


def parse(text: str | bytes, *versions: int) -> Handshake:
    """Parse one line for a host that accepts `versions`."""
    return parse_handshake(text if isinstance(text, bytes) else text.encode(), versions=versions or (1,))


def read(chunks: Sequence[bytes]) -> tuple[str, list[str], bytes]:
    """Run a reader over `chunks` and return its outcome, its noise and what was left over."""
    reader = HandshakeReader(versions=(1,))
    for index, chunk in enumerate(chunks):
        try:
            found = reader.feed(chunk)
        except HandshakeError as error:
            return str(error), reader.noise, b""
        if found is not None:
            return repr(found), reader.noise, reader.leftover + b"".join(chunks[index + 1 :])
    with pytest.raises(HandshakeError) as caught:
        reader.feed_eof()
    return str(caught.value), reader.noise, b""


@pytest.mark.parametrize(
    "line", ["1|1|unix|/tmp/plugin/s|grpc", "1|1|unix|/tmp/plugin/s|grpc|", " 1|1|unix|/tmp/plugin/s|grpc \r\n"]
)
def test_five_fields_and_the_bare_bar_of_go_plugins_are_one_handshake(line: str) -> None:
    """Old and new plugins without TLS, and CRLF line ends, say the same."""
    assert parse(line) == Handshake(core_version=1, version=1, address=STORE, protocol="grpc")


def test_all_seven_fields_are_read() -> None:
    """A certificate is decoded to DER and the multiplex field to a boolean."""
    shaken = parse(f"1|3|tcp|127.0.0.1:1234|grpc|{CERTIFICATE}|true", 2, 3)

    assert shaken.version == 3
    assert shaken.address == TcpAddress("127.0.0.1", 1234)
    assert shaken.certificate == DER
    assert shaken.multiplex is True


@pytest.mark.parametrize(("text", "meaning"), [("T", True), ("0", False), ("False", False), ("", None)])
def test_multiplex_takes_the_booleans_of_go(text: str, meaning: bool | None) -> None:
    """Go's spellings are taken; an empty field says nothing."""
    assert parse(f"1|1|unix|/s|grpc||{text}").multiplex is meaning


@pytest.mark.parametrize(
    ("end", "hint"), [("", "update the github.com/hashicorp/go-plugin"), ("||false", "leave `multiplex` off")]
)
def test_plugin_that_cannot_multiplex_is_refused_by_a_host_that_asked(end: str, hint: str) -> None:
    """In go-plugin's words; the hint tells an old plugin, which says nothing, from one that says no."""
    with pytest.raises(HandshakeError) as caught:
        require_multiplexing(parse(f"1|1|unix|/s|grpc{end}"))

    assert caught.value.field == "multiplex"
    assert caught.value.args == ("client requested gRPC broker multiplexing but plugin does not support the feature",)
    assert hint in (caught.value.hint or "")
    require_multiplexing(parse("1|1|unix|/s|grpc||true"))


def test_a_short_fifth_field_is_ignored() -> None:
    """Early plugins put something else there, and hosts have always passed over up to 50 characters."""
    assert parse("1|1|unix|/s|grpc|" + "*" * 50).certificate is None


@pytest.mark.parametrize(
    ("line", "field", "said"),
    [
        ("1|1|unix|/s", "protocol", 'unsupported plugin protocol "netrpc". Supported: [grpc]'),
        ("1|1|unix|/s|http", "protocol", 'unsupported plugin protocol "http". Supported: [grpc]'),
        ("", None, "1 fields instead of 4 to 7"),
        ("1|1|unix", None, "3 fields instead of 4 to 7"),
        ("1|1|unix|/s|grpc|||", None, "8 fields instead of 4 to 7"),
        ("one|1|unix|/s|grpc", "core_version", "core protocol version 'one' is not a number"),
        ("-1|1|unix|/s|grpc", "core_version", "'-1'"),
        ("+1|1|unix|/s|grpc", "core_version", "'+1'"),
        ("１|1|unix|/s|grpc", "core_version", "is not a number"),  # noqa: RUF001 - a full-width digit is the point
        ("1| 1|unix|/s|grpc", "version", "' 1'"),
        ("1|1_0|unix|/s|grpc", "version", "'1_0'"),
        ("1|1234567890|unix|/s|grpc", "version", "up to 9 digits"),
        ("1||unix|/s|grpc", "version", "''"),
        ("1|1|unixgram|/s|grpc", "network", "unknown network 'unixgram'"),
        ("1|1|unix|s|grpc", "address", "is not absolute"),
        ("1|1|tcp|10.0.0.1:80|grpc", "address", "is not on the loopback"),
        ("1|1|unix|/s|grpc|" + "A" * 50 + "=", "certificate", "is not unpadded base64"),
        ("1|1|unix|/s|grpc|" + "é" * 60, "certificate", "is not unpadded base64"),
        ("1|1|unix|/s|grpc|" + "A" * 53, "certificate", "is not base64"),
        ("1|1|unix|/s|grpc||maybe", "multiplex", 'error parsing "maybe" as a boolean'),
        ("1|1|unix|/s|grpc||TRue", "multiplex", 'error parsing "TRue" as a boolean'),
    ],
)
def test_each_wrong_field_is_named(line: str, field: str | None, said: str) -> None:
    """The error names the field and quotes what was found."""
    with pytest.raises(HandshakeError) as caught:
        parse(line)

    assert caught.value.field == field
    assert caught.value.phase == "handshake"
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("line", "field", "spoken", "accepted"),
    [("2|1|unix|/s|grpc", "core_version", 2, (1,)), ("1|7|unix|/s|grpc", "version", 7, (2, 3))],
)
def test_a_version_mismatch_carries_both_sides(line: str, field: str, spoken: int, accepted: tuple[int, ...]) -> None:
    """The message shows the plugin's and the host's versions, the fields carry them, and a hint says what to do."""
    with pytest.raises(VersionMismatchError) as caught:
        parse(line, 3, 2)

    error = caught.value
    assert (error.field, error.spoken, error.accepted) == (field, spoken, accepted)
    assert f"Plugin version: {spoken}" in str(error)
    assert error.hint


def test_foreign_text_in_an_error_is_escaped_and_short() -> None:
    """A plugin cannot move the terminal's cursor or fill the log through an error message."""
    with pytest.raises(HandshakeError) as caught:
        parse(b"1|1|unix|\x1b[2Jx\xff" + b"y" * 9_000 + b"|grpc")

    assert "\x1b" not in str(caught.value)
    assert "\\x1b[2Jx" in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_huge_line_is_refused_before_it_is_split() -> None:
    """Also the plain parser takes no more than a line's worth."""
    with pytest.raises(HandshakeError, match="more than 16384 bytes"):
        parse(b"1|1|unix|/s|grpc|" + b"A" * MAX_LINE)


def test_the_reader_skips_noise_and_keeps_what_follows() -> None:
    """Banners and blank lines come before, the plugin's own output after, and neither is lost."""
    reader = HandshakeReader(versions=(1,))

    assert reader.feed(b"\nLoading model \x1b[1m...\r\n\n1|1|un") is None
    found = reader.feed(b"ix|/tmp/plugin/s|grpc\r\nafter")

    assert found == Handshake(version=1, address=STORE)
    assert reader.noise == ["Loading model \\x1b[1m..."]
    assert reader.leftover == b"after"


@pytest.mark.parametrize(
    "line", [b"\xef\xbb\xbf1|1|unix|/s|grpc\n", b"Ready!1|1|unix|/s|grpc\n", b"+1|1|tcp|127.0.0.1:1|grpc\n"]
)
def test_a_handshake_with_something_in_front_is_an_error_at_once(line: bytes) -> None:
    """A byte order mark or a banner without a newline would else end in a timeout that explains nothing."""
    with pytest.raises(HandshakeError) as caught:
        HandshakeReader(versions=(1,)).feed(line)

    assert caught.value.field == "core_version"


def test_the_kept_noise_is_bounded() -> None:
    """Many short lines are counted against the cap, and only the first are kept."""
    reader = HandshakeReader(versions=(1,))

    reader.feed(b"".join(b"line %d\n" % number for number in range(1000)))

    assert len(reader.noise) == MAX_NOISE_LINES
    assert reader.noise[0] == "line 0"
    with pytest.raises(HandshakeError, match="bytes of noise"):
        reader.feed(b"noise\n" * MAX_LINE)


def test_an_endless_line_is_refused_and_forgotten() -> None:
    """100 MB without a newline cost no more than one chunk."""
    reader = HandshakeReader(versions=(1,))

    for _ in range(MAX_LINE // 1024):
        reader.feed(b"x" * 1024)
    with pytest.raises(HandshakeError, match="more than 16384 bytes"):
        reader.feed(b"x")

    assert len(reader._partial) == 0


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "stdout ended without a handshake"),
        (b"1|1|unix|/tm\x00", "in the middle of a line: '1|1|unix|/tm\\x00'"),
        (b"usage: tool [-h]\n", "stdout ended without a handshake, after 'usage: tool [-h]'"),
    ],
)
def test_the_end_of_stdout_quotes_what_there_was(sent: bytes, said: str) -> None:
    """Half a line, noise and silence are told apart."""
    reader = HandshakeReader(versions=(1,))
    reader.feed(sent)

    with pytest.raises(HandshakeError) as caught:
        reader.feed_eof()

    assert said in str(caught.value)


def test_a_reader_serves_one_handshake() -> None:
    """A second handshake line cannot redirect the host: the spent reader refuses to be fed."""
    reader = HandshakeReader(versions=(1,))
    assert reader.feed(LINE)

    with pytest.raises(RuntimeError, match="spent"):
        reader.feed(b"1|1|unix|/tmp/other|grpc\n")
    with pytest.raises(RuntimeError, match="spent"):
        reader.feed_eof()


@st.composite
def chunkings(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream of noise, perhaps a handshake and more bytes, and one way to cut it into chunks."""
    pieces = st.one_of(
        st.binary(max_size=40),
        st.sampled_from([LINE, b"\n", b"noise\r\n", b"2|1|unix|/s|grpc\n", b"1|1|unix|", b"x" * 9000, b"x" * 17000]),
    )
    data = b"".join(draw(st.lists(pieces, max_size=6)))
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    edges = [0, *cuts, len(data)]
    return data, [data[a:b] for a, b in pairwise(edges)]


@given(chunkings())
def test_any_chunking_gives_the_same_result(case: tuple[bytes, list[bytes]]) -> None:
    """Where the pipe cuts the stream changes neither the outcome nor the noise nor the leftover."""
    data, chunks = case
    assert read(chunks) == read([data])


@given(st.one_of(st.binary(max_size=200), st.text("|0123456789unixtcpgr/.:AZ=\r é", max_size=120).map(str.encode)))
@example(b"1|1|unix|/\xff|grpc")
@example(b"1|1|tcp|[::1%\x1b]:1|grpc")
def test_garbage_only_ever_gives_a_handshake_error(line: bytes) -> None:
    """No other exception leaves the parser, and no control character leaves in a message."""
    said = ""
    try:
        parse_handshake(line, versions=(1,))
    except HandshakeError as error:
        said = str(error)

    assert escape_text(said) == said


ADDRESSES = st.one_of(
    st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="._- "), min_size=1, max_size=60)
    .filter(lambda name: ".." not in name)
    .map(lambda name: UnixAddress(f"/run/{name.strip()}/s")),
    st.builds(TcpAddress, st.sampled_from(["127.0.0.1", "::1"]), st.integers(1, 65535)),
)


@given(
    version=st.integers(0, 999_999_999),
    address=ADDRESSES,
    certificate=st.none() | st.binary(min_size=38, max_size=900),
    multiplex=st.none() | st.booleans(),
)
def test_what_is_formatted_parses_back(
    version: int, address: UnixAddress | TcpAddress, certificate: bytes | None, multiplex: bool | None
) -> None:
    """The plugin's formatter and the host's parser agree on every line."""
    line = format_handshake(version=version, address=address, certificate=certificate, multiplex=multiplex)

    assert parse(line, version) == Handshake(
        version=version, address=address, certificate=certificate, multiplex=multiplex
    )


def test_fields_that_nobody_asked_for_are_left_out() -> None:
    """A Go host without TLS crashes on a certificate, and an old one on the multiplex field."""
    assert format_handshake(version=1, address=STORE) == "1|1|unix|/tmp/plugin/s|grpc\n"
    assert format_handshake(version=1, address=STORE, multiplex=False) == "1|1|unix|/tmp/plugin/s|grpc||false\n"


@pytest.mark.parametrize("path", ["/tmp/a|b", "/tmp/a\nb", "/tmp/a ", "/tmp/a\r", "/tmp/\0"])
def test_an_address_that_would_break_the_line_is_refused(path: str) -> None:
    """Better no handshake than one that names another socket."""
    with pytest.raises(ConfigurationError):
        format_handshake(version=1, address=UnixAddress(path))


@pytest.mark.parametrize("version", [-1, 10**9])
def test_a_version_that_no_host_reads_is_refused(version: int) -> None:
    """The formatter keeps to what the parser takes."""
    with pytest.raises(ConfigurationError):
        format_handshake(version=version, address=STORE)


@pytest.mark.parametrize(
    ("own", "offered", "chosen"),
    [
        ((1, 2, 3), "1,2", 2),
        ((3, 1), "1,3,9", 3),
        ((2, 3), "1", 2),
        ((2, 3), "", 2),
        ((1, 2), "x,2, 1 ,１", 2),  # noqa: RUF001 - a full-width digit is the point
        ((0,), "0", 0),
    ],
)
def test_the_highest_common_version_wins(own: tuple[int, ...], offered: str, chosen: int) -> None:
    """Without a common one the plugin says its lowest and lets the host refuse."""
    assert negotiate(own, offered) == chosen


def test_a_plugin_without_versions_cannot_negotiate() -> None:
    """An empty set is the author's mistake."""
    with pytest.raises(ConfigurationError):
        negotiate((), "1")


@given(st.sets(st.integers(0, 999_999_999), min_size=1))
def test_offered_versions_are_understood(versions: set[int]) -> None:
    """What the host writes into the environment is what the plugin reads from it."""
    assert negotiate(versions, format_versions(versions)) == max(versions)
