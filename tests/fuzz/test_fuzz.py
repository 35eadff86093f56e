"""The fuzz targets on what hypothesis makes up: bytes, frames, and what normally comes with a few bytes changed."""

from __future__ import annotations

import tracemalloc

import pytest
from fuzz_targets import SEEDS, TARGETS, bounded
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wire_record import REQUEST, RESPONSE

from supervisor.transport.engine.frames import frame

PAYLOADS = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([REQUEST, RESPONSE, b"\0\0\0\0\1x", b"\0\0\0\0\0", b"\0\xff\xff\xff\xff", b""]),
)
FRAMES = st.builds(
    frame,
    st.integers(0, 11),
    st.one_of(st.sampled_from([0, 1, 4, 5]), st.integers(0, 255)),
    st.sampled_from([0, 1, 3, 5, 7, 9, 2, 2**31 - 1, 2**31 + 1]),
    PAYLOADS,
)
TRAFFIC = st.builds(
    lambda cut, parts: bytes((cut,)) + b"".join(parts), st.integers(0, 255), st.lists(FRAMES, max_size=15)
)
STREAM_TARGETS = ("server_frames", "client_frames", "first_bytes", "served", "called")


@st.composite
def changed(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """Return a seed with a few of its bytes changed."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 5))):
        at, kind = draw(st.integers(0, len(data))), draw(st.integers(0, 2))
        some = draw(st.binary(max_size=8))
        data[at : at + (0, len(some), draw(st.integers(0, 30)))[kind]] = some
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes(name: str) -> None:
    """Whatever the bytes are, only typed errors come of them, within a budget of steps in proportion to their number."""
    target = TARGETS[name]
    seeds = SEEDS.get(name, (b"",))
    given_bytes = [st.binary(max_size=400), changed(seeds)]
    if name in STREAM_TARGETS:
        given_bytes.append(TRAFFIC)
    slow = name in {"served", "called"}

    @settings(max_examples=80 if slow else 300)
    @given(st.one_of(given_bytes))
    def check(data: bytes) -> None:
        if slow:
            target(data)  # the event loop has steps of its own
        else:
            with bounded(len(data)):
                target(data)

    for seed in seeds:
        check = example(seed)(check)
    check()


LONG = {
    "indices": ("header_blocks", b"\xfe" + b"\xbe" * 254),
    "one message in crumbs": (
        "server_frames",
        b"\xff" + frame(0, 0, 1, b"\0\0\0\xff\xff") + frame(0, 0, 1, b"x") * 5000,
    ),
    "empty messages": ("server_frames", b"\xff" + frame(0, 0, 1, b"\0\0\0\0\0") * 5000),
    "nested": ("messages", b"j\xff\x07" * 3000),
    "map entries": ("messages", b"Z\0" * 20_000),
    "packed": ("messages", b"J\xff\xff\x02" + b"\1" * 49_151),
    "zeros": ("compressed_messages", bytes(50_000)),
    "pings": ("client_frames", b"\xff" + frame(6, 0, 0, b"12345678") * 5000),
    "settings": ("client_frames", b"\xff" + frame(4, 0, 0, b"\0\1\0\0\0\0\0\1\0\0\x10\0" * 1000)),
    "blocks": ("server_frames", b"\xff" + frame(1, 0, 3, REQUEST) + frame(9, 0, 3, b"\0\1k\1v" * 10) * 1000),
}


@pytest.mark.parametrize("case", LONG.values(), ids=LONG)
def test_memory_and_steps_are_in_proportion(case: tuple[str, bytes]) -> None:
    """Inputs made to cost much cost no more than others of their length."""
    name, data = case
    target = TARGETS[name]
    target(data)  # what is built once is built now
    with bounded(len(data)):
        target(data)
    tracemalloc.start()
    try:
        target(data)
        assert tracemalloc.get_traced_memory()[1] <= 60 * len(data) + (1 << 20)
    finally:
        tracemalloc.stop()
