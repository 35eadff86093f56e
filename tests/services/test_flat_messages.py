"""The messages written by hand, held against betterproto's generated classes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor._proto import plugin
from supervisor._proto.grpc.health import v1 as health
from supervisor._proto.supervisor.logs import v1 as logs
from supervisor.errors import DecodeError
from supervisor.services import flat_messages as flat
from supervisor.transport.codec import MessageCodec, decode, encode

UINT32 = st.integers(0, 2**32 - 1)
ENUM = st.integers(-(2**31), 2**31 - 1)

PAIRS: list[tuple[Any, Any, dict[str, st.SearchStrategy[Any]]]] = [
    (flat.Empty, plugin.Empty, {}),
    (flat.FollowRequest, logs.FollowRequest, {"level": UINT32}),
    (flat.HealthCheckRequest, health.HealthCheckRequest, {"service": st.text()}),
    (flat.HealthCheckResponse, health.HealthCheckResponse, {"status": ENUM}),
    (flat.StdioData, plugin.StdioData, {"channel": ENUM, "data": st.binary(max_size=300)}),
]
EACH_PAIR = pytest.mark.parametrize(("ours", "generated", "fields"), PAIRS)


@EACH_PAIR
@given(data=st.data())
def test_both_write_the_same_and_read_each_other(
    ours: Any, generated: Any, fields: dict[str, st.SearchStrategy[Any]], data: st.DataObject
) -> None:
    """Bytes and values agree both ways."""
    values = {name: data.draw(strategy, name) for name, strategy in fields.items()}
    written = ours(**values).SerializeToString()
    assert written == encode(generated(**values))
    read = ours.FromString(written)
    assert {name: getattr(read, name) for name in fields} == values


@EACH_PAIR
@given(data=st.binary(max_size=60))
def test_both_refuse_the_same_bytes(ours: Any, generated: Any, fields: dict[str, Any], data: bytes) -> None:
    """Whatever arrives is read as the generated class reads it, or refused by the codec's own error."""
    codec = MessageCodec()
    try:
        expected = decode(generated, data)
    except DecodeError:
        with pytest.raises(DecodeError):
            codec.decode(data, ours)
    else:
        read = codec.decode(data, ours)
        assert {name: getattr(read, name) for name in fields} == {name: getattr(expected, name) for name in fields}


@EACH_PAIR
@pytest.mark.parametrize(
    "data",
    [
        b"\x08\x96\x01",
        b"\x12\x01a\x12\x00",
        b"\x0a\x05ab",
        b"\x08",
        b"\x00\x01",
        b"\x0a\x01\xff",
        b"\x0b\x08\x01\x0c",
        b"\x0f",
    ],
)
def test_both_read_corner_cases_alike(ours: Any, generated: Any, fields: dict[str, Any], data: bytes) -> None:
    """Long numbers, repeated and unknown fields, groups, and what is cut short or wrong."""
    test_both_refuse_the_same_bytes.hypothesis.inner_test(ours, generated, fields, data)


@given(data=st.binary(max_size=60))
def test_a_raw_message_is_its_bytes(data: bytes) -> None:
    """Nobody looks into it."""
    assert flat.RawMessage.FromString(data).SerializeToString() == data
