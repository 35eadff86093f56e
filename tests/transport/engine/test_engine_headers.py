"""Header blocks: the same fields as hpack's own, however often they repeat and whatever happens to the table."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.transport.engine.faults import HeaderCompressionError
from supervisor.transport.engine.headers import BlockDecoder, BlockEncoder, Fields, Repeated, literal

NAME = st.from_regex(rb"[a-z][a-z0-9-]{0,20}", fullmatch=True) | st.sampled_from([b":path", b"content-type", b"te"])
VALUE = st.binary(max_size=200)
FIELDS = st.lists(st.tuples(NAME, VALUE), max_size=12).map(tuple)


@given(st.lists(FIELDS, min_size=1, max_size=6), st.data())
def test_decoder_agrees_with_hpack(heads: list[Fields], data: st.DataObject) -> None:
    """Blocks of another encoder, repeated in any order and with its table resized, decode to what was encoded."""
    encoder, decoder = hpack.Encoder(), BlockDecoder(table_size=4096, list_size=1 << 16)
    for _ in range(12):
        if data.draw(st.booleans()):
            encoder.header_table_size = data.draw(st.sampled_from([0, 100, 4096]))
        fields = data.draw(st.sampled_from(heads))
        assert decoder.decode(encoder.encode(fields)).fields == fields


@given(st.lists(FIELDS, min_size=1, max_size=6), FIELDS, st.data())
def test_encoder_is_understood_by_hpack(heads: list[Fields], extra: Fields, data: st.DataObject) -> None:
    """Our blocks, with literals behind them and the table resized by the peer, decode to what was encoded."""
    encoder, decoder = BlockEncoder(), hpack.Decoder(max_header_list_size=1 << 20)
    repeated = [Repeated(fields) for fields in heads]
    tail = b"".join(literal(name, value) for name, value in extra)
    for _ in range(12):
        if data.draw(st.booleans()):
            encoder.limit_table(data.draw(st.sampled_from([0, 100, 4096, 1 << 20])))
        head = data.draw(st.sampled_from(repeated))
        assert tuple(decoder.decode(encoder.encode(head) + tail, raw=True)) == head.fields + extra


@given(st.lists(FIELDS, min_size=1, max_size=6), FIELDS, st.data())
def test_our_blocks_are_understood_by_us(heads: list[Fields], extra: Fields, data: st.DataObject) -> None:
    """Both ends keep blocks that repeat, and agree on when they are stale."""
    encoder, decoder = BlockEncoder(), BlockDecoder(table_size=4096, list_size=1 << 20)
    repeated = [Repeated(fields) for fields in heads]
    tail = b"".join(literal(name, value) for name, value in extra)
    for _ in range(12):
        head = data.draw(st.sampled_from(repeated))
        end = tail if data.draw(st.booleans()) else b""
        expected = head.fields + extra if end else head.fields
        assert decoder.decode(encoder.encode(head) + end).fields == expected


TIMEOUT = st.sampled_from([b"1S", b"500m", b"", b"x" * 126, b"x" * 127])
CUTS = st.one_of(st.none(), st.integers(0, 200))


@given(st.lists(st.tuples(TIMEOUT, FIELDS, st.sampled_from([b"\0", b"\x10"]), CUTS), min_size=1, max_size=8))
def test_deadline_before_metadata_is_read_as_hpack_reads_it(
    blocks: list[tuple[bytes, Fields, bytes, int | None]],
) -> None:
    """It is kept for the next call, whatever follows it there, and however it is cut short."""
    head = Repeated(((b":method", b"POST"), (b"te", b"trailers")))
    encoder, decoder, theirs = BlockEncoder(), BlockDecoder(table_size=4096, list_size=1 << 20), hpack.Decoder()
    for timeout, extra, kind, cut in blocks:
        timed = kind + literal(b"grpc-timeout", timeout)[1:]
        block = (encoder.encode(head) + timed + b"".join(literal(*field) for field in extra))[:cut]
        try:
            expected = tuple(theirs.decode(block, raw=True))
        except hpack.HPACKError:
            with pytest.raises(HeaderCompressionError):
                decoder.decode(block)
            return
        assert decoder.decode(block).fields == expected


def test_deadline_is_read_once_for_calls_with_metadata_of_their_own() -> None:
    """Their blocks differ, and have the one with the deadline as their base."""
    encoder, decoder = BlockEncoder(), BlockDecoder(table_size=4096, list_size=1 << 16)
    head = Repeated(((b":method", b"POST"), (b"te", b"trailers")))
    decoder.decode(encoder.encode(head))
    timed = encoder.encode(head) + literal(b"grpc-timeout", b"1S")
    found = [decoder.decode(timed + literal(b"id", b"%d" % number)) for number in range(3)]
    assert [block.extra for block in found[1:]] == [((b"id", b"1"),), ((b"id", b"2"),)]
    assert found[1].base is found[2].base is decoder.decode(timed)


def test_block_that_repeats_is_the_same_object() -> None:
    """What a reader made of a block is kept with it, until the table changes."""
    encoder, decoder = BlockEncoder(), BlockDecoder(table_size=4096, list_size=1 << 16)
    head = Repeated(((b":path", b"/a/b"), (b"te", b"trailers")))
    decoder.decode(encoder.encode(head))  # teaches the table
    block = encoder.encode(head)
    first = decoder.decode(block)
    assert decoder.decode(block) is first
    assert encoder.encode(head) is block
    decoder.decode(encoder.encode(Repeated(((b"another", b"one"),))))
    assert encoder.encode(head) != block
    assert decoder.decode(encoder.encode(head)).fields == head.fields


def test_more_paths_than_the_table_holds_stay_cheap() -> None:
    """What has no room in the table goes out as it is: the blocks of many methods do not push each other out."""
    encoder = BlockEncoder()
    heads = [Repeated(((b":path", b"/package.Service/Method%03d" % number),)) for number in range(200)]
    for _ in range(2):
        for head in heads:
            encoder.encode(head)
    assert all(encoder.encode(head) is head.block for head in heads)
