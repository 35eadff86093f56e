"""HTTP/2 state that outlives a GOAWAY and costs the same per stream, however many there are."""

from __future__ import annotations

import pytest
from h2.events import ConnectionTerminated, DataReceived, RemoteSettingsChanged, ResponseReceived
from h2.exceptions import FrameTooLargeError
from h2.settings import SettingCodes

from supervisor.transport.http2 import CONNECTION_WINDOW, STREAM_WINDOW, PatientH2Connection, configuration

REQUEST = [(":method", "POST"), (":path", "/a/b"), (":scheme", "http"), (":authority", "x")]


def pair(max_streams: int = 1000) -> tuple[PatientH2Connection, PatientH2Connection]:
    """Return a client and a server that have greeted each other."""
    client = PatientH2Connection(configuration(client_side=True), max_streams=max_streams)
    server = PatientH2Connection(configuration(client_side=False), max_streams=max_streams)
    client.start()
    server.start()
    server.receive_data(client.data_to_send())
    client.receive_data(server.data_to_send())
    server.receive_data(client.data_to_send())
    return client, server


def test_settings_are_in_the_first_frame() -> None:
    """The peer hears of the stream limit and the windows before anything else; there is no moment with less."""
    server = PatientH2Connection(configuration(client_side=False), max_streams=1234)
    client = PatientH2Connection(configuration(client_side=True), max_streams=1)
    server.start()
    client.initiate_connection()
    (settings, *_) = client.receive_data(server.data_to_send())
    assert isinstance(settings, RemoteSettingsChanged)
    assert client.remote_settings.max_concurrent_streams == 1234
    assert client.remote_settings[SettingCodes.INITIAL_WINDOW_SIZE] == STREAM_WINDOW
    assert client.remote_settings.enable_push == 0
    assert client.outbound_flow_control_window == CONNECTION_WINDOW


def test_streams_go_on_after_a_goaway() -> None:
    """Both sides finish the stream that was open when the server went away."""
    client, server = pair()
    client.send_headers(1, REQUEST)
    server.receive_data(client.data_to_send())
    server.go_away()
    (goaway,) = client.receive_data(server.data_to_send())
    assert isinstance(goaway, ConnectionTerminated)
    assert (goaway.last_stream_id, goaway.error_code) == (1, 0)
    client.send_data(1, b"more", end_stream=True)
    (data, _) = server.receive_data(client.data_to_send())
    assert isinstance(data, DataReceived)
    server.send_headers(1, [(":status", "200")], end_stream=True)
    (response, _) = client.receive_data(server.data_to_send())
    assert isinstance(response, ResponseReceived)


def test_closed_streams_are_forgotten() -> None:
    """After many streams, few are remembered as open: what is swept grows with what is open, not with what was."""
    client, server = pair()
    for number in range(2000):
        stream = 2 * number + 1
        client.send_headers(stream, REQUEST, end_stream=True)
        server.receive_data(client.data_to_send())
        server.send_headers(stream, [(":status", "200")], end_stream=True)
        client.receive_data(server.data_to_send())
    assert len(client.streams) < 200
    assert len(server.streams) < 200


def test_header_bytes_of_any_value_are_decoded() -> None:
    """A header that is not ASCII is no reason to lose the connection."""
    client, server = pair()
    client.send_headers(1, REQUEST, end_stream=True)
    server.receive_data(client.data_to_send())
    server.send_headers(1, [(":status", "200"), ("grpc-message", bytes(range(128, 256)))])
    (response,) = client.receive_data(server.data_to_send())
    assert isinstance(response, ResponseReceived)
    assert {str(key): str(value) for key, value in response.headers or []}["grpc-message"] == bytes(
        range(128, 256)
    ).decode("latin-1")


@pytest.mark.parametrize("junk", [b"HTTP/1.1 ", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\x00\x40\x01\0\0\0\0\0\1"])
def test_frame_that_is_too_long_is_refused_by_its_header(junk: bytes) -> None:
    """What is not HTTP/2 is noticed at its ninth byte."""
    client, _ = pair()
    client.receive_data(junk[:8])
    with pytest.raises(FrameTooLargeError):
        client.receive_data(junk[8:])
