"""Our server and the clients of grpcio (threads and asyncio), grpclib and grpc-go, each in a process of its own."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from grpc_peer import CANCELLED, Peer, pattern, summary
from grpc_processes import CLIENTS, SIZES, PeerProcess
from grpclib.const import Status

from supervisor.address import TcpAddress, UnixAddress
from supervisor.spec import Limits
from supervisor.tls import TlsContexts
from supervisor.transport.engine.details import StatusDetailsCodec
from supervisor.transport.server import Server

MIB = 1 << 20

numbers = itertools.count()


class OwnPeer(Peer):
    """The service for our server."""

    def details(self, data: bytes) -> Any:
        return StatusDetailsCodec().decode(Status.OK, None, data)


class Asked:
    """A server of ours, and a client of another's that calls it.

    Attributes:
        server: ours.
        client: the process.
        told: what each of its calls is told beside what a test tells it.
    """

    def __init__(self, server: Server, client: PeerProcess, told: dict[str, Any]) -> None:
        self.server = server
        self.client = client
        self.told = told

    def tell(self, method: str, *requests: bytes | int, **options: Any) -> None:
        """Have calls made; a number is a message of so many bytes."""
        parts = [{"size": part} if isinstance(part, int) else {"text": part.decode()} for part in requests]
        self.client.say(json.dumps({"method": method, "requests": parts, **self.told, **options}))

    async def hear(self) -> Any:
        """Return what came of them, a list."""
        return await self.client.hear()

    async def call(self, method: str, *requests: bytes | int, **options: Any) -> dict[str, Any]:
        """Have one call made, and return what came of it."""
        self.tell(method, *requests, **options)
        found: dict[str, Any]
        (found,) = await self.hear()
        return found


Ask = Callable[..., Awaitable[Asked]]


@pytest_asyncio.fixture
async def ask(
    clients: Callable[[str], PeerProcess], secrets: Path, tls: TlsContexts, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Ask]:
    """Return a function that serves, and has a client call: `ask("go", "tls")`."""
    servers: list[Asked] = []
    errors: list[Any] = []

    async def make(client: str, transport: str = "unix", limits: Limits | None = None, **told: Any) -> Asked:
        number = next(numbers)
        server = Server([OwnPeer()], limits=limits, engine="lean", on_error=lambda *error: errors.append(error))
        address = UnixAddress(str(secrets / f"s{number}")) if transport == "unix" else TcpAddress("127.0.0.1", 0)
        where = await server.start(address, tls=tls if transport == "tls" else None)
        asked = Asked(
            server,
            clients(client),
            {
                "channel": str(number),
                "target": f"unix:{where}" if transport == "unix" else str(where),
                **({"tls": str(secrets)} if transport == "tls" else {}),
                **told,
            },
        )
        servers.append(asked)
        return asked

    yield make
    for asked in servers:
        if asked.server.connections:
            await asked.call("Echo", b"last", close=True, timeout=5)
        await asked.server.stop()
    assert errors == []


def of(*messages: bytes) -> list[list[int]]:
    """Return what is told of messages received."""
    return [[len(message), zlib.crc32(message)] for message in messages]


@pytest.mark.parametrize("method", ["Echo", "Down", "Up", "Relay"])
@pytest.mark.parametrize(("transport", "size"), SIZES)
@pytest.mark.parametrize("client", CLIENTS)
async def test_every_kind_and_size(ask: Ask, client: str, transport: str, method: str, size: int) -> None:
    """Messages of any size arrive whole, both ways, by every kind of call and on every transport."""
    asked = await ask(client, transport)
    data = pattern(size)
    calls: dict[str, tuple[tuple[bytes | int, ...], dict[str, Any], list[bytes]]] = {
        "Echo": ((size,), {}, [data]),
        "Down": ((b"2:%d" % size,), {}, [data, data]),
        "Up": ((size, size), {}, [summary([data, data])]),
        "Relay": ((size, size), {"in_turn": True}, [data, data]),
    }
    requests, options, expected = calls[method]
    found = await asked.call(method, *requests, **options)
    assert (found["code"], found["received"]) == (0, of(*expected)), found["message"]


@pytest.mark.parametrize(
    ("client", "size"), [*((name, 5 * MIB) for name in CLIENTS), ("go", 32 * MIB), ("grpcio", 32 * MIB)]
)
async def test_large_messages(ask: Ask, client: str, size: int) -> None:
    """So do large ones, many times the windows."""
    asked = await ask(client)
    assert (await asked.call("Echo", size))["received"] == of(pattern(size))
    assert (await asked.call("Up", size, size))["received"] == of(summary([pattern(size)] * 2))


@pytest.mark.parametrize("client", CLIENTS)
async def test_streams_of_many_messages(ask: Ask, client: str) -> None:
    """Thousands of small messages arrive in order, both ways."""
    asked = await ask(client)
    assert (await asked.call("Down", b"3000:100"))["received"] == of(*[pattern(100)] * 3000)
    parts = [b"%d" % number for number in range(1000)]
    assert (await asked.call("Up", *parts))["received"] == of(summary(parts))
    assert (await asked.call("Up"))["received"] == of(summary([]))
    assert (await asked.call("Down", b"0:0"))["received"] == []
    assert (await asked.call("Relay", *parts[:300], in_turn=True))["received"] == of(*parts[:300])


# --- statuses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
@pytest.mark.parametrize("client", CLIENTS)
async def test_each_status(ask: Ask, client: str, status: Status) -> None:
    """Each status arrives as itself."""
    asked = await ask(client)
    found = await asked.call("Fail", json.dumps({"code": status.value, "message": "why"}).encode())
    assert (found["code"], found["message"], found["received"]) == (status.value, "why", [])


TEXTS = {
    "empty": "",
    "percent": "100% of %41 %zz",
    "UTF-8": "nöt föund: 見つからない 🦀",
    "control": "a\r\nb\tc\x7f",
    "long": "x" * 3000,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("client", CLIENTS)
async def test_texts_of_statuses(ask: Ask, client: str, text: str) -> None:
    """What a status says arrives as it was, whatever characters it has."""
    asked = await ask(client)
    found = await asked.call("Fail", json.dumps({"code": 5, "message": text}).encode())
    assert (found["code"], found["message"]) == (5, text)


@pytest.mark.parametrize("client", CLIENTS)
async def test_details_of_statuses(ask: Ask, client: str) -> None:
    """The details of a status arrive."""
    asked = await ask(client)
    detail = b"\x1a\x11\x0a\x0atype/First\x12\x03one"
    details = base64.b64encode(b"\x08\x05\x12\x03why" + detail).decode()
    found = await asked.call("Fail", json.dumps({"code": 5, "message": "why", "details": details}).encode())
    assert (found["code"], found["message"], found["details"]) == (5, "why", details)


@pytest.mark.parametrize("client", CLIENTS)
async def test_status_in_mid_stream(ask: Ask, client: str) -> None:
    """A status after headers and messages arrives after the messages."""
    in_turn = client != "grpclib"  # whose client fails differently unless it has sent all
    found = await (await ask(client)).call("Relay", b"a", b"b", b"fail", in_turn=in_turn)
    assert (found["code"], found["message"], found["received"]) == (10, "enough", of(b"a", b"b"))


@pytest.mark.parametrize("client", CLIENTS)
async def test_method_that_is_none(ask: Ask, client: str) -> None:
    """A method that nobody serves is answered UNIMPLEMENTED."""
    asked = await ask(client)
    for method in ("Nothing", "N" * 3000):
        found = await asked.call(method, b"x")
        assert found["code"] == Status.UNIMPLEMENTED.value


# --- metadata ----------------------------------------------------------------------------------------------------------

METADATA: dict[str, list[tuple[str, Any]]] = {
    "one": [("x-a", "value")],
    "binary": [("x-a-bin", b"\x00\xff\x80binary"), ("x-b-bin", b"\x00")],
    "every byte": [("x-a-bin", bytes(range(256)))],
    "paddings": [(f"x-{size}-bin", b"\xfe" * size) for size in range(1, 6)],
    "duplicates": [("x-a", "one"), ("x-a", "two"), ("x-b-bin", b"1"), ("x-b-bin", b"2")],
    "long": [("x-a", "v" * 3000), ("x-b-bin", b"\x01" * 2000)],
    "many": [(f"x-key-{number}", f"value {number}") for number in range(100)],
    "odd characters": [("x-a_b.c-0", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")],
}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA)
@pytest.mark.parametrize("client", CLIENTS)
async def test_metadata(ask: Ask, client: str, metadata: list[tuple[str, Any]]) -> None:
    """What the peer sends, we send back, in headers and in trailers."""
    asked = await ask(client)
    told = [[key, base64.b64encode(value).decode() if isinstance(value, bytes) else value] for key, value in metadata]
    found = await asked.call("Echo", b"x", metadata=told)
    assert found["code"] == 0, found["message"]
    for back in (found["initial"], found["trailing"]):
        # Between keys the order is nobody's promise; among the values of one it is.
        assert sorted(back, key=lambda field: field[0]) == sorted(told, key=lambda field: field[0])


@pytest.mark.parametrize("client", CLIENTS)
async def test_metadata_that_changes_from_call_to_call(ask: Ask, client: str) -> None:
    """Header compression keeps in step over calls whose headers differ and repeat."""
    asked = await ask(client)
    for number in range(100):
        told = [["x-a", "same"], ["x-b", str(number % 7)], [f"x-{number % 40}", "v" * (1 + number % 50)]]
        found = await asked.call("Echo", b"x", metadata=told, timeout=10 + number % 3)
        assert sorted(found["trailing"]) == sorted(told)


# --- deadlines and cancellation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
async def test_deadline_is_understood(ask: Ask, client: str) -> None:
    """We know how long there is, in any unit."""
    asked = await ask(client)
    assert (await asked.call("Left", b""))["received"] == of(b"none")
    for timeout in (2, 5000, 400_000):
        asked.tell("Left", b"", timeout=timeout)
        (found,) = await asked.hear()
        assert found["code"] == 0
        assert found["received"][0][0] in {len(str(timeout)) + 2, len(str(timeout)) + 3}


@pytest.mark.parametrize("method", ["Hang", "Follow"])
@pytest.mark.parametrize("client", CLIENTS)
async def test_deadline_passes(ask: Ask, client: str, method: str) -> None:
    """A deadline that passes ends the call there and its handler here, and the connection goes on."""
    asked = await ask(client)
    found = await asked.call(method, b"token", timeout=0.1)
    assert found["code"] == Status.DEADLINE_EXCEEDED.value
    assert (await asked.call("Ended", b"token"))["received"] == of(CANCELLED)


@pytest.mark.parametrize("client", CLIENTS)
async def test_cancellation_of_a_unary_call(ask: Ask, client: str) -> None:
    """A caller that cancels cancels our handler, and the connection goes on."""
    asked = await ask(client)
    asked.tell("Hang", b"token", cancel_after=0)
    assert await asked.hear() == "begun"
    (found,) = await asked.hear()
    assert found["code"] == Status.CANCELLED.value
    async with asyncio.timeout(5):
        while asked.server.in_flight:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("client", CLIENTS)
async def test_cancellation_in_mid_stream(ask: Ask, client: str) -> None:
    """A stream that is left in the middle is cancelled here."""
    asked = await ask(client)
    found = await asked.call("Follow", b"token", cancel_after=1)
    assert (found["code"], found["received"]) == (Status.CANCELLED.value, of(b"begun"))
    assert (await asked.call("Ended", b"token"))["received"] == of(CANCELLED)
    found = await asked.call("Down", b"10000:30000", cancel_after=3)
    assert (found["code"], found["received"][:3]) == (Status.CANCELLED.value, of(*[pattern(30_000)] * 3))
    async with asyncio.timeout(5):
        while asked.server.in_flight:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("client", CLIENTS)
async def test_server_that_ends_first(ask: Ask, client: str) -> None:
    """Our handler has heard enough while the client still sends: the call ends well."""
    asked = await ask(client)
    found = await asked.call("Relay", b"a", b"stop", *[20_000] * 30, in_turn=True)
    assert found["received"] == of(b"a")
    if client == "grpclib":
        # Its client calls it a failure that the server ends first, and takes the reset behind the status for another.
        assert found["message"] in {"", "Outgoing stream was not ended", "Stream reset by remote party, error_code: 0"}
    else:
        assert found["code"] == 0


@pytest.mark.parametrize("client", CLIENTS)
async def test_half_close(ask: Ask, client: str) -> None:
    """Our response goes on after the request's end."""
    asked = await ask(client)
    found = await asked.call("Relay", *[100] * 20)
    assert (found["code"], found["received"]) == (0, of(*[pattern(100)] * 20))


# --- compression -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100, 100_000, MIB])
@pytest.mark.parametrize("client", ["grpcio", "grpcio-aio", "go"])
async def test_gzip_both_ways(ask: Ask, client: str, size: int) -> None:
    """We read gzipped requests, and the peer reads our gzipped replies."""
    asked = await ask(client)
    for gzip, metadata in itertools.product((False, True), ([], [["x-zip", "1"]])):
        found = await asked.call("Echo", size, gzip=gzip, metadata=metadata)
        assert (found["code"], found["received"]) == (0, of(pattern(size))), found["message"]
    found = await asked.call("Up", size, size, gzip=True)
    assert found["received"] == of(summary([pattern(size)] * 2))


# --- limits, pings and the end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
async def test_more_calls_than_we_take(ask: Ask, client: str) -> None:
    """A client keeps to our limit on calls, and all are served."""
    asked = await ask(client, limits=Limits(calls_in_flight=10))
    await asked.call("Echo", b"x")  # now it knows the limit
    asked.tell("Echo", b"x", parallel=200)
    results = await asked.hear()
    assert [found["received"] for found in results] == [of(b"x")] * 200
    asked.tell("Relay", b"x", b"y", parallel=60)
    results = await asked.hear()
    assert [found["received"] for found in results] == [of(b"x", b"y")] * 60


@pytest.mark.parametrize("client", CLIENTS)
async def test_request_over_our_limit(ask: Ask, client: str) -> None:
    """A request that is larger than we take is refused by its prefix, and the connection goes on."""
    asked = await ask(client, limits=Limits(message_size=10_000))
    found = await asked.call("Echo", 3_000_000)
    assert found["code"] == Status.RESOURCE_EXHAUSTED.value
    assert (await asked.call("Echo", b"next"))["received"] == of(b"next")


@pytest.mark.parametrize("client", ["grpcio", "grpcio-aio"])
async def test_keepalive_pings(ask: Ask, client: str) -> None:
    """A client that pings finds us alive, with calls under way and without."""
    asked = await ask(client, pings=True)
    assert (await asked.call("Hang", b"token", timeout=0.5))["code"] == Status.DEADLINE_EXCEEDED.value
    assert (await asked.call("Echo", b"next"))["received"] == of(b"next")
    assert asked.server.connections == 1


@pytest.mark.parametrize("client", ["grpcio", "grpcio-aio", "go"])  # grpclib's ends all calls at a GOAWAY
async def test_stop_under_calls(ask: Ask, client: str) -> None:
    """A stop lets a call finish, and answers one that outlasts it UNAVAILABLE."""
    asked = await ask(client)
    asked.tell("Down", b"2000:20000")
    while not asked.server.in_flight:
        await asyncio.sleep(0.001)
    assert await asked.server.stop(10) == 0
    (found,) = await asked.hear()
    assert (found["code"], len(found["received"])) == (0, 2000)

    asked = await ask(client)
    asked.tell("Hang", b"token")
    while not asked.server.in_flight:
        await asyncio.sleep(0.001)
    assert await asked.server.stop(0) == 1
    (found,) = await asked.hear()
    assert found["code"] == Status.UNAVAILABLE.value
