"""Where a plugin may listen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.address import MAX_SOCKET_PATH, MemoryAddress, TcpAddress, UnixAddress, parse_address
from supervisor.errors import HandshakeError
from supervisor.quoting import escape_text


@pytest.mark.parametrize(
    ("network", "text", "address"),
    [
        ("unix", "/run/p/s", UnixAddress("/run/p/s")),
        ("unix", "/run/with space/ü", UnixAddress("/run/with space/ü")),
        ("unix", "/" + "x" * (MAX_SOCKET_PATH - 1), UnixAddress("/" + "x" * (MAX_SOCKET_PATH - 1))),
        ("tcp", "127.0.0.1:1", TcpAddress("127.0.0.1", 1)),
        ("tcp", "127.1.2.3:65535", TcpAddress("127.1.2.3", 65535)),
        ("tcp", "[::1]:80", TcpAddress("::1", 80)),
    ],
)
def test_addresses_on_this_machine_are_taken_and_written_back(
    network: str, text: str, address: UnixAddress | TcpAddress
) -> None:
    """What is parsed is written the same way."""
    parsed = parse_address(network, text)

    assert parsed == address
    assert parsed.network == network
    assert str(parsed) == text


@pytest.mark.parametrize(
    ("network", "text", "field"),
    [
        ("udp", "127.0.0.1:1", "network"),
        ("", "", "network"),
        ("UNIX", "/s", "network"),
        ("memory", "x", "network"),
        ("unix", "", "address"),
        ("unix", "s", "address"),
        ("unix", "@abstract", "address"),
        ("unix", "\0abstract", "address"),
        ("unix", "/a\0b", "address"),
        ("unix", "/run/../etc/s", "address"),
        ("unix", "/run/..", "address"),
        ("unix", "/" + "x" * MAX_SOCKET_PATH, "address"),
        ("unix", "/" + "é" * 60, "address"),
        ("tcp", "127.0.0.1", "address"),
        ("tcp", ":80", "address"),
        ("tcp", "localhost:80", "address"),
        ("tcp", "0.0.0.0:80", "address"),
        ("tcp", "10.0.0.1:80", "address"),
        ("tcp", "[::]:80", "address"),
        ("tcp", "[::1%lo]:80", "address"),
        ("tcp", "127.0.0.1:0", "address"),
        ("tcp", "127.0.0.1:65536", "address"),
        ("tcp", "127.0.0.1:-1", "address"),
        ("tcp", "127.0.0.1: 1", "address"),
        ("tcp", "127.0.0.1:１", "address"),  # noqa: RUF001 - a full-width digit is the point
        ("tcp", "127.0.0.1:" + "1" * 5000, "address"),
    ],
)
def test_any_other_address_is_refused(network: str, text: str, field: str) -> None:
    """Relative, abstract, climbing, too long, remote, named, scoped, and what is no address at all."""
    with pytest.raises(HandshakeError) as caught:
        parse_address(network, text)

    assert caught.value.field == field
    assert len(str(caught.value)) < 250


@given(st.sampled_from(["unix", "tcp", "x"]), st.text() | st.from_regex(r"\[?[0-9.:%]{1,12}\]?:[0-9]{1,6}"))
def test_no_text_gives_another_error_or_an_unsafe_message(network: str, text: str) -> None:
    """A plugin chooses this text."""
    said = ""
    try:
        parse_address(network, text)
    except HandshakeError as error:
        said = str(error)

    assert escape_text(said) == said


def test_a_memory_address_has_a_name() -> None:
    """It never leaves the process."""
    assert (str(MemoryAddress("here")), MemoryAddress("here").network) == ("here", "memory")
