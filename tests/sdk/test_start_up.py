"""What a plugin has loaded when its first call is answered: start-up time, counted in modules."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from supervisor import LogRecord, PluginSpec, Supervisor
from supervisor.records import LogSource

EXAMPLE = Path(__file__).parents[2] / "examples" / "kv"

PLUGIN = """
import sys
before = set(sys.modules)
from supervisor.sdk import serve
from kv_proto import GetRequest, GetResponse, KvBase

class Kv(KvBase):
    async def get(self, message):
        if message.key:
            import structlog
            structlog.get_logger("late").warning("imported in a handler", key=message.key)
        return GetResponse(value="\\n".join(set(sys.modules) - before).encode())

serve(Kv())
"""

PATIENCE = 20.0

NEEDED = {
    "betterproto": "_types casing enum grpc grpc.grpclib_client grpc.grpclib_server utils",
    "grpclib": "const encoding encoding.base exceptions",
    "hpack": "exceptions hpack huffman huffman_constants huffman_table struct table",
    "kv_proto": "",
    "supervisor": "address errors handshake levels quoting terms",
    "supervisor.sdk": """
        context descriptors doors early event_loop hooks host_request host_services hosted last_resort lifeline listener
        log_sink negotiation plugin security serving standard_output stdlib_capture tracebacks when_imported
    """,
    "supervisor.services": """
        announcing broker broker_stream controller flat_messages health log_encoding log_values logs reflection stdio
        wakeup
    """,
    "supervisor.transport": """
        gate generated incoming light_imports refused_size server service sockets tls_records under_way
    """,
    "supervisor.transport.codec": """
        betterproto_messages compiled compiling constructors decode_pieces emit_decode emit_encode foreign message_codec plan
        pieces presence scalars source wire
    """,
    "supervisor.transport.engine": """
        answering choice compression connection call_frames faults flood frames headers metadata peer protocol reading replying
        request roles serving settings stream timers tuning waiting writing
    """,
}
"""Package → its modules: all that is not the standard library's. A name more costs every plugin a tenth of a millisecond
or several; before one is added, see whether it can be imported where it is used."""

LEFT_OUT = {
    "asyncio.sslproto", "concurrent.futures.thread", "decimal", "email", "fnmatch", "hashlib", "http", "importlib.metadata",
    "importlib.util", "ipaddress", "json", "locale", "multiprocessing", "pathlib", "pickle", "platform", "random",
    "secrets", "shlex", "shutil", "ssl", "tempfile", "textwrap", "tomllib", "typing_extensions", "urllib.parse", "uuid",
}  # fmt: skip
"""What asyncio, betterproto or this library import elsewhere, or once did here."""


@pytest.fixture
def plugin(tmp_path: Path) -> PluginSpec:
    """Return a plugin as an author writes it."""
    program = tmp_path / "plugin.py"
    program.write_text(PLUGIN)
    path = os.pathsep.join([*filter(None, sys.path), str(EXAMPLE)])
    return PluginSpec(name="kv", command=(sys.executable, str(program)), env={"PYTHONPATH": path})


async def call(supervisor: Supervisor, key: str = "") -> set[str]:
    """Return the modules that the plugin has loaded when it answers."""
    kv: Any = await supervisor.dispense("kv", _stub())
    async with asyncio.timeout(PATIENCE):
        response = await kv.get(_proto().GetRequest(key=key))
    return set(response.value.decode().split())


def _proto() -> Any:
    sys.path.insert(0, str(EXAMPLE))
    try:
        import kv_proto  # noqa: PLC0415  # the example's own
    finally:
        sys.path.remove(str(EXAMPLE))
    return kv_proto


def _stub() -> Any:
    return _proto().KvStub


async def test_a_plugin_has_loaded_what_its_first_call_needs(plugin: PluginSpec) -> None:
    """Exactly that, under a host with all its streams and probes at their defaults."""
    async with Supervisor([plugin], observers=()) as supervisor:
        loaded = await call(supervisor)
    needed = set(NEEDED)
    needed |= {f"{package}.{module}" for package, modules in NEEDED.items() for module in modules.split()}
    own = {name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names}
    assert own == needed
    assert loaded & LEFT_OUT == set()


async def test_structlog_that_is_imported_late_is_heard_like_any(plugin: PluginSpec) -> None:
    """Its events are records with their fields, although it was not there when serving began."""
    heard: asyncio.Future[LogRecord] = asyncio.get_running_loop().create_future()

    class Listener:
        def on_event(self, event: object) -> None: ...

        def on_record(self, plugin: str, generation: int, pid: int | None, record: LogRecord) -> None:
            if not heard.done():
                heard.set_result(record)

    async with Supervisor([plugin], observers=[Listener()]) as supervisor:
        assert "structlog" in await call(supervisor, key="late")
        async with asyncio.timeout(PATIENCE):
            record = await heard
    assert (record.event, record.logger, record.source) == ("imported in a handler", "late", LogSource.STREAM)
    assert dict(record.fields) == {"key": "late"}
