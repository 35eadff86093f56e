"""The connection without I/O: the same whatever the pieces, typed errors for anything else, and flow control."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_record import REQUEST, RESPONSE, SETTINGS, Recorder, client, server

from supervisor.errors import MessageTooLargeError
from supervisor.transport.engine import frames
from supervisor.transport.engine.faults import (
    FloodError,
    FrameOrderError,
    FrameSizeError,
    HeaderCompressionError,
    HeaderListTooLargeError,
    PrefaceError,
    SettingError,
    WindowError,
    WireViolationError,
)
from supervisor.transport.engine.frames import LARGEST_WINDOW, Setting, frame, header_frames, rst_stream, window_update
from supervisor.transport.engine.headers import Repeated
from supervisor.transport.engine.stream import BODY, ENDED

PING = frame(frames.PING, 0, 0, b"12345678")
OPEN = header_frames(1, REQUEST, end=False, frame_size=16_384)
HEADERS_FLAGS = frames.END_HEADERS


def message(data: bytes, *, compressed: int = 0, size: int | None = None) -> bytes:
    """Return a gRPC message; `size` lies about its length."""
    return struct.pack(">BI", compressed, len(data) if size is None else size) + data


def data_frame(payload: bytes, *, stream: int = 1, end: bool = False, padding: int | None = None) -> bytes:
    """Return a DATA frame."""
    flags = frames.END_STREAM if end else 0
    if padding is None:
        return frame(frames.DATA, flags, stream, payload)
    return frame(frames.DATA, flags | frames.PADDED, stream, bytes((padding,)) + payload + bytes(padding))


SCRIPT = b"".join(
    (
        frames.PREFACE,
        frames.settings([(Setting.INITIAL_WINDOW_SIZE, 100_000), (99, 5), (Setting.HEADER_TABLE_SIZE, 0)]),
        frame(frames.SETTINGS, frames.ACK, 0),
        OPEN,
        data_frame(message(b"one")),
        data_frame(message(b"two") + message(b"three")[:3], padding=7),
        data_frame(message(b"three")[3:]),
        frame(frames.PRIORITY, 0, 1, b"\0\0\0\0\5"),
        frame(0xBE, 0, 1, b"what"),
        frame(frames.HEADERS, frames.PRIORITY_FIELDS | frames.PADDED, 3, b"\2" + b"\0\0\0\0\5" + REQUEST[:4] + b"\0\0"),
        frame(frames.CONTINUATION, 0, 3, REQUEST[4:5]),
        frame(frames.CONTINUATION, frames.END_HEADERS, 3, REQUEST[5:]),
        data_frame(message(b"", compressed=1), stream=3),
        data_frame(b"", stream=3, end=True),
        window_update(0, 1000),
        window_update(1, 1000),
        frame(frames.PING, 0, 0, b"12345678"),
        data_frame(message(b"", size=2**31)),
        data_frame(b"dropped", end=True),
        header_frames(5, REQUEST, end=True, frame_size=16_384),
        header_frames(7, b"\x40\x01k\x01v\xbe" + REQUEST, end=False, frame_size=16_384),
        header_frames(7, b"\xbe", end=True, frame_size=16_384),
        rst_stream(5, 8),
        frames.goaway(0, 0, b"bye"),
    )
)


def played(pieces: list[bytes]) -> tuple[Any, bytes]:
    """Return what a server makes of a client's bytes, and what it answers."""
    recorder = Recorder(client_side=False)
    for piece in pieces:
        recorder.connection.receive(piece)
    return recorder.seen(), recorder.written


@given(st.lists(st.integers(0, len(SCRIPT)), max_size=40))
def test_pieces_do_not_matter(cuts: list[int]) -> None:
    """However the bytes are cut, the same happens and the same is answered."""
    bounds = [0, *sorted(cuts), len(SCRIPT)]
    pieces = [SCRIPT[a:b] for a, b in pairwise(bounds)]
    assert played([piece for piece in pieces if piece]) == played([SCRIPT])


def test_script_means_what_it_says() -> None:
    """The script behind the property above is heard in full: three requests, their messages, and the rest."""
    (told, streams), written = played([SCRIPT])
    assert [event[1] for event in told if event[0] == "accept"] == [1, 3, 5, 7]
    assert [data for _, data in streams[1][1]] == [b"one", b"two", b"three"]
    assert streams[1][4] is False  # the fourth was too large
    assert streams[7][3] == ENDED
    assert ("reset", 5, 8) in told
    assert told[-1] == ("goaway", 0, 0)
    assert frame(frames.PING, frames.ACK, 0, b"12345678") in written


def test_byte_by_byte() -> None:
    """One byte at a time is only the extreme of the same."""
    assert played([SCRIPT[at : at + 1] for at in range(len(SCRIPT))]) == played([SCRIPT])


FRAME = st.builds(
    frame,
    st.integers(0, 11),
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, 3, 5, 7, 2**31 - 1, 2**31 + 1, 2**32 - 1]),
    st.one_of(st.binary(max_size=40), st.just(REQUEST), st.just(RESPONSE), st.just(message(b"x"))),
)
NOISE = st.lists(st.one_of(FRAME, st.binary(max_size=60)), max_size=12).map(b"".join)


@settings(max_examples=300)
@given(NOISE, st.booleans())
def test_garbage_gives_only_typed_errors(noise: bytes, client_side: bool) -> None:
    """Whatever a peer sends after its greeting, what escapes says which rule it broke."""
    recorder = client() if client_side else server()
    if client_side:
        recorder.open()
    else:
        recorder.connection.receive(OPEN)
    with suppress(WireViolationError):
        recorder.connection.receive(noise)


@given(st.binary(max_size=80))
def test_what_is_not_http2_is_refused_at_once(noise: bytes) -> None:
    """A server hears from the first byte that differs that its client speaks something else."""
    recorder = Recorder(client_side=False)
    if frames.PREFACE.startswith(noise[: len(frames.PREFACE)]):
        return
    with pytest.raises(PrefaceError):
        recorder.connection.receive(noise)


def broken(*pieces: bytes, client_side: bool = False, **limits: Any) -> Callable[[], Recorder]:
    """Return what plays bytes to a side with an open stream."""

    def play() -> Recorder:
        recorder = client(**limits) if client_side else server(**limits)
        if client_side:
            recorder.open()
        else:
            recorder.connection.receive(OPEN)
        for piece in pieces:
            recorder.connection.receive(piece)
        return recorder

    return play


BLOCK = b"\0\x01k\x7f\xa0\x1f" + b"v" * 4127  # one literal of 4 KiB

VIOLATIONS = {
    "frame over the limit": (broken(b"\x10\x00\x01\0\0\0\0\0\1"), FrameSizeError),
    "PING of 7 bytes": (broken(frame(frames.PING, 0, 0, b"1234567")), FrameSizeError),
    "PING on a stream": (broken(frame(frames.PING, 0, 1, b"12345678")), FrameOrderError),
    "SETTINGS of 5 bytes": (broken(frame(frames.SETTINGS, 0, 0, b"12345")), FrameSizeError),
    "SETTINGS on a stream": (broken(frame(frames.SETTINGS, 0, 1)), FrameOrderError),
    "acknowledgement with a payload": (broken(frame(frames.SETTINGS, frames.ACK, 0, b"123456")), FrameSizeError),
    "RST_STREAM of 3 bytes": (broken(frame(frames.RST_STREAM, 0, 1, b"123")), FrameSizeError),
    "RST_STREAM on stream 0": (broken(rst_stream(0, 0)), FrameOrderError),
    "RST_STREAM on an idle stream": (broken(rst_stream(9, 0)), FrameOrderError),
    "WINDOW_UPDATE of 5 bytes": (broken(frame(frames.WINDOW_UPDATE, 0, 0, b"12345")), FrameSizeError),
    "WINDOW_UPDATE of nothing": (broken(window_update(0, 0)), FrameOrderError),
    "WINDOW_UPDATE on an idle stream": (broken(window_update(9, 1)), FrameOrderError),
    "PRIORITY of 4 bytes": (broken(frame(frames.PRIORITY, 0, 1, b"1234")), FrameSizeError),
    "GOAWAY of 7 bytes": (broken(frame(frames.GOAWAY, 0, 0, b"1234567")), FrameSizeError),
    "push": (broken(frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, b"\0\0\0\2\x88"), client_side=True), FrameOrderError),
    "CONTINUATION of nothing": (broken(frame(frames.CONTINUATION, 4, 1, b"\x88")), FrameOrderError),
    "interrupted block": (broken(frame(frames.HEADERS, 0, 3, REQUEST), frame(frames.PING, 0, 0, b"12345678")), FrameOrderError),
    "block continued elsewhere": (broken(frame(frames.HEADERS, 0, 3), frame(frames.CONTINUATION, 4, 5)), FrameOrderError),
    "DATA on stream 0": (broken(data_frame(b"x", stream=0)), FrameOrderError),
    "DATA on an idle stream": (broken(data_frame(b"x", stream=9)), FrameOrderError),
    "DATA on an even stream": (broken(data_frame(b"x", stream=2)), FrameOrderError),
    "DATA before the headers": (broken(data_frame(message(b"x")), client_side=True), FrameOrderError),
    "a second head": (broken(header_frames(1, RESPONSE, end=False, frame_size=16_384) * 2, client_side=True), FrameOrderError),
    "HEADERS on stream 0": (broken(frame(frames.HEADERS, 4, 0, REQUEST)), FrameOrderError),
    "HEADERS on a stream never opened": (broken(frame(frames.HEADERS, 4, 9, RESPONSE), client_side=True), FrameOrderError),
    "padding beyond the frame": (broken(frame(frames.DATA, frames.PADDED, 1, b"\5abc")), FrameOrderError),
    "padding of no frame": (broken(frame(frames.DATA, frames.PADDED, 1, b"")), FrameOrderError),
    "padding beyond the headers": (broken(frame(frames.HEADERS, frames.PADDED | 4, 3, b"\x09a")), FrameOrderError),
    "headers shorter than their priority": (broken(frame(frames.HEADERS, frames.PRIORITY_FIELDS | 4, 3, b"abc")), FrameSizeError),
    "bad HPACK": (broken(frame(frames.HEADERS, 4, 3, b"\xff\xff\xff\xff\xff\xff")), HeaderCompressionError),
    "index that is none": (broken(frame(frames.HEADERS, 4, 3, b"\xfe")), HeaderCompressionError),
    "table larger than offered": (broken(frame(frames.HEADERS, 4, 3, b"\x3f\xff\xff\x03")), HeaderCompressionError),
    "block over the limit": (broken(frame(frames.HEADERS, 4, 3, BLOCK), header_list=4000), HeaderListTooLargeError),
    "list over the limit": (broken(frame(frames.HEADERS, 4, 3, b"\x83" * 400), header_list=4000), HeaderListTooLargeError),
    "block that never ends": (
        broken(frame(frames.HEADERS, 0, 3, BLOCK), *[frame(frames.CONTINUATION, 0, 3, BLOCK)] * 20),
        HeaderListTooLargeError,
    ),
    "setting: window": (broken(frames.settings([(Setting.INITIAL_WINDOW_SIZE, 2**31)])), WindowError),
    "setting: small frames": (broken(frames.settings([(Setting.MAX_FRAME_SIZE, 16_383)])), SettingError),
    "setting: large frames": (broken(frames.settings([(Setting.MAX_FRAME_SIZE, 1 << 24)])), SettingError),
    "setting: push": (broken(frames.settings([(Setting.ENABLE_PUSH, 2)])), SettingError),
    "setting: push by a server": (broken(frames.settings([(Setting.ENABLE_PUSH, 1)]), client_side=True), SettingError),
    "connection window beyond the largest": (broken(window_update(0, LARGEST_WINDOW)), WindowError),
    "stream window beyond the largest": (broken(window_update(1, LARGEST_WINDOW)), WindowError),
    "windows of all streams": (
        broken(window_update(1, LARGEST_WINDOW - 65_535), frames.settings([(Setting.INITIAL_WINDOW_SIZE, 65_536)])),
        WindowError,
    ),
    "window overrun": (broken(*[data_frame(message(b"x" * 500))] * 3, stream_window=1200), WindowError),
}  # fmt: skip


@pytest.mark.parametrize("case", VIOLATIONS.values(), ids=VIOLATIONS)
def test_each_violation_has_its_error(case: tuple[Callable[[], Recorder], type[WireViolationError]]) -> None:
    """A peer that breaks a rule is told which by the error's class, and its own error code."""
    play, expected = case
    with pytest.raises(WireViolationError) as caught:
        play()
    assert type(caught.value) is expected
    assert caught.value.code == expected.code


FLOODS = {
    "PING": frame(frames.PING, 0, 0, b"12345678"),
    "SETTINGS": SETTINGS,
    "acknowledgements": frame(frames.SETTINGS, frames.ACK, 0),
    "empty DATA": data_frame(b""),
    "PRIORITY": frame(frames.PRIORITY, 0, 1, b"12345"),
    "unknown frames": frame(0xBE, 0, 0),
    "crumbs of window": window_update(0, 1),
    "windows that grow": window_update(0, 1000),
    "resets of a stream that is over": rst_stream(1, 8),
    "GOAWAY": frames.goaway(2**31 - 1, 0),
    "DATA on a stream that is over": data_frame(b"", stream=1),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_flood_ends_the_connection(flood: bytes) -> None:
    """A hundred frames that only make work are borne where a hundred are allowed; the next is not."""
    recorder = server(control_burst=101)  # the greeting took one
    recorder.connection.receive(OPEN)
    if flood == FLOODS["resets of a stream that is over"]:
        recorder.connection.receive(flood)  # what a caller may do who has thought better of it
    recorder.connection.receive(flood * 100)
    with pytest.raises(FloodError) as caught:
        recorder.connection.receive(flood)
    assert caught.value.limit == 101


MANY = {
    "windows": [(Setting.INITIAL_WINDOW_SIZE, 65_535)] * 5000,
    "tables": [(Setting.HEADER_TABLE_SIZE, size) for size in (0, 4096)] * 50_000,
    "unknown": [(99, 0)] * 100_000,
}


@pytest.mark.parametrize("many", MANY.values(), ids=MANY)
def test_settings_of_thousands_are_a_flood(many: list[tuple[int, int]]) -> None:
    """A frame of settings counts for as much as is in it."""
    recorder = server(control_burst=3000, frame_size=1 << 20)
    with pytest.raises(FloodError):
        recorder.connection.receive(frames.settings(many))


def test_tables_that_change_size_are_told_in_two_words() -> None:
    """Of all sizes that a peer asks of our table between two blocks, the smallest and the last are acknowledged."""
    recorder = server()
    recorder.connection.receive(
        frames.settings([(Setting.HEADER_TABLE_SIZE, size % 4096) for size in range(0, 10_000, 7)])
    )
    assert len(recorder.connection.encoder.encode(Repeated(((b"a", b"b"),)))) < 20


def test_message_that_comes_in_crumbs_costs_little_more_than_its_size() -> None:
    """Each piece of a message would be an object of its own, forty times as large as the byte in it."""
    recorder = server(message_size=1 << 20, largest_window=1 << 20)
    recorder.connection.receive(OPEN)
    stream = recorder.opened[1]
    stream.room = 1 << 20
    body = message(bytes(range(256)) * 1000)
    tracemalloc.start()
    try:
        for at in range(0, len(body) - 2, 2):
            recorder.connection.receive(data_frame(body[at : at + 2]))
        assert tracemalloc.get_traced_memory()[0] < 2 * len(body)
    finally:
        tracemalloc.stop()
    recorder.connection.receive(data_frame(body[at + 2 :], end=True))
    assert list(stream.messages) == [body[5:]]


def test_empty_continuations_are_a_flood() -> None:
    """A header block that goes on with nothing is bounded by their number, since it never grows."""
    recorder = server(control_burst=100)
    recorder.connection.receive(frame(frames.HEADERS, 0, 3, REQUEST))
    with pytest.raises(FloodError):
        recorder.connection.receive(frame(frames.CONTINUATION, 0, 3) * 101)


def test_peer_earns_its_budget_back() -> None:
    """What is too much at once is not over time."""
    recorder = server(control_burst=100, control_rate=10.0)
    for _ in range(50):
        recorder.connection.receive(FLOODS["PING"] * 10)
        recorder.now += 1.0
    with pytest.raises(FloodError):
        recorder.connection.receive(FLOODS["PING"] * 150)


def test_window_updates_that_give_back_are_free() -> None:
    """A peer that acknowledges each message, as grpclib does twice, is no flood."""
    recorder = server(control_burst=10)
    recorder.connection.receive(OPEN)
    stream = recorder.opened[1]
    for _ in range(1000):
        recorder.connection.send_window -= 105
        stream.send_window -= 105
        recorder.connection.receive(window_update(0, 105) + window_update(1, 105))
    assert recorder.connection.send_window == stream.send_window == 65_535


def test_what_was_under_way_when_a_stream_ended_is_free() -> None:
    """Messages that the peer sent before it heard that nobody wants them are within the window, and no flood."""
    recorder = server(control_burst=10, stream_window=100_000)
    recorder.connection.receive(OPEN)
    recorder.connection.reset(recorder.opened[1], 0)
    recorder.connection.forget(recorder.opened[1])
    recorder.connection.receive(data_frame(message(b"x" * 5)) * 1000)
    with pytest.raises(FloodError):
        recorder.connection.receive(data_frame(message(b"x" * 5)) * 10_000)


@given(st.lists(st.binary(max_size=300), max_size=20), st.data())
def test_messages_do_not_depend_on_frames(messages: list[bytes], data: st.DataObject) -> None:
    """Messages arrive the same, cut into frames of any size, padded or not."""
    body, recorder = b"".join(map(message, messages)), server()
    recorder.connection.receive(OPEN)
    while body:
        size = data.draw(st.integers(1, 400))
        padding = data.draw(st.none() | st.integers(0, 255))
        recorder.connection.receive(data_frame(body[:size], padding=padding))
        body = body[size:]
    assert list(recorder.opened[1].messages) == messages
    assert not recorder.opened[1].in_message


@given(st.lists(st.integers(0, 60_000), min_size=1, max_size=6), st.integers(16_384, 100_000), st.data())
def test_large_frames_may_come_in_pieces(sizes: list[int], frame_size: int, data: st.DataObject) -> None:
    """They are taken before they are whole: messages, windows and what comes behind them are the same."""
    messages = [bytes([number]) * size for number, size in enumerate(sizes)]
    body, whole = b"".join(map(message, messages)), b""
    while body:
        whole += data_frame(body[:frame_size])
        body = body[frame_size:]
    whole += frames.frame(frames.DATA, frames.END_STREAM, 1) + PING
    window = 1_000_000
    recorder = server(stream_window=window)
    recorder.connection.receive(OPEN)
    at = 0
    while at < len(whole):
        size = data.draw(st.integers(1, 50_000))
        recorder.connection.receive(whole[at : at + size])
        at += size
    stream = recorder.opened[1]
    assert list(stream.messages) == messages
    assert (stream.phase, stream.in_message) == (ENDED, False)
    assert stream.room == window - sum(len(message(each)) for each in messages)
    assert recorder.written.endswith(frames.frame(frames.PING, frames.ACK, 0, b"12345678"))


def test_large_frame_over_the_window_is_refused_at_its_head() -> None:
    """It is not waited for."""
    recorder = server(stream_window=50_000)
    recorder.connection.receive(OPEN)
    with pytest.raises(WindowError):
        recorder.connection.receive(data_frame(b"x" * 60_000)[:100])


def test_rest_of_a_large_frame_is_dropped_when_its_call_has_ended() -> None:
    """The stream takes no more, and what comes behind the frame is read."""
    recorder = server()
    recorder.connection.receive(OPEN)
    whole = data_frame(message(b"x" * 50_000)) + PING
    recorder.connection.receive(whole[:1000])
    stream = recorder.opened[1]
    recorder.connection.reset(stream, 8)
    recorder.connection.forget(stream)
    recorder.connection.receive(whole[1000:30_000])
    recorder.connection.receive(whole[30_000:])
    assert not stream.messages
    assert recorder.written.endswith(frames.frame(frames.PING, frames.ACK, 0, b"12345678"))


def test_message_over_the_limit_is_refused_by_its_prefix() -> None:
    """Nothing of it is kept, and its bytes are given back; what came before it stays."""
    recorder = server(message_size=100, stream_window=1000)
    recorder.connection.receive(OPEN + data_frame(message(b"small")) + data_frame(message(b"x" * 101)))
    stream = recorder.opened[1]
    for _ in range(100):
        recorder.connection.receive(data_frame(b"y" * 500))
    assert list(stream.messages) == [b"small"]
    assert stream.fault is not None
    error = stream.fault()
    assert isinstance(error, MessageTooLargeError)
    assert (error.size, error.limit) == (101, 100)


def test_window_opens_when_messages_are_read() -> None:
    """A stream's window is given back for what was read, not for what arrived, and not for each byte."""
    recorder = server(stream_window=1000)
    recorder.connection.receive(OPEN + data_frame(message(b"x" * 20)) * 40)
    stream, before = recorder.opened[1], recorder.written
    assert stream.room == 0
    for _ in range(9):
        stream.release(25)
    assert recorder.written == before
    stream.release(25)
    assert recorder.written == before + window_update(1, 250)
    assert stream.room == 250


def test_message_longer_than_the_window_arrives() -> None:
    """Somebody who waits for a message lets the rest of it come; its bytes are given back once."""
    recorder = server(stream_window=1000)
    recorder.connection.receive(OPEN)
    stream, body = recorder.opened[1], message(b"x" * 10_000)
    stream.read_on()
    while body:
        piece = body[: min(stream.room, 300)]
        assert piece, "the window is shut"
        recorder.connection.receive(data_frame(piece))
        body = body[len(piece) :]
    assert list(stream.messages) == [b"x" * 10_000]
    stream.release(10_005)
    assert stream.room <= 32 * 10_005


def test_window_grows_with_the_messages_that_are_read() -> None:
    """Thirty-two of them may be under way, but no less than the settled window and no more than the largest."""
    recorder = server(stream_window=1000, settled_window=1000, largest_window=9000)
    recorder.connection.receive(OPEN)
    stream = recorder.opened[1]
    for size, window in [(25, 1000), (45, 1600), (25, 1600), (245, 8000), (900, 9000), (2000, 9000)]:
        recorder.connection.receive(data_frame(message(b"x" * size)))
        stream.release(size + 5)
        assert stream.room + stream._unreported == window
        stream.messages.clear()


def test_window_of_small_messages_settles_below_the_first() -> None:
    """A large message needs no leave to begin, and of small ones fewer are under way once they are read."""
    recorder = server(stream_window=10_000, settled_window=1000)
    recorder.connection.receive(OPEN)
    stream, sent = recorder.opened[1], 0
    while sent < 50_000:
        size = min(stream.room, 30)
        recorder.connection.receive(data_frame(message(b"x" * (size - 5))))
        stream.release(size)
        sent += size
        assert stream.room <= max(10_000 - sent, 1000)
        assert stream.room >= 750, "the sender waits"


def test_window_of_what_nobody_reads_stays() -> None:
    """A large message that is not waited for has to fit, or wait itself."""
    recorder = server(stream_window=1000, largest_window=5000)
    recorder.connection.receive(OPEN + data_frame(message(b"x" * 3000)[:1000]))
    assert recorder.opened[1].room == 0


def test_window_may_become_negative() -> None:
    """A peer that shrinks its streams' windows under way owes nothing and is owed nothing (section 6.9.2)."""
    recorder = client()
    stream = recorder.open()
    stream.send_window -= 65_535
    recorder.connection.receive(frames.settings([(Setting.INITIAL_WINDOW_SIZE, 0)]))
    assert stream.send_window == -65_535
    recorder.connection.receive(window_update(stream.id, 65_536))
    assert stream.send_window == 1


def test_stream_that_goes_on_after_its_end_ends_alone() -> None:
    """DATA or a head after END_STREAM costs that stream and not the connection."""
    for late in (data_frame(message(b"x")), header_frames(1, RESPONSE, end=True, frame_size=16_384)):
        recorder = client()
        stream = recorder.open()
        recorder.connection.receive(header_frames(1, RESPONSE, end=True, frame_size=16_384) + late)
        assert stream.failure is not None
        assert isinstance(stream.failure(), FrameOrderError)
        assert rst_stream(1, 5) in recorder.written


def test_interim_responses_are_skipped() -> None:
    """A 1xx response precedes the response (section 8.1)."""
    recorder = client()
    stream = recorder.open()
    recorder.connection.receive(header_frames(1, b"\x08\x03103", end=False, frame_size=16_384))
    assert stream.headers is None
    recorder.connection.receive(header_frames(1, RESPONSE, end=False, frame_size=16_384))
    assert stream.phase == BODY
    assert stream.headers is not None


def test_long_header_blocks_are_continued() -> None:
    """A block that is longer than a frame goes out as CONTINUATION and comes in as it was."""
    recorder = server()
    recorder.connection.receive(header_frames(1, BLOCK + REQUEST, end=True, frame_size=100))
    assert [event[0] for event in recorder.told] == ["accept"]
    assert recorder.opened[1].headers is not None
    assert recorder.opened[1].headers.fields[0] == (b"k", b"v" * 4127)


def test_greeting_announces_the_limits() -> None:
    """The first frame says what this side takes, and the next opens the connection's window to the largest."""
    recorder = Recorder(client_side=True)
    recorder.connection.start()
    expected = frames.settings([(1, 4096), (3, 10_000), (4, 256 << 10), (5, 1 << 20), (6, 64 << 10), (2, 0)])
    assert recorder.written == frames.PREFACE + expected + window_update(0, LARGEST_WINDOW - 65_535)
