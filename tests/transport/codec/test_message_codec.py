"""The codec as grpclib uses it."""

from __future__ import annotations

from typing import Any

import pytest
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.testing import ChannelFor

from supervisor.errors import DecodeError, EncodeError, MessageTooLargeError
from supervisor.transport.codec import MessageCodec, Pieces, encode

FLAVOURS = ["betterproto", "betterproto2", "google"]


@pytest.fixture(params=FLAVOURS)
def inner(request: pytest.FixtureRequest, flavours: Any) -> Any:
    """The same message class in each library."""
    return getattr(flavours, request.param).Inner


def test_it_is_what_grpclib_expects() -> None:
    """It is a codec for the content type that every gRPC peer speaks."""
    codec = MessageCodec()
    assert isinstance(codec, CodecBase)
    assert codec.__content_subtype__ == "proto"


def test_every_library_gets_the_same_bytes(inner: Any, bp: Any) -> None:
    """Messages of any of the three are written alike and read back as their own class."""
    codec = MessageCodec()
    raw = codec.encode(inner(name="a", items=[1, 300]), inner)
    assert raw == encode(bp.Inner(name="a", items=[1, 300]))
    assert codec.decode(raw, inner) == inner(name="a", items=[1, 300])


def test_a_large_message_is_not_copied_and_is_the_same(bp: Any) -> None:
    """Once a class has had large messages they come in pieces, one of them the value itself; small ones come as bytes."""
    codec, large = MessageCodec(), bytes(100_000)
    for message in (bp.Scalars(f_int32=7, f_bytes=large), bp.Nests(inner=bp.Inner(name="n" * 50_000))):
        cls = type(message)
        assert type(codec.encode_pieces(message, cls)) is bytes
        pieces = codec.encode_pieces(message, cls)
        assert isinstance(pieces, Pieces)
        assert (bytes(pieces), len(pieces)) == (encode(message), len(encode(message)))
        assert type(codec.encode(message, cls)) is bytes
        assert codec.encode_pieces(cls(), cls) == b""
    assert any(part is large for part in codec.encode_pieces(bp.Scalars(f_bytes=large), bp.Scalars).parts)  # type: ignore[union-attr] # as seen above


def test_a_message_too_large_is_refused_both_ways(inner: Any) -> None:
    """The limit itself passes, one byte more does not, and the error says both numbers."""
    codec = MessageCodec(max_size=10)
    message = inner(name="12345678")
    assert codec.decode(codec.encode(message, inner), inner) == message
    with pytest.raises(MessageTooLargeError) as sending:
        codec.encode(inner(name="123456789"), inner)
    with pytest.raises(MessageTooLargeError) as receiving:
        codec.decode(b"\x0a\x09123456789", inner)
    assert (sending.value.size, sending.value.limit) == (receiving.value.size, receiving.value.limit) == (11, 10)


def test_a_message_of_another_type_is_refused(inner: Any, flavours: Any) -> None:
    """The method's type is what is sent; the error names both types."""
    with pytest.raises(EncodeError, match="expected a Inner, not a Scalars"):
        MessageCodec().encode(flavours.betterproto.Scalars(), inner)


def test_bad_bytes_raise_a_decode_error(inner: Any) -> None:
    """Whichever library reads them."""
    with pytest.raises(DecodeError, match=r"^Inner: "):
        MessageCodec().decode(b"\x0a\x01\xff", inner)


def test_its_limits_reach_the_decoder(bp: Any) -> None:
    """Depth and number of sub-messages are the codec's."""
    codec = MessageCodec(max_depth=1, max_messages=2)
    assert codec.decode(b"\x22\x00", bp.Inner) == bp.Inner(deeper=bp.Inner())
    with pytest.raises(DecodeError, match="deep"):
        codec.decode(b"\x22\x02\x22\x00", bp.Inner)
    with pytest.raises(EncodeError, match="deep"):
        codec.encode(bp.Inner(deeper=bp.Inner(deeper=bp.Inner())), bp.Inner)
    with pytest.raises(DecodeError, match="more than 2"):
        codec.decode(b"\x12\x00" * 3, bp.Tree)


async def test_a_call_through_grpclib(inner: Any) -> None:
    """A unary call carries messages of any library over grpclib's own channel and server."""

    class Echo:
        async def echo(self, stream: Any) -> None:
            await stream.send_message(await stream.recv_message())

        def __mapping__(self) -> dict[str, Handler]:
            return {"/test.Echo/Echo": Handler(self.echo, Cardinality.UNARY_UNARY, inner, inner)}

    codec = MessageCodec()
    async with (
        ChannelFor([Echo()], codec=codec) as channel,
        channel.request("/test.Echo/Echo", Cardinality.UNARY_UNARY, inner, inner) as stream,
    ):
        await stream.send_message(inner(name="a"), end=True)
        assert await stream.recv_message() == inner(name="a")
