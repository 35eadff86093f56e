"""The broker with multiplexing: all connections are streams of one, and a knock says whose the next one is.

The side that dials sends a knock with the id, the other side answers with an ack or an error, and after an ack the next
stream that the first side opens belongs to that id. So the knocks of one side must not overlap.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from supervisor._proto.plugin import ConnInfo, ConnInfoKnock
from supervisor.address import Address
from supervisor.errors import BrokerError, ConnectionLostError
from supervisor.quoting import quote_text
from supervisor.terms import Limits
from supervisor.tls import TlsContexts
from supervisor.transport.server import Server
from supervisor.transport.yamux.connection import Multiplexer

if TYPE_CHECKING:
    from supervisor.transport.channel import Channel

__all__ = ["Knocking"]

_ARMED: Final = 5.0
"""Seconds in which a peer whose knock was answered opens its stream."""


class Knocking:
    """Knocks at the other side's services and lets its streams in to this side's."""

    def __init__(
        self,
        send: Callable[[ConnInfo], None],
        multiplexer: Multiplexer,
        *,
        address: Address,
        limits: Limits,
        tls: TlsContexts | None = None,
        main: Callable[[], asyncio.Protocol | None] = lambda: None,
    ) -> None:
        """Prepare, and take over the streams that the peer opens.

        Args:
            send: takes what the other side is to be told.
            multiplexer: the one connection.
            address: where it leads, for messages.
            limits: bounds on connections.
            tls: the contexts of the main connection; None when that is plain text. It is spoken inside each stream.
            main: returns the protocol for a stream that nobody knocked for; refused when None.
        """
        self._send = send
        self._multiplexer = multiplexer
        self._address = address
        self._limits = limits
        self._tls = tls
        self._main = main
        self._doors: dict[int, Callable[[], asyncio.Protocol]] = {}
        self._armed: deque[tuple[int, asyncio.TimerHandle]] = deque()
        self._turn = asyncio.Lock()
        self._answers: dict[int, asyncio.Future[ConnInfo]] = {}
        self._owed: Counter[int] = Counter()
        self._closed: str | None = None
        multiplexer.accept = self._accept
        multiplexer.on_refused = self._refuse

    # --- this side's services --------------------------------------------------------------------------------------

    async def offer(self, service_id: int, server: Server) -> Callable[[], None]:
        """Let streams in to `server`; returns what is to be called when it has stopped. Nothing is sent."""
        if self._closed is not None:
            raise BrokerError(self._closed, service_id=service_id)
        self._doors[service_id] = server.attach(tls=self._tls)
        return partial(self._forget, service_id)

    def _forget(self, service_id: int) -> None:
        self._doors.pop(service_id, None)

    def _take_knock(self, service_id: int) -> None:
        error = ""
        if service_id not in self._doors:
            error = f"no listener for id {service_id}"
        elif len(self._armed) >= self._limits.broker_connections:
            error = "too many knocks and no streams"
        else:
            loop = asyncio.get_running_loop()
            self._armed.append((service_id, loop.call_later(_ARMED, self._armed_in_vain)))
        with suppress(BrokerError):  # nobody is left to be answered
            self._send(ConnInfo(service_id=service_id, knock=ConnInfoKnock(knock=True, ack=True, error=error)))

    def _armed_in_vain(self) -> None:
        self._armed.popleft()  # all wait equally long: the oldest is the one

    def _accept(self) -> asyncio.Protocol | None:
        if not self._armed:
            return self._main()
        door = self._doors.get(self._disarm_self())
        return door() if door is not None else None

    def _refuse(self) -> None:
        """A stream was one too many: the next one is not the one that its knock announced."""
        if self._armed:
            self._disarm_self()

    def _disarm_self(self) -> int:
        service_id, timer = self._armed.popleft()
        timer.cancel()
        return service_id

    # --- the other side's services ---------------------------------------------------------------------------------

    async def connect(self, service_id: int, *, patience: float) -> Channel:
        """Connect to a service of the other side's; one after another.

        Raises:
            BrokerError: nobody offers it.
            ConnectError: there is no speaking with it.
        """
        from supervisor.transport.dial import dial  # noqa: PLC0415 - a plugin that dials nobody starts without it

        await self._take_turn(service_id, patience)
        try:
            await self._knock(service_id, patience)
            return await dial(
                self._address,
                timeout=patience,
                limits=self._limits,
                tls=self._tls,
                over=self._multiplexer,
                invited=True,
            )
        finally:
            self._turn.release()

    async def _take_turn(self, service_id: int, patience: float) -> None:
        """Wait for those who knocked before: peers of go-plugin say nothing to a knock for what they do not offer."""
        try:
            async with asyncio.timeout(patience):
                await self._turn.acquire()
        except TimeoutError:
            raise BrokerError(
                f"{patience:g} s were not enough for the connections that were asked for before this one",
                service_id=service_id,
                hint="dial only what is offered: each id that is not costs the others that time",
            ) from None

    async def _knock(self, service_id: int, patience: float) -> None:
        if self._closed is not None:
            raise BrokerError(self._closed, service_id=service_id)
        if self._multiplexer.is_full:  # now, since a peer that has answered waits for a stream
            raise BrokerError("there are as many multiplexed streams as there may be", service_id=service_id)
        self._send(ConnInfo(service_id=service_id, knock=ConnInfoKnock(knock=True)))
        self._owed[service_id] += 1
        waiter: asyncio.Future[ConnInfo] = asyncio.get_running_loop().create_future()
        self._answers[service_id] = waiter
        try:
            async with asyncio.timeout(patience):
                answer = await waiter
        except TimeoutError:
            self._waste(waiter)
            raise BrokerError(
                f"timeout waiting for multiplexing knock handshake on id {service_id}",
                service_id=service_id,
                hint=f"nobody offers service {service_id}",
            ) from None
        except asyncio.CancelledError:
            self._waste(waiter)
            raise
        finally:
            del self._answers[service_id]
        _check_answer(service_id, answer)

    def _take_answer(self, info: ConnInfo) -> None:
        service_id = info.service_id
        if not self._owed[service_id]:
            return
        self._owed[service_id] -= 1
        if not self._owed[service_id]:
            del self._owed[service_id]
        waiter = self._answers.get(service_id)
        if waiter is not None and not waiter.done():
            waiter.set_result(info)
        elif _is_invitation(info):
            self._disarm()

    def _waste(self, waiter: asyncio.Future[ConnInfo]) -> None:
        """Disarm the peer whose answer came in the moment in which nobody wanted it any more."""
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None and _is_invitation(waiter.result()):
            self._disarm()

    def _disarm(self) -> None:
        """Open a stream for nothing: the peer has answered a knock that was given up, and waits for one."""
        with suppress(ConnectionLostError):
            self._multiplexer.open(asyncio.Protocol(), invited=True).abort()

    # --- both ------------------------------------------------------------------------------------------------------

    def take(self, info: ConnInfo) -> None:
        """Take a knock or the answer to one."""
        if info.knock.knock and not info.knock.ack:
            self._take_knock(info.service_id)
        else:
            self._take_answer(info)

    def close(self, why: str) -> None:
        """Let nobody wait any more."""
        self._closed = why
        for _, timer in self._armed:
            timer.cancel()
        self._armed.clear()
        for service_id, waiter in self._answers.items():
            if not waiter.done():
                waiter.set_exception(BrokerError(why, service_id=service_id))


def _is_invitation(info: ConnInfo) -> bool:
    return info.knock.knock and info.knock.ack and not info.knock.error


def _check_answer(service_id: int, answer: ConnInfo) -> None:
    knock = answer.knock
    if not (knock.knock and knock.ack):
        raise BrokerError(
            f"handshake failed for multiplexing on id {service_id}; expected knock and ack, but got"
            f" knock={knock.knock} ack={knock.ack}",
            service_id=service_id,
        )
    if knock.error:
        said = quote_text(knock.error, mark="", limit=200)
        raise BrokerError(f"failed to knock for id {service_id}: {said}", service_id=service_id)
