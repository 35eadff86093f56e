"""The broker, both ways and in both directions, between two sides in one process."""

from __future__ import annotations

import asyncio
import functools
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from errands import Greeter, GreeterStub

from supervisor._proto.plugin import ConnInfo, ConnInfoKnock
from supervisor.address import Address, MemoryAddress, UnixAddress
from supervisor.errors import BrokerError, ConnectError, ConnectionLostError, HandshakeError, TransportError
from supervisor.services.announcing import Announcing, Place
from supervisor.services.broker import Broker, Way
from supervisor.services.broker_stream import BrokerService, ConnInfoStream, follow
from supervisor.services.health import HealthService
from supervisor.services.knocking import Knocking
from supervisor.terms import Limits
from supervisor.tls import TlsContexts
from supervisor.transport.dial import dial
from supervisor.transport.memory import join_memory
from supervisor.transport.server import Server
from supervisor.transport.tls import make_identity
from supervisor.transport.yamux.connection import Multiplexer

WAYS = ("plain", "multiplexed")
SIDES = ("host offers", "plugin offers")


@dataclass
class Sides:
    """A host's broker and a plugin's, and what is between them."""

    host: Broker
    plugin: Broker
    folder: Path
    infos: dict[Broker, ConnInfoStream]
    ways: dict[Broker, Any]
    multiplexers: tuple[Multiplexer, ...]

    def between(self, side: str) -> tuple[Broker, Broker]:
        """Return who offers and who dials."""
        return (self.host, self.plugin) if side == "host offers" else (self.plugin, self.host)


Connect = Callable[..., Awaitable[Sides]]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a path short enough for sockets; empty again at the end."""
    with tempfile.TemporaryDirectory(prefix="plg-") as name:
        yield Path(name)
        assert list(Path(name).iterdir()) == []


@pytest.fixture
async def sides(folder: Path, no_task_left: None) -> AsyncIterator[Connect]:
    """Return a function that connects two brokers; `carried=False` leaves out the stream between them."""
    async with AsyncExitStack() as stack:

        async def connect(
            way: str,
            *,
            limits: Limits | None = None,
            patience: float = 5.0,
            tls: tuple[TlsContexts, TlsContexts] | tuple[None, None] = (None, None),
            carried: bool = True,
            main: Any = lambda: None,
            streams: tuple[int, int] = (50, 50),
            **options: Any,
        ) -> Sides:
            limits = limits or Limits()
            infos = (ConnInfoStream(), ConnInfoStream())
            multiplexers: tuple[Multiplexer, ...] = ()
            ways: list[Way] = []
            if way == "plain":
                for each, own_tls in zip(infos, tls, strict=True):
                    place = functools.partial(new_place, folder)
                    ways.append(Announcing(each.send, choose_place=place, limits=limits, tls=own_tls, **options))
            else:
                multiplexers = (
                    Multiplexer(client=True, limit=streams[0]),
                    Multiplexer(client=False, limit=streams[1]),
                )
                join_memory(*multiplexers)
                address = MemoryAddress("multiplexed")
                mains = (lambda: None, main)
                for each, multiplexer, own_tls, own_main in zip(infos, multiplexers, tls, mains, strict=True):
                    knocking = Knocking(
                        each.send, multiplexer, address=address, limits=limits, tls=own_tls, main=own_main, **options
                    )
                    ways.append(knocking)
                    stack.callback(multiplexer.close)
            brokers = [Broker(e, w, limits=limits, patience=patience) for e, w in zip(infos, ways, strict=True)]
            for broker in brokers:
                stack.push_async_callback(broker.aclose)
            if carried:
                await carry(stack, infos)
            return Sides(
                brokers[0], brokers[1], folder, dict(zip(brokers, infos, strict=True)),
                dict(zip(brokers, ways, strict=True)), multiplexers,
            )  # fmt: skip

        yield connect


def new_place(folder: Path) -> Place:
    """Return a place for a service."""
    return Place(UnixAddress(str(folder / secrets.token_hex(4))))


async def turns_until(ready: Callable[[], bool]) -> None:
    """Let the loop go round until something has happened; bounded."""
    async with asyncio.timeout(10):
        while not ready():
            await asyncio.sleep(0)


async def carry(stack: AsyncExitStack, infos: tuple[ConnInfoStream, ConnInfoStream]) -> None:
    """Exchange the messages of a host's stream and a plugin's, over a connection in memory."""
    service = BrokerService(infos[1])
    server = Server([service])
    address = MemoryAddress(secrets.token_hex(8))
    await server.start(address)
    channel = await dial(address, timeout=5)
    stack.push_async_callback(server.stop)
    stack.callback(service.close)
    stack.callback(channel.close)
    following = asyncio.create_task(follow(channel, infos[0]))
    stack.push_async_callback(functools.partial(asyncio.wait, [following]))
    stack.callback(following.cancel)


def pinned() -> tuple[TlsContexts, TlsContexts]:
    """Return what a host and a plugin have after AutoMTLS: each trusts the other's certificate, in both roles."""
    host, plugin = make_identity(), make_identity()
    return host.pin(plugin.certificate), plugin.pin(host.certificate)


@pytest.mark.parametrize("security", ["plain text", "mTLS"])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("way", WAYS)
async def test_service_is_called_by_the_other_side(sides: Connect, way: str, side: str, security: str) -> None:
    """All eight of go-plugin's combinations: who offers, how it is reached, with and without TLS."""
    offering, dialling = (await sides(way, tls=pinned() if security == "mTLS" else (None, None))).between(side)

    async with offering.offer(Greeter(str.upper)) as service_id, dialling.dial(service_id, GreeterStub) as greeter:
        assert await greeter.greet("hello") == "HELLO"


@pytest.mark.parametrize("way", WAYS)
async def test_ids_are_each_sides_own_and_begin_with_one(sides: Connect, way: str) -> None:
    """An id names a service of the other side's, so that both may give out the same."""
    both = await sides(way)

    assert [await both.host.offer(Greeter()), await both.host.offer(Greeter()), await both.plugin.offer(Greeter())] == [
        1,
        2,
        1,
    ]


@pytest.mark.parametrize("way", WAYS)
async def test_services_of_many_ids_do_not_mix(sides: Connect, way: str) -> None:
    """Dialled all at once, each id leads to its own service; multiplexed, the knocks wait for each other."""
    both = await sides(way)
    names = [f"service {number}" for number in range(10)]
    ids = [await both.plugin.offer(Greeter(lambda _, name=name: name)) for name in names]  # type: ignore[misc]

    stubs = await asyncio.gather(*(both.host.dial(service_id, GreeterStub) for service_id in ids))

    assert [await stub.greet("") for stub in stubs] == names


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("way", WAYS)
async def test_service_can_be_dialled_again(sides: Connect, way: str, side: str) -> None:
    """And at any time while it is offered; go-plugin's own dialler has one chance, and five seconds."""
    offering, dialling = (await sides(way)).between(side)
    service_id = await offering.offer(Greeter(str.upper))

    for _ in range(3):
        async with dialling.dial(service_id, GreeterStub) as greeter:
            assert await greeter.greet("again") == "AGAIN"


async def test_address_may_come_after_the_dial(sides: Connect) -> None:
    """Whoever is first waits for the other."""
    both = await sides("plain")
    dialled = asyncio.ensure_future(both.host.connect(1))
    await asyncio.sleep(0)
    await both.plugin.offer(Greeter())

    assert not (await dialled).is_lost


@pytest.mark.parametrize(
    ("way", "text"),
    [
        ("plain", "timeout waiting for connection info"),
        ("multiplexed", "failed to knock for id 7: no listener for id 7"),
    ],
)
@pytest.mark.parametrize("side", SIDES)
async def test_nobodys_id_is_an_error(sides: Connect, way: str, side: str, text: str) -> None:
    """In go-plugin's words; a peer of ours that knows better says so at once."""
    _, dialling = (await sides(way, patience=0.05)).between(side)

    with pytest.raises(BrokerError, match=text) as caught:
        await dialling.dial(7, GreeterStub)

    assert caught.value.service_id == 7


async def test_knock_that_nobody_answers_is_an_error(sides: Connect) -> None:
    """Go's side answers knocks for its own ids only."""
    both = await sides("multiplexed", patience=0.05, carried=False)

    with pytest.raises(BrokerError, match="timeout waiting for multiplexing knock handshake on id 7"):
        await both.host.dial(7, GreeterStub)


@pytest.mark.parametrize("way", WAYS)
async def test_withdrawn_service_is_gone(sides: Connect, way: str) -> None:
    """Its calls are cut, its connections closed, its id leads nowhere and its socket is removed."""
    both = await sides(way, patience=0.1)
    called = asyncio.Event()

    async def hang(name: str) -> str:
        called.set()
        await asyncio.get_running_loop().create_future()
        return name

    async with both.host.offer(Greeter(hang)) as service_id:
        greeter = await both.plugin.dial(service_id, GreeterStub)
        calling = asyncio.ensure_future(greeter.greet("x"))
        await called.wait()

    with pytest.raises(Exception, match="the server is stopping"):
        await calling
    with pytest.raises(TransportError):
        await both.plugin.dial(service_id, GreeterStub)
    assert list(both.folder.iterdir()) == []
    assert both.plugin.open_connections == both.host.open_connections == 0


@pytest.mark.parametrize("way", WAYS)
async def test_block_of_a_dial_hangs_up(sides: Connect, way: str) -> None:
    """Awaited it stays connected, entered it does not."""
    both = await sides(way)
    service_id = await both.host.offer(Greeter(str.upper))

    stub = await both.plugin.dial(service_id, GreeterStub)
    async with both.plugin.dial(service_id, GreeterStub) as greeter:
        await greeter.greet("a")
    assert await stub.greet("b") == "B"
    with pytest.raises(ConnectionLostError):
        await greeter.greet("c")
    assert both.plugin.open_connections == 1


@pytest.mark.parametrize("way", WAYS)
async def test_what_may_be_open_is_limited(sides: Connect, way: str) -> None:
    """Offers and connections count together; what ends makes room."""
    both = await sides(way, limits=Limits(broker_connections=2))
    theirs = await both.plugin.offer(Greeter(str.upper))
    async with both.host.offer(Greeter()):
        await both.host.dial(theirs, GreeterStub)
        with pytest.raises(BrokerError, match="2 brokered services and connections"):
            await both.host.offer(Greeter())
        with pytest.raises(BrokerError, match="2 brokered services and connections"):
            await both.host.dial(theirs, GreeterStub)

    async with both.host.dial(theirs, GreeterStub) as greeter:
        assert await greeter.greet("room") == "ROOM"


async def test_connections_to_a_service_are_limited(sides: Connect) -> None:
    """Whatever the other side counts: the one that offers turns away what is too much."""
    both = await sides("plain", limits=Limits(broker_connections=2))
    service_id = await both.host.offer(Greeter(str.upper))
    (path,) = both.folder.iterdir()
    channels = [await dial(UnixAddress(str(path)), timeout=5) for _ in range(2)]

    with pytest.raises(ConnectError):
        await dial(UnixAddress(str(path)), timeout=5)
    channels.pop().close()
    (server,) = both.ways[both.host]._servers
    await turns_until(lambda: server.connections == 1)
    async with both.plugin.dial(service_id, GreeterStub) as greeter:
        assert await greeter.greet("room") == "ROOM"
    channels.pop().close()


@pytest.mark.parametrize("way", WAYS)
async def test_everything_ends_with_the_broker(sides: Connect, way: str) -> None:
    """Services, connections, sockets and whoever waits."""
    both = await sides(way)
    greeter = await both.host.dial(await both.plugin.offer(Greeter()), GreeterStub)
    served = await both.plugin.dial(await both.host.offer(Greeter()), GreeterStub)
    both.ways[both.plugin].take = lambda _: None  # as a peer that does not answer
    both.infos[both.plugin].on_info = lambda _: None
    waiting = asyncio.ensure_future(both.host.connect(99))
    await turns_until(lambda: both.host._connecting == 1)

    both.host.abort()

    with pytest.raises(BrokerError, match="broker closed"):
        await waiting
    with pytest.raises(ConnectionLostError):
        await greeter.greet("x")
    with pytest.raises(ConnectionLostError):
        await served.greet("x")
    for late in (both.host.offer(Greeter()), both.host.dial(1, GreeterStub)):
        with pytest.raises((BrokerError, ConnectError)):
            await late
    await both.plugin.aclose()
    assert both.host.open_connections == 0


@pytest.mark.parametrize("way", WAYS)
async def test_plugin_without_a_broker(way: str, sides: Connect) -> None:
    """The host says why it cannot offer or dial."""
    both = await sides(way, carried=False)
    server = Server([HealthService()])
    address = MemoryAddress(secrets.token_hex(8))
    await server.start(address)
    channel = await dial(address, timeout=5)

    await follow(channel, both.infos[both.host])

    for late in (both.host.offer(Greeter()), both.host.dial(1, GreeterStub)):
        with pytest.raises(BrokerError, match=r"does not serve plugin\.GRPCBroker"):
            await late
    channel.close()
    await server.stop()


# --- addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "address", "why"),
    [
        ("udp", "127.0.0.1:1", "unknown network 'udp'"),
        ("unix", "relative", "is not absolute"),
        ("tcp", "192.0.2.1:80", "not on the loopback"),
        ("memory", "host", "unknown network 'memory'"),
    ],
)
async def test_address_that_cannot_be_is_refused(sides: Connect, network: str, address: str, why: str) -> None:
    """What the other side announces is checked as the handshake's address is."""
    both = await sides("plain")
    both.infos[both.plugin].send(ConnInfo(service_id=5, network=network, address=address))

    with pytest.raises(BrokerError, match=why):
        await both.host.dial(5, GreeterStub)


async def test_address_is_checked_and_translated(sides: Connect) -> None:
    """By whoever knows the process: it may refuse, or say where the address is from the outside."""
    asked: list[Address] = []

    def check(address: Address) -> Address:
        asked.append(address)
        raise HandshakeError("somebody else's socket")

    both = await sides("plain", check_address=check)
    service_id = await both.plugin.offer(Greeter())

    with pytest.raises(BrokerError, match="somebody else's socket"):
        await both.host.dial(service_id, GreeterStub)
    assert [str(address) for address in asked] == [str(path) for path in both.folder.iterdir()]


async def test_strangers_are_turned_away(sides: Connect) -> None:
    """Before a byte is exchanged, and they see a connection that ends."""

    def check(_: object) -> None:
        raise TransportError("it is not part of the plugin")

    both = await sides("plain", check_client=check)
    service_id = await both.host.offer(Greeter())

    with pytest.raises(ConnectError):
        await both.plugin.dial(service_id, GreeterStub)


async def test_addresses_kept_are_limited(sides: Connect) -> None:
    """A peer that announces without end displaces its own oldest addresses."""
    both = await sides("plain", limits=Limits(broker_connections=3), patience=0.05)
    way = both.ways[both.host]
    for number in range(1, 100):
        way.take(ConnInfo(service_id=number, network="udp", address="x"))

    with pytest.raises(BrokerError, match="timeout waiting"):
        await both.host.dial(1, GreeterStub)
    with pytest.raises(BrokerError, match="unknown network"):
        await both.host.dial(99, GreeterStub)


async def test_announcement_is_kept_no_longer_than_an_address(sides: Connect) -> None:
    """What a plugin says is not kept in full for as long as it lives."""
    both = await sides("plain")
    way = both.ways[both.host]
    way.take(ConnInfo(service_id=1, network="unix", address="x" * 1_000_000))

    assert len(way._infos[1].address) == 1024


@pytest.mark.parametrize("way", WAYS)
async def test_stub_that_cannot_be_made_leaves_no_connection(sides: Connect, way: str) -> None:
    """The connection was there already."""
    both = await sides(way)
    service_id = await both.plugin.offer(Greeter())

    def stub(_: object) -> None:
        raise ValueError("no stub")

    with pytest.raises(ValueError, match="no stub"):
        await both.host.dial(service_id, stub)
    assert both.host.open_connections == 0


async def test_offering_is_good_for_one_offer(sides: Connect) -> None:
    """Its end would withdraw the last of them only."""
    offering = (await sides("plain")).host.offer(Greeter())
    async with offering:
        with pytest.raises(RuntimeError, match="call offer"):
            await offering


# --- knocks -------------------------------------------------------------------------------------------------------


async def test_stream_that_nobody_knocked_for(sides: Connect) -> None:
    """The plugin takes it for its main server, which is how a host's channel reconnects; the host refuses it."""
    main = Server([Greeter(lambda _: "main")])
    both = await sides("multiplexed", main=main.attach())
    address = MemoryAddress("multiplexed")

    channel = await dial(address, timeout=5, over=both.multiplexers[0])
    assert await GreeterStub(channel).greet("") == "main"
    with pytest.raises(ConnectError):
        await dial(address, timeout=5, over=both.multiplexers[1])
    channel.close()
    await main.stop()


async def test_knock_that_is_given_up_leads_nobody_astray(sides: Connect) -> None:
    """The peer that answered it waits for a stream; it gets one for nothing, and the next one goes where it should."""
    both = await sides("multiplexed")
    first = await both.plugin.offer(Greeter(lambda _: "first"))
    second = await both.plugin.offer(Greeter(lambda _: "second"))

    for turns in range(12):  # wherever the cancellation comes
        given_up = asyncio.ensure_future(both.host.connect(first))
        for _ in range(turns):
            await asyncio.sleep(0)
        given_up.cancel()
        with suppress(asyncio.CancelledError):
            (await given_up).close()
        async with both.host.dial(second, GreeterStub) as greeter:
            assert await greeter.greet("") == "second"


async def test_stream_too_many_leads_nobody_astray(sides: Connect) -> None:
    """The side that has no room for it is not left waiting for the stream of its knock."""
    both = await sides("multiplexed", streams=(50, 1))
    first = await both.plugin.offer(Greeter(lambda _: "first"))
    second = await both.plugin.offer(Greeter(lambda _: "second"))

    async with both.host.dial(first, GreeterStub):
        with pytest.raises(ConnectError):
            await both.host.dial(first, GreeterStub)
    await turns_until(lambda: both.multiplexers[1].session.streams == 0)
    async with both.host.dial(second, GreeterStub) as greeter:
        assert await greeter.greet("") == "second"


async def test_side_without_room_does_not_knock(sides: Connect) -> None:
    """The peer that answered would be left waiting for a stream, and take the next one for it."""
    both = await sides("multiplexed", streams=(1, 50))
    first = await both.plugin.offer(Greeter(lambda _: "first"))
    second = await both.plugin.offer(Greeter(lambda _: "second"))

    async with both.host.dial(first, GreeterStub):
        with pytest.raises(BrokerError, match="as many multiplexed streams"):
            await both.host.dial(first, GreeterStub)
    await turns_until(lambda: both.multiplexers[0].session.streams == 0)
    async with both.host.dial(second, GreeterStub) as greeter:
        assert await greeter.greet("") == "second"


async def test_dial_waits_no_longer_for_others_than_for_itself(sides: Connect) -> None:
    """Peers of go-plugin do not answer a knock for what they do not offer, and only one knock can be open."""
    both = await sides("multiplexed", patience=0.05, carried=False)
    outcomes = await asyncio.gather(*(both.host.connect(number) for number in (3, 4, 5)), return_exceptions=True)

    assert all(isinstance(outcome, BrokerError) for outcome in outcomes)
    assert any("asked for before this one" in str(outcome) for outcome in outcomes)


async def test_late_answer_to_a_knock_is_used_up(sides: Connect) -> None:
    """Nobody waits for it any more, but the peer does for a stream."""
    both = await sides("multiplexed", patience=0.05, carried=False)
    opened: list[str] = []
    both.multiplexers[1].accept = lambda: opened.append("stream")
    with pytest.raises(BrokerError, match="timeout"):
        await both.host.dial(3, GreeterStub)

    answer = ConnInfo(service_id=3, knock=ConnInfoKnock(knock=True, ack=True))
    both.ways[both.host].take(answer)
    both.ways[both.host].take(answer)  # nobody knocked twice
    await turns_until(lambda: bool(opened))

    assert opened == ["stream"]


@pytest.mark.parametrize(
    ("knock", "text"),
    [
        (ConnInfoKnock(knock=True, ack=True, error="not today"), "failed to knock for id 3: not today"),
        (ConnInfoKnock(knock=False, ack=True), "expected knock and ack, but got knock=False ack=True"),
    ],
)
async def test_refused_knock_says_why(sides: Connect, knock: ConnInfoKnock, text: str) -> None:
    """The other side's words are passed on."""
    both = await sides("multiplexed", carried=False)
    dialled = asyncio.ensure_future(both.host.connect(3))
    await asyncio.sleep(0)
    both.ways[both.host].take(ConnInfo(service_id=3, knock=knock))

    with pytest.raises(BrokerError, match=text):
        await dialled


async def test_plain_messages_mean_nothing_to_a_multiplexed_broker_and_the_reverse(sides: Connect) -> None:
    """A peer that mixes them up is answered with silence, and nothing breaks."""
    knocking, announcing = await sides("multiplexed"), await sides("plain", patience=0.05)
    knocking.ways[knocking.host].take(ConnInfo(service_id=1, network="unix", address="/x"))
    announcing.ways[announcing.host].take(ConnInfo(service_id=1, knock=ConnInfoKnock(knock=True)))

    service_id = await knocking.plugin.offer(Greeter(str.upper))
    async with knocking.host.dial(service_id, GreeterStub) as greeter:
        assert await greeter.greet("fine") == "FINE"
    with pytest.raises(BrokerError, match="timeout waiting for connection info"):
        await announcing.host.dial(1, GreeterStub)


async def test_knock_without_a_stream_is_forgotten(sides: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that is answered opens its stream at once; one that comes much later was not meant for the knock."""
    monkeypatch.setattr("supervisor.services.knocking._ARMED", 0.01)
    main = Server([Greeter(lambda _: "main")])
    both = await sides("multiplexed", main=main.attach())
    service_id = await both.plugin.offer(Greeter(lambda _: "brokered"))
    both.ways[both.plugin].take(ConnInfo(service_id=service_id, knock=ConnInfoKnock(knock=True)))
    await turns_until(lambda: not both.ways[both.plugin]._armed)

    channel = await dial(MemoryAddress("multiplexed"), timeout=5, over=both.multiplexers[0])
    assert await GreeterStub(channel).greet("") == "main"
    channel.close()
    await main.stop()


async def test_latest_host_has_the_stream(sides: Connect) -> None:
    """A plugin serves one host at a time; what it wants to say waits for the next."""
    infos = ConnInfoStream()
    server = Server([BrokerService(infos)])
    address = MemoryAddress(secrets.token_hex(8))
    await server.start(address)
    channels = [await dial(address, timeout=5) for _ in range(2)]
    received: list[asyncio.Queue[int]] = []
    following = []
    for channel in channels:
        own, heard = ConnInfoStream(), asyncio.Queue[int]()
        own.on_info = lambda info, heard=heard: heard.put_nowait(info.service_id)  # type: ignore[misc]
        received.append(heard)
        following.append(asyncio.ensure_future(follow(channel, own)))
        if len(following) == 2:
            await asyncio.wait_for(following[0], 5)
        infos.send(ConnInfo(service_id=len(received)))
        assert await asyncio.wait_for(heard.get(), 5) == len(received)

    assert received[0].empty()
    for channel in channels:
        channel.close()
    await asyncio.wait(following)
    await server.stop()
