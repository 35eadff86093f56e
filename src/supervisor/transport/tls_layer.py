"""TLS between any transport and any protocol: a socket, memory, or a stream of a multiplexed connection.

asyncio's own layer wraps its own transports only, waits half a minute for a peer that does not say goodbye, and does not
send its alert when it refuses a certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any, Final

from supervisor.errors import CertificateError, ConfigurationError, ConnectError, TransportError
from supervisor.tls import TlsContexts
from supervisor.transport.sockets import read_leftover
from supervisor.transport.tls import ALPN
from supervisor.transport.tls_errors import NOT_PINNED, NOT_TLS, WANTS_TLS, explain
from supervisor.transport.tls_records import is_tls_record

__all__ = ["TlsProtocol"]

_CHUNK: Final = 64 * 1024

_ALERT: Final = 64
"""Bytes that may be waiting for a peer without its having stopped to read: no more than an alert."""

_HANDSHAKE: Final = 10.0
"""Seconds that a server gives a client for the handshake; a client's are bounded by whoever dials."""


class TlsProtocol(asyncio.Protocol):
    """What a transport is given in place of `upper`, which is connected once the handshake is done and checked.

    `upper` hears of `connection_lost` only if it was connected. After a failure the peer is sent TLS's alert and the
    connection is closed.

    Attributes:
        secured: done when `upper` is connected; fails with a TransportError when it never will be.
        failure: what went wrong with TLS, then or later; None when nothing has.
    """

    def __init__(
        self,
        upper: asyncio.Protocol,
        tls: TlsContexts,
        *,
        server_side: bool,
        on_secured: Callable[[], None] | None = None,
        on_refused: Callable[[TransportError], None] | None = None,
    ) -> None:
        """Prepare.

        Args:
            upper: the protocol that is to speak through TLS.
            tls: the contexts and the certificates that they pin.
            server_side: which of TLS's two roles this side has.
            on_secured: called right before `upper` is connected.
            on_refused: told why a handshake failed.

        Raises:
            ConfigurationError: `tls` has no context for this role.
        """
        context = tls.server if server_side else tls.client
        if context is None:
            raise ConfigurationError(f"tls has no context for a {'server' if server_side else 'client'}")
        self._loop = asyncio.get_running_loop()
        self.secured: asyncio.Future[None] = self._loop.create_future()
        self.failure: TransportError | None = None
        self._upper = upper
        self._pinned = tls.pinned
        self._on_secured = on_secured
        self._on_refused = on_refused
        self._server_side = server_side
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(
            self._incoming, self._outgoing, server_side, None if server_side else tls.server_name
        )
        self._lower: asyncio.Transport | None = None
        self._transport: _TlsTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._spoken_to = False
        self._reading = True
        self._ended = False

    # --- what the lower transport says -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._lower = lower = transport  # type: ignore[assignment] # a stream's transport
        if self._ended:
            lower.abort()  # type: ignore[attr-defined] # see above
            return
        if self._server_side:
            self._timer = self._loop.call_later(_HANDSHAKE, self._give_up)
        self._advance()

    def data_received(self, data: bytes) -> None:
        """Take what the peer sent."""
        if self._ended:
            return
        if not self._spoken_to and not is_tls_record(data):
            if self._server_side:
                self._write_lower(WANTS_TLS)  # OpenSSL says nothing to those who do not speak TLS
            self._fail(ConnectError(NOT_TLS))
            return
        self._spoken_to = True
        self._incoming.write(data)
        self._advance()

    def eof_received(self) -> None:
        """Take the end; HTTP/2 says itself where it ends, so that one without TLS's goodbye is as good."""
        if not self._ended:
            self._incoming.write_eof()
            self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        """End with the lower transport."""
        if self._lower is not None and (leftover := read_leftover(self._lower, exc)):
            self.data_received(leftover)
        self._stop_timer()
        self._ended = True
        if self._transport is not None:
            upper, self._transport = self._upper, None
            upper.connection_lost(self.failure or exc)
        else:
            self._refuse(ConnectError(f"the connection ended in the TLS handshake{f': {exc}' if exc else ''}"))

    def pause_writing(self) -> None:
        """Hand on that the socket is full."""
        if self._transport is not None:
            self._upper.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that it takes bytes again."""
        if self._transport is not None:
            self._upper.resume_writing()

    # --- TLS -------------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        try:
            if self._transport is None and not self._shake_hands():
                return
            self._receive()
        except ssl.SSLError as error:
            self._fail(explain(error, pinned=bool(self._pinned)))
        except TransportError as error:
            self._fail(error)
        finally:
            self.flush()

    def _shake_hands(self) -> bool:
        """Go on with the handshake; return whether `upper` is connected."""
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self._stop_timer()
        if self._pinned and self._ssl.getpeercert(binary_form=True) not in self._pinned:
            raise CertificateError(NOT_PINNED, phase="connect")
        if self._ssl.selected_alpn_protocol() != ALPN:
            raise ConnectError("the peer does not speak HTTP/2 over TLS: it did not agree to ALPN 'h2'")
        assert self._lower is not None
        self._transport = transport = _TlsTransport(self, self._lower, self._ssl, self._upper)
        if not self.secured.done():
            self.secured.set_result(None)
        if self._on_secured is not None:
            self._on_secured()
        # What it writes at once goes out in one piece with the end of the handshake: a server that refuses the
        # certificate has then read all, and closes without the reset that would overtake its alert.
        self._upper.connection_made(transport)
        return True

    def _receive(self) -> None:
        """Decrypt what there is, and hand it on in one piece."""
        pieces: list[bytes] = []
        ended = False
        try:
            while self._reading and not self._ended:
                piece = self._ssl.read(_CHUNK)
                if not piece:
                    ended = True
                    break
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLEOFError:
            ended = True
        finally:
            if pieces and not self._ended:
                self._upper.data_received(b"".join(pieces))
        if ended:
            self.close()

    def flush(self) -> None:
        """Write what TLS wants sent."""
        if self._outgoing.pending:
            self._write_lower(self._outgoing.read())

    def _write_lower(self, data: bytes) -> None:
        if self._lower is not None and not self._lower.is_closing():
            self._lower.write(data)

    def send(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Encrypt and write."""
        if self._ended:
            return
        view = memoryview(data)
        try:
            while view:
                view = view[self._ssl.write(view) :]
        except ssl.SSLError as error:
            self._fail(explain(error, pinned=bool(self._pinned)))
        self.flush()

    def set_reading(self, reading: bool) -> None:
        """Hold back what arrives, or hand it on again."""
        self._reading = reading
        if self._lower is None or self._ended:
            return
        if reading:
            self._lower.resume_reading()
            self._loop.call_soon(self._resume)
        else:
            self._lower.pause_reading()

    def _resume(self) -> None:
        if not self._ended:
            self._advance()

    # --- the end ---------------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether nothing is sent or received any more."""
        return self._ended

    def close(self) -> None:
        """Say goodbye and close when the peer has taken what was written, without waiting for its goodbye."""
        if self._ended:
            return
        self._ended = True
        with contextlib.suppress(ssl.SSLError):  # the peer's goodbye is missing, or there was no handshake
            self._ssl.unwrap()
        self.flush()
        if self._lower is not None:
            self._lower.close()

    def abort(self) -> None:
        """Close now, whatever state the connection is in; nobody is told that it was refused. Idempotent."""
        self._ended = True
        self._on_refused = None
        if self._lower is not None:
            self._lower.abort()

    def _give_up(self) -> None:
        self._refuse(ConnectError(f"no TLS handshake within {_HANDSHAKE:g} s"))
        self.abort()

    def _fail(self, error: TransportError) -> None:
        """End with an alert to the peer, if TLS has one to send."""
        self.failure = error
        self._ended = True
        lower = self._lower
        assert lower is not None
        stuck = lower.get_write_buffer_size() > _ALERT
        self.flush()
        lower.close()
        if stuck:
            lower.abort()
        if self._transport is None:
            self._refuse(error)

    def _refuse(self, error: TransportError) -> None:
        self._stop_timer()
        if self.secured.done():
            return
        self.secured.set_exception(error)
        self.secured.exception()  # nobody may be waiting, which is no reason for a warning
        if self._on_refused is not None:
            self._on_refused(error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _TlsTransport(asyncio.Transport):
    """What `upper` writes to."""

    def __init__(
        self, layer: TlsProtocol, lower: asyncio.Transport, ssl_object: ssl.SSLObject, upper: asyncio.Protocol
    ) -> None:
        super().__init__({"ssl_object": ssl_object})
        self._layer = layer
        self._lower = lower
        self._protocol: asyncio.BaseProtocol = upper
        self._reads = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of TLS as `ssl_object`, and otherwise what the lower transport knows."""
        known = super().get_extra_info(name)
        return self._lower.get_extra_info(name, default) if known is None else known

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol above."""
        return self._protocol

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send bytes; those written after the end are dropped."""
        self._layer.send(data)

    def get_write_buffer_size(self) -> int:
        """Return how many encrypted bytes the socket has not taken."""
        return self._lower.get_write_buffer_size()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._layer.ended or self._lower.is_closing()

    def is_reading(self) -> bool:
        """Whether what arrives is handed on."""
        return self._reads

    def pause_reading(self) -> None:
        """Hold back what arrives."""
        self._reads = False
        self._layer.set_reading(False)

    def resume_reading(self) -> None:
        """Hand it on again."""
        self._reads = True
        self._layer.set_reading(True)

    def close(self) -> None:
        """Close when the peer has taken what was written."""
        self._layer.close()

    def abort(self) -> None:
        """Close now."""
        self._layer.abort()
