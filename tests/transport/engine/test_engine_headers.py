"""Header blocks: the same fields as hpack's own, however often they repeat and whatever happens to the table."""

from __future__ import annotations

import hpack
from hypothesis import given
from hypothesis import strategies as st

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
