"""The yamux session: hashicorp/yamux's rules, byte for byte, and nothing but typed errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import ConnectionLostError, ProtocolViolationError
from supervisor.transport.yamux.frames import Flags, Kind, decode_header, encode_header
from supervisor.transport.yamux.session import (
    BACKLOG,
    WINDOW,
    DataReceived,
    Event,
    Session,
    StreamAccepted,
    StreamEnded,
    StreamOpened,
    StreamReset,
)

EVERYTHING = 1 << 30
HEADER = 12


def data(stream_id: int, payload: bytes, flags: int = 0) -> bytes:
    """Return a data frame."""
    return encode_header(Kind.DATA, flags, stream_id, len(payload)) + payload


def update(stream_id: int, flags: int = 0, delta: int = 0) -> bytes:
    """Return a window update."""
    return encode_header(Kind.WINDOW_UPDATE, flags, stream_id, delta)


def served(*frames: bytes) -> tuple[Session, list[Event]]:
    """Return a server's session that has received frames, and what they meant."""
    session = Session(client=False)
    return session, session.receive(b"".join(frames))


def go_away(code: int) -> bytes:
    """Return a go-away frame."""
    return encode_header(Kind.GO_AWAY, 0, 0, code)


def test_header_is_twelve_bytes_big_endian() -> None:
    """Version, type, flags, stream, length, as hashicorp/yamux's `spec.md` has them."""
    written = encode_header(Kind.WINDOW_UPDATE, Flags.SYN | Flags.FIN, 0x01020304, 0x0A0B0C0D)

    assert written.hex(" ", 2) == "0001 0005 0102 0304 0a0b 0c0d"
    assert decode_header(written).stream_id == 0x01020304


def test_sides_open_streams_of_their_own_numbers() -> None:
    """The client's are odd and the server's even; opening is a window update of nothing with SYN."""
    client, server = Session(client=True), Session(client=False)

    assert [client.open(), client.open(), server.open(), server.open()] == [1, 3, 2, 4]
    assert client.take(EVERYTHING) == update(1, Flags.SYN) + update(3, Flags.SYN)


def test_opener_sends_without_waiting_for_the_answer() -> None:
    """Bytes follow the SYN at once."""
    client = Session(client=True)
    client.write(client.open(), b"hello")

    assert client.take(EVERYTHING) == update(1, Flags.SYN) + data(1, b"hello")


def test_accepted_stream_is_acknowledged() -> None:
    """Once: Go's side counts the answers."""
    session, events = served(update(1, Flags.SYN))
    session.accept(1)
    session.accept(1)

    assert events == [StreamOpened(1)]
    assert session.take(EVERYTHING) == update(1, Flags.ACK)


def test_acknowledgement_is_told() -> None:
    """On a window update or on the first data."""
    client = Session(client=True)
    client.open(), client.open()

    assert client.receive(update(1, Flags.ACK) + data(3, b"x", Flags.ACK)) == [
        StreamAccepted(1),
        StreamAccepted(3),
        DataReceived(3, b"x"),
    ]


def test_sender_stops_at_the_window_and_goes_on_with_it() -> None:
    """256 KiB are under way at most, however much was written."""
    client = Session(client=True)
    client.write(client.open(), bytes(WINDOW + 10))

    first = client.take(EVERYTHING)
    assert client.unsent(1) == 10
    assert client.take(EVERYTHING) == b""

    client.receive(update(1, delta=4))
    assert client.take(EVERYTHING) == data(1, bytes(4))
    server, events = served(first)
    assert server.failure is None
    assert sum(len(event.data) for event in events if isinstance(event, DataReceived)) == WINDOW


def test_window_is_opened_again_by_halves() -> None:
    """What was consumed is given back when it is half of the window, as Go does."""
    session, _ = served(update(1, Flags.SYN), data(1, bytes(WINDOW)))
    session.take(EVERYTHING)

    session.consume(1, WINDOW // 2 - 1)
    assert session.take(EVERYTHING) == b""
    session.consume(1, 1)
    assert session.take(EVERYTHING) == update(1, delta=WINDOW // 2)


def test_streams_take_turns() -> None:
    """A stream with much to send does not hold up one with little."""
    client = Session(client=True)
    client.write(client.open(), bytes(200_000))
    client.write(client.open(), b"short")
    client.take(24)  # the SYNs and a first frame

    assert data(3, b"short") in client.take(40_000)


@pytest.mark.parametrize("first_end", ["peer", "own"])
def test_end_is_answered_by_an_end_and_then_the_stream_is_gone(first_end: str) -> None:
    """Each direction ends once, with a FIN on a window update of nothing; an unexpected second one is fatal in Go."""
    session, _ = served(update(1, Flags.SYN))
    session.accept(1)
    session.take(EVERYTHING)
    if first_end == "peer":
        assert session.receive(update(1, Flags.FIN)) == [StreamEnded(1)]
    session.end(1)
    session.end(1)

    assert session.take(EVERYTHING) == update(1, Flags.FIN)
    if first_end == "own":
        assert session.streams == 1
        assert session.receive(update(1, Flags.FIN)) == [StreamEnded(1)]
    assert session.streams == 0
    assert session.failure is None


def test_end_waits_for_what_was_written() -> None:
    """And nothing is written after it."""
    client = Session(client=True)
    client.write(client.open(), b"last words")
    client.end(1)
    client.write(1, b"too late")

    assert client.take(EVERYTHING) == update(1, Flags.SYN) + data(1, b"last words") + update(1, Flags.FIN)


def test_end_on_a_data_frame_comes_after_its_payload() -> None:
    """Other implementations end a stream with their last data."""
    _, events = served(data(1, b"all of it", Flags.SYN | Flags.FIN))

    assert events == [StreamOpened(1), DataReceived(1, b"all of it"), StreamEnded(1)]


def test_reset_ends_both_ways() -> None:
    """What was written is dropped, and frames that were under way are not an error."""
    session, _ = served(update(1, Flags.SYN), update(3, Flags.SYN))
    session.write(1, b"never mind")
    session.reset(1)
    session.reset(1)

    assert session.take(EVERYTHING) == update(1, Flags.RST)
    assert session.receive(data(1, b"was under way") + update(3, Flags.RST)) == [StreamReset(3)]
    assert (session.failure, session.streams) == (None, 0)


def test_ping_is_answered_with_its_value() -> None:
    """Go ends the session when it is not, after ten seconds."""
    session, events = served(encode_header(Kind.PING, Flags.SYN, 0, 0xDEADBEEF))

    assert events == []
    assert session.take(EVERYTHING) == encode_header(Kind.PING, Flags.ACK, 0, 0xDEADBEEF)


def test_answer_to_a_ping_means_nothing() -> None:
    """Nor does one to a ping that nobody sent."""
    session, events = served(encode_header(Kind.PING, Flags.ACK, 0, 7))

    assert (events, session.failure, session.take(EVERYTHING)) == ([], None, b"")


def test_peer_that_goes_away_is_sent_no_more_streams() -> None:
    """Those that are open go on."""
    client = Session(client=True)
    client.open()
    client.receive(go_away(0))

    assert client.draining
    with pytest.raises(ConnectionLostError, match="takes no more streams"):
        client.open()
    assert client.receive(data(1, b"still")) == [DataReceived(1, b"still")]


def test_streams_after_our_going_away_are_reset() -> None:
    """The peer may not have heard of it yet."""
    session, _ = served()
    session.go_away()
    session.go_away()

    assert session.receive(update(1, Flags.SYN)) == []
    assert session.take(EVERYTHING) == go_away(0) + update(1, Flags.RST)


def test_backlog_is_bounded() -> None:
    """The stream after 256 that nobody took is reset; each that is taken makes room."""
    session, events = served(*(update(2 * number + 1, Flags.SYN) for number in range(BACKLOG)))
    assert len(events) == BACKLOG

    assert session.receive(update(1001, Flags.SYN)) == []
    assert session.take(EVERYTHING) == update(1001, Flags.RST)
    session.accept(1)
    session.reset(3)
    assert session.receive(update(1003, Flags.SYN) + update(1005, Flags.SYN)) == [
        StreamOpened(1003),
        StreamOpened(1005),
    ]


VIOLATIONS: dict[str, bytes] = {
    "another version": b"\x01" + update(1, Flags.SYN)[1:],
    "another type": b"\x00\x04" + update(1, Flags.SYN)[2:],
    "another flag": update(1, 0x10),
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2's settings": bytes.fromhex("000012040000000000000300000080000400100000000600010000"),
    "opened twice": update(1, Flags.SYN) * 2,
    "a number of ours": update(2, Flags.SYN),
    "number zero": update(0, Flags.SYN),
    "ended twice": update(1, Flags.SYN) + update(1, Flags.FIN) * 2,
    "data after the end": update(1, Flags.SYN) + update(1, Flags.FIN) + data(1, b"x"),
    "over the window": update(1, Flags.SYN) + encode_header(Kind.DATA, 0, 1, WINDOW + 1),
    "over the window in parts": update(1, Flags.SYN) + data(1, bytes(WINDOW)) + encode_header(Kind.DATA, 0, 1, 1),
    "a window without end": update(1, Flags.SYN, 2**32 - 1),
    "our protocol error": go_away(1),
    "their internal error": go_away(2),
    "an unknown farewell": go_away(77),
    "a flood of pings": encode_header(Kind.PING, Flags.SYN, 0, 1) * 30_000,
}


@pytest.mark.parametrize("frames", VIOLATIONS.values(), ids=VIOLATIONS)
def test_violation_ends_the_session_with_a_typed_error(frames: bytes) -> None:
    """The peer is told by a go-away frame, and nothing is taken any more."""
    session, _ = served(frames)

    assert isinstance(session.failure, ProtocolViolationError)
    assert session.take(EVERYTHING).endswith(go_away(1))
    assert session.receive(update(9, Flags.SYN)) == []
    with pytest.raises(ConnectionLostError):
        session.open()


def test_frames_of_an_ended_session_are_not_sent() -> None:
    """Only the go-away frame is."""
    client = Session(client=True)
    client.write(client.open(), b"x")
    client.take(EVERYTHING)
    client.receive(b"\xff" * HEADER)
    ask: list[Callable[[], object]] = [
        lambda: client.write(1, b"y"),
        lambda: client.end(1),
        lambda: client.reset(1),
        lambda: client.consume(1, WINDOW),
        lambda: client.accept(1),
    ]
    for each in ask:
        each()

    assert client.take(EVERYTHING) == go_away(1)


# --- properties ---------------------------------------------------------------------------------------------------

IDS = st.sampled_from([0, 1, 2, 3, 5, 7])
FLAGS = st.sampled_from([0, 0, 0, 1, 1, 2, 4, 8, 5, 3, 12, 0x40])
FRAMES = st.one_of(
    st.builds(data, IDS, st.binary(max_size=40), FLAGS),
    st.builds(update, IDS, FLAGS, st.sampled_from([0, 1, WINDOW, 2**32 - 1])),
    st.builds(lambda flags, value: encode_header(Kind.PING, flags, 0, value), FLAGS, st.integers(0, 2**32 - 1)),
    st.builds(go_away, st.integers(0, 3)),
    st.binary(max_size=30),
)


def joined(events: list[Event]) -> list[Event]:
    """Return events with the pieces of data put together: how they are cut means nothing."""
    result: list[Event] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, DataReceived) and isinstance(last, DataReceived) and last.stream_id == event.stream_id:
            result[-1] = DataReceived(event.stream_id, last.data + event.data)
        else:
            result.append(event)
    return result


@given(st.lists(FRAMES, max_size=25), st.lists(st.integers(1, 50), max_size=30))
def test_chunks_mean_nothing(frames: list[bytes], cuts: list[int]) -> None:
    """Frames, good and bad, mean the same however they are cut, and leave the same behind."""
    whole, cut = Session(client=False), Session(client=False)
    everything = b"".join(frames)
    events, position = [], 0
    for size in [*cuts, len(everything)]:
        events += cut.receive(everything[position : position + size])
        position += size

    assert joined(events) == joined(whole.receive(everything))
    assert str(cut.failure) == str(whole.failure)
    assert (cut.streams, cut.take(EVERYTHING)) == (whole.streams, whole.take(EVERYTHING))


@given(st.lists(FRAMES, max_size=40), st.booleans())
def test_noise_gives_typed_errors_only(frames: list[bytes], client: bool) -> None:
    """Whatever arrives, and whatever is asked for in between: nothing raises, and what is kept is bounded."""
    session = Session(client=client)
    for frame in frames:
        for event in session.receive(frame):
            session.accept(event.stream_id)
            session.write(event.stream_id, b"answer")
            session.consume(event.stream_id, 40)
            if isinstance(event, StreamEnded):
                session.end(event.stream_id)

    assert session.failure is None or isinstance(session.failure, ProtocolViolationError)
    assert session.streams <= len(frames)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["open", "write", "end", "reset", "exchange"]),
            st.booleans(),
            st.integers(0, 5),
            st.sampled_from([1, 100, WINDOW // 2, WINDOW + 7]),
        ),
        max_size=40,
    )
)
def test_two_sessions_never_violate_each_other(steps: list[tuple[str, bool, int, int]]) -> None:
    """Whatever both sides do, all that was written on a stream that nobody reset arrives, and in the end all is gone."""
    sides = {True: Session(client=True), False: Session(client=False)}
    opened: list[int] = []
    written: dict[tuple[bool, int], int] = {}
    received: dict[tuple[bool, int], int] = {}
    spoilt: set[int] = set()
    ended: set[tuple[bool, int]] = set()

    def exchange() -> None:
        busy = True
        while busy:
            busy = False
            for side in (True, False):
                taken = sides[side].take(50_000)
                busy = busy or bool(taken)
                for event in sides[not side].receive(taken):
                    match event:
                        case StreamOpened(stream_id):
                            sides[not side].accept(stream_id)
                        case DataReceived(stream_id, chunk):
                            key = (side, stream_id)
                            received[key] = received.get(key, 0) + len(chunk)
                            sides[not side].consume(stream_id, len(chunk))
                        case _:
                            pass

    for what, side, number, size in steps:
        stream_id = opened[number % len(opened)] if opened else 0
        match what:
            case "open":
                opened.append(sides[side].open())
                exchange()  # the other side uses a stream only when it knows it
            case "write" if opened and (side, stream_id) not in ended:
                sides[side].write(stream_id, bytes(size))
                written[side, stream_id] = written.get((side, stream_id), 0) + size
            case "end" if opened:
                sides[side].end(stream_id)
                ended.add((side, stream_id))
            case "reset" if opened:
                sides[side].reset(stream_id)
                spoilt.add(stream_id)
            case "exchange":
                exchange()
            case _:
                pass
    for stream_id in opened:
        for session in sides.values():
            session.end(stream_id)
    exchange()

    assert [session.failure for session in sides.values()] == [None, None]
    assert [session.streams for session in sides.values()] == [0, 0]
    whole = {key: size for key, size in written.items() if key[1] not in spoilt}
    assert {key: size for key, size in received.items() if key[1] not in spoilt} == whole
