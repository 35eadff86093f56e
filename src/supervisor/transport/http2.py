"""The HTTP/2 state of one connection: h2's, minus what makes it lose calls or time.

`h2.H2Connection` forgets every stream when a GOAWAY passes (python-hyper/h2#1181), counts its streams one by one for
each new one (quadratic in the calls in flight), ends the connection when the peer opens one stream too many, and
raises on a header that is not ASCII.
"""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame, GoAwayFrame

__all__ = ["CONNECTION_WINDOW", "STREAM_WINDOW", "PatientH2Connection", "configuration"]

CONNECTION_WINDOW = 2**31 - 1
"""Bytes that the peer may have under way on all streams: the protocol's largest, so that one unread stream, which is
held back by its own window, never blocks the others."""

STREAM_WINDOW = 1 << 20
"""Bytes that the peer may have under way on one stream."""

_MAX_HEADER_LIST = 64 * 1024
_SWEEP_FROM = 64
_FRAME_HEADER = 9


def configuration(*, client_side: bool) -> H2Configuration:
    """Return grpclib's configuration, with headers decoded so that no byte can raise."""
    return H2Configuration(
        client_side=client_side,
        header_encoding="latin-1",
        validate_inbound_headers=False,
        validate_outbound_headers=False,
        normalize_inbound_headers=False,
        normalize_outbound_headers=False,
    )


class _StrictFrameBuffer(FrameBuffer):
    """Refuses a frame by the length in its header; h2 would first wait for all of it, up to 16 MiB.

    What is not HTTP/2 at all announces itself this way: the first bytes of `HTTP/1.1` are a length of 4 MiB.
    """

    def __next__(self) -> Frame:
        if len(self._data) >= _FRAME_HEADER:
            self._validate_frame_length(int.from_bytes(self._data[:3], "big"))
        return super().__next__()


class PatientH2Connection(H2Connection):
    """Finishes its streams around a GOAWAY and leaves the stream limit to the connection that owns it."""

    def __init__(self, config: H2Configuration, *, max_streams: int) -> None:
        super().__init__(config)
        # Announced in the first SETTINGS frame, so that there is no moment with h2's own limit of 100.
        self.local_settings = Settings(
            client=config.client_side,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.MAX_CONCURRENT_STREAMS: max_streams,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: _MAX_HEADER_LIST,
            },
        )
        self.incoming_buffer = _StrictFrameBuffer(server=not config.client_side)
        self._sweep_at = _SWEEP_FROM

    def start(self) -> None:
        """Queue the preface, the settings and the window of the connection."""
        self.initiate_connection()
        self.increment_flow_control_window(CONNECTION_WINDOW - self.inbound_flow_control_window)

    def go_away(self) -> None:
        """Queue a GOAWAY: streams that the peer has opened are served to their end, later ones are not."""
        frame = GoAwayFrame(0, last_stream_id=self.highest_inbound_stream_id, error_code=ErrorCodes.NO_ERROR)
        self._prepare_for_sending([frame])

    @property
    def open_outbound_streams(self) -> int:
        """Always 0: the connection counts its own calls and lets them queue."""
        self._sweep()
        return 0

    @property
    def open_inbound_streams(self) -> int:
        """Always 0: the connection refuses one stream too many instead of ending all."""
        self._sweep()
        return 0

    def _sweep(self) -> None:
        """Forget closed streams, at a cost that is constant per stream."""
        if len(self.streams) >= self._sweep_at:
            self._open_streams(0)
            self._sweep_at = 2 * len(self.streams) + _SWEEP_FROM

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        event = ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        event.additional_data = frame.additional_data or None
        return [], [event]
