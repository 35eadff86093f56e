"""betterproto without what a plugin does not use: nobody can tell the difference, except by the clock."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

LEFT_OUT = (
    "grpclib.server", "h2", "dateutil", "importlib.metadata", "ssl", "asyncio.sslproto", "json", "pathlib",
    "typing_extensions", "betterproto.lib",
)  # fmt: skip


def run(program: str) -> str:
    """Return what a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


PREPARE = "import sys\nfrom supervisor.transport.light_imports import import_betterproto\nimport_betterproto()\n"


def test_what_is_not_used_is_not_loaded() -> None:
    """Nor is anything left where something else stood in."""
    assert run(PREPARE + f"print([name for name in {LEFT_OUT} if name in sys.modules])") == "[]"


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("import grpclib.server; found = grpclib.server.Server.__name__", "Server"),
        ("from grpclib.server import Stream; found = Stream.__module__", "grpclib.server"),
        ("import dateutil.parser; found = hasattr(dateutil.parser, 'parse')", "True"),
        ("import betterproto; found = betterproto.__version__", version("betterproto")),
        ("import betterproto; found = betterproto.isoparse('2020-02-03').day", "3"),
        ("from betterproto import Message; found = Message.__module__", "betterproto"),
        ("import betterproto.lib.google.protobuf as lib; found = lib.Duration(seconds=1).seconds", "1"),
        ("from betterproto import Timestamp; found = Timestamp.__module__", "betterproto.lib.std.google.protobuf"),
        ("import betterproto; found = betterproto.BoolValue(value=True).value", "True"),
        ("import betterproto; found = hasattr(betterproto, 'NothingOfTheSort')", "False"),
        ("import typing_extensions; found = hasattr(typing_extensions, 'deprecated')", "True"),
        ("import ssl; found = ssl.SSLContext.__name__", "SSLContext"),
        ("import asyncio; found = asyncio.sslproto.SSLProtocol.__name__", "SSLProtocol"),
        ("import asyncio.sslproto, ssl; found = asyncio.sslproto.ssl is ssl", "True"),
    ],
)
def test_whoever_asks_gets_the_real_one(statement: str, value: str) -> None:
    """Modules that stood in are gone when somebody imports them."""
    assert run(f"{PREPARE}{statement}\nprint(found)") == value


MESSAGE = """
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Optional
import betterproto

@dataclass
class Everything(betterproto.Message):
    moment: datetime = betterproto.message_field(1)
    span: timedelta = betterproto.message_field(2)
    wrapped: Optional[str] = betterproto.message_field(3, wraps=betterproto.TYPE_STRING)

message = Everything(datetime(2020, 2, 3, tzinfo=timezone.utc), timedelta(hours=-1), "x")
print(bytes(message).hex(), Everything().parse(bytes(message)) == message, message.to_json())
print(Everything().from_json(message.to_json()) == message)
"""


def test_what_betterproto_needs_them_for_works_as_before() -> None:
    """Its own codec and its JSON, for messages with points in time, spans and wrappers."""
    assert run(PREPARE + MESSAGE) == run(MESSAGE)


ASYNCIO_WITH_TLS = """
import asyncio, socket, ssl

async def main():
    listener = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context())
    except (ssl.SSLError, ConnectionError) as error:
        print("refused")
    listener.close()

asyncio.run(main())
"""


def test_asyncio_speaks_tls_when_somebody_wants_it() -> None:
    """A plugin's own code may open such connections."""
    assert run(PREPARE + ASYNCIO_WITH_TLS) == "refused"


def test_betterproto_that_was_imported_is_left_alone() -> None:
    """An application may have imported it first."""
    assert run("import betterproto\n" + PREPARE + "print('dateutil.parser' in sys.modules)") == "True"
