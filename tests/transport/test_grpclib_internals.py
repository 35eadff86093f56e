"""The names of grpclib and h2 that are not public and that the transport uses: a change of them shows here first."""

from __future__ import annotations

import inspect
from dataclasses import fields
from importlib.metadata import version

import grpclib.client
import grpclib.config
import grpclib.events
import grpclib.metadata
import grpclib.protocol
import grpclib.server
import grpclib.utils
import h2.connection
import h2.frame_buffer
import pytest

PARAMETERS = {
    grpclib.client.Stream.__init__: (
        "self channel method_name metadata cardinality send_type recv_type codec status_details_codec dispatch deadline"
    ),
    grpclib.client.Stream._raise_for_status: "self headers_map",
    grpclib.client.Stream._raise_for_content_type: "self headers_map",
    grpclib.client.Stream._process_grpc_status: "self headers_map",
    grpclib.client.Stream._raise_for_grpc_status: "self status message details",
    grpclib.client.Stream._maybe_raise: "self",
    grpclib.client.Channel.__init__: "self host port loop path codec status_details_codec ssl config",
    grpclib.client.Channel.__connect__: "self",
    grpclib.client.Channel._create_connection: "self",
    grpclib.server.Stream.__init__: (
        "self stream method_name cardinality recv_type send_type codec status_details_codec dispatch deadline"
        " user_agent"
    ),
    grpclib.server.Server.__init__: "self handlers loop codec status_details_codec config",
    grpclib.server.Server._protocol_factory: "self",
    grpclib.protocol.Stream.__init__: "self connection h2_connection transport stream_id wrapper",
    grpclib.protocol.Stream.send_request: "self headers end_stream _processor",
    grpclib.protocol.Connection.__init__: "self connection transport config",
    grpclib.protocol.Connection.create_stream: "self stream_id wrapper",
    grpclib.protocol.EventsProcessor.__init__: "self handler connection",
    grpclib.protocol.EventsProcessor.register: "self stream",
    grpclib.protocol.AbstractHandler.accept: "self stream headers release_stream",
    grpclib.protocol.H2Protocol.__init__: "self handler config h2_config",
    grpclib.utils.Wrapper.cancel: "self error",
    grpclib.metadata.decode_bin_value: "value",
    h2.connection.H2Connection._open_streams: "self remainder",
    h2.connection.H2Connection._prepare_for_sending: "self frames",
    h2.connection.H2Connection._receive_goaway_frame: "self frame",
    h2.frame_buffer.FrameBuffer._validate_frame_length: "self length",
}


@pytest.mark.parametrize("function", PARAMETERS, ids=lambda function: function.__qualname__)
def test_parameters_are_the_ones_we_pass(function: object) -> None:
    """A function that we call or override takes what it took in grpclib 0.4.9 and h2 4."""
    assert callable(function)
    assert list(inspect.signature(function).parameters) == PARAMETERS[function].split()  # type: ignore[index] # a key


def test_client_stream_keeps_its_state_where_we_look() -> None:
    """The attributes that a client's call reads and writes exist, with the values they start from."""
    stream = grpclib.client.Stream
    for name in ("_send_request_done", "_send_message_done", "_end_done", "_cancel_done"):
        assert getattr(stream, name) is False
    assert stream._recv_initial_metadata_done is False
    assert stream._recv_trailing_metadata_done is False
    assert stream._trailers_only is None
    source = inspect.getsource(stream)
    for name in ("self._wrapper", "self._stream", "self._release_stream", "self._dispatch.recv_trailing_metadata"):
        assert name in source


def test_server_stream_keeps_its_state_where_we_look() -> None:
    """The attributes that a served call reads exist, with the values they start from."""
    stream = grpclib.server.Stream
    for name in ("_send_initial_metadata_done", "_send_message_done", "_send_trailing_metadata_done", "_cancel_done"):
        assert getattr(stream, name) is False


async def test_channel_and_server_keep_their_parts_where_we_look() -> None:
    """The attributes that our channel and server reuse are set by grpclib's constructors."""
    channel = grpclib.client.Channel()
    for name in ("_protocol", "_codec", "_status_details_codec", "_scheme", "_authority", "_calls_started"):
        assert hasattr(channel, name)
    assert isinstance(channel.__dispatch__, grpclib.events._DispatchChannelEvents)
    server = grpclib.server.Server([])
    for name in ("_mapping", "_codec", "_status_details_codec", "_config", "_loop"):
        assert hasattr(server, name)
    assert isinstance(server.__dispatch__, grpclib.events._DispatchServerEvents)


def test_keepalive_can_be_switched_off() -> None:
    """The configuration field that switches HTTP/2 pings off is there, and stays off on both sides."""
    assert "_keepalive_time" in {field.name for field in fields(grpclib.config.Configuration)}
    configuration = grpclib.config.Configuration(_keepalive_time=None)
    assert configuration.__for_server__()._keepalive_time is None
    assert configuration.__for_client__()._keepalive_time is None


def test_h2_keeps_its_parts_where_we_look() -> None:
    """The attributes of an h2 connection that we replace or read exist."""
    connection = h2.connection.H2Connection()
    for name in ("local_settings", "remote_settings", "incoming_buffer", "streams", "highest_inbound_stream_id"):
        assert hasattr(connection, name)
    assert isinstance(connection.incoming_buffer._data, bytearray)
    assert isinstance(h2.connection.H2Connection.open_outbound_streams, property)
    assert isinstance(h2.connection.H2Connection.open_inbound_streams, property)


def test_version_is_the_one_that_was_read() -> None:
    """Grpclib's minor version is the one whose source the transport was written against."""
    assert version("grpclib").split(".")[:2] == ["0", "4"]
