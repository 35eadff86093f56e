"""Metadata and deadlines in header blocks: what grpclib makes of them, for less."""

from __future__ import annotations

from typing import Any

import hpack
import pytest
from grpclib.const import Cardinality, Handler
from grpclib.metadata import encode_metadata
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from supervisor.errors import ConfigurationError
from supervisor.transport.engine.headers import BlockDecoder, BlockEncoder, Fields, Repeated, literal
from supervisor.transport.engine.metadata import decode_metadata, decode_timeout, encode_literals, encode_timeout
from supervisor.transport.engine.request import RequestHead, read_request

KEYS = st.sampled_from(["token", "a.b_c-d", "x-bin", "grpc-x", "te", "Upper", ":path", "", "user-agent", 5, "ünicode"])
VALUES = (
    st.text(max_size=200)
    | st.binary(max_size=20)
    | st.sampled_from([" lead", "trail ", "", "a b", None, "x" * 126, "x" * 127])
)

HEAD: Fields = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a/b"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)
METHODS: Any = {"/a/b": Handler(lambda _: None, Cardinality.UNARY_UNARY, object, object)}


@given(st.lists(st.tuples(KEYS, VALUES), max_size=4))
def test_metadata_is_encoded_as_grpclib_does(items: list[tuple[Any, Any]]) -> None:
    """The same fields, and a refusal of the same."""
    try:
        expected = encode_metadata(items)
    except (AttributeError, TypeError, ValueError):
        with pytest.raises(ConfigurationError):
            encode_literals(items)
    else:
        found: Any = hpack.Decoder().decode(encode_literals(items))
        assert found == expected
        assert encode_literals(MultiDict(items)) == encode_literals(items)


@pytest.mark.parametrize("metadata", [5, ["abc"], [("a", "b", "c")], [(["a"], "b")]])
def test_what_is_no_metadata_is_refused(metadata: Any) -> None:
    """By the error for the caller's mistakes."""
    with pytest.raises(ConfigurationError):
        encode_literals(metadata)


@given(st.floats(1e-6, 1e9))
def test_a_deadline_is_never_told_shorter_than_it_is(seconds: float) -> None:
    """And longer by a hundredth at most, or by what the format cannot say."""
    ((name, value),) = hpack.Decoder().decode(encode_timeout(seconds), raw=True)
    assert name == b"grpc-timeout"
    assert min(seconds, 99_999_999) * (1 - 1e-9) <= decode_timeout(value) <= seconds * 1.011 + 1e-6


EXTRA = st.sampled_from([
    (b"grpc-timeout", b"5S"), (b"grpc-timeout", b"soon"), (b"x-bin", b"AAA"), (b"x-bin", b"!"), (b"token", b"t"),
    (b"grpc-encoding", b"gzip"), (b"grpc-encoding", b"zip"), (b":path", b"/c/d"), (b"te", b"other"),
    (b"content-type", b"text/html"), (b"user-agent", b"me"), (b"grpc-accept-encoding", b"gzip"),
])  # fmt: skip


@given(st.lists(st.lists(EXTRA, max_size=3), min_size=1, max_size=4))
def test_what_comes_behind_a_known_head_means_what_it_means_in_whole(calls: list[list[tuple[bytes, bytes]]]) -> None:
    """A request is read from the head of its method and its own few fields as from all of them."""
    encoder, decoder = BlockEncoder(), BlockDecoder(table_size=4096, list_size=1 << 16)
    head = Repeated(HEAD)
    decoder.decode(encoder.encode(head))
    for extra in calls:
        block = decoder.decode(encoder.encode(head) + b"".join(literal(*field) for field in extra))
        assert block.fields == (*HEAD, *extra)
        assert vars(read_request(block, METHODS, b"proto")) == vars(RequestHead(block.fields, METHODS, b"proto"))
        try:
            metadata = decode_metadata(block.fields)
        except ValueError:
            continue
        assert ("token" in metadata) == ((b"token", b"t") in extra)


def test_a_block_with_metadata_is_not_kept() -> None:
    """What one call says of itself would push out what all say."""
    encoder, decoder = BlockEncoder(), BlockDecoder(table_size=4096, list_size=1 << 16)
    head = Repeated(HEAD)
    decoder.decode(encoder.encode(head))
    for number in range(2000):
        decoder.decode(encoder.encode(head) + literal(b"id", b"%d" % number))
    assert len(decoder.seen) < 5
