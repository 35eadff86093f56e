"""What a plugin program prints, and how it fails, before it serves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from raw_host import RawHost

Start = Callable[..., RawHost]


async def test_nothing_printed_before_serve_reaches_the_handshakes_pipe(start: Start) -> None:
    """From the import of the sdk on: prints, flushed or not, raw writes, children, and structlog's default logger."""
    host = start(
        """
        print("printed", flush=True)
        print("not flushed")
        os.write(1, b"written raw\\n")
        structlog.get_logger().warning("logged by structlog's default")
        subprocess.run(["echo", "said by a child"], check=True)
        async def on_call(text): return text.upper()
        serve(Control(on_call))
        """
    )
    assert host.handshake_line.startswith(b"1|1|unix|")
    for said in ("printed", "not flushed", "written raw", "logged by structlog's default", "said by a child"):
        assert said in await host.stderr_line(said)
    await host.connect()
    assert await host.call("hello") == "HELLO"
    assert host.stdout.wait_for(lambda _: True) == host.handshake_line


async def test_an_error_before_serve_is_one_record(start: Start) -> None:
    """Which a Go host shows as an ERROR; the exit status is Python's own."""
    host = start('raise LookupError("there is no configuration")')
    event = await host.stderr_event("before serve()")

    assert event["@level"] == "error"
    assert event["@message"] == "uncaught LookupError before serve()"
    assert event["exception"].endswith("LookupError: there is no configuration")
    assert await host.wait() == 1
    assert host.stdout.all() == b""


async def test_a_plugin_that_never_serves_leaves_stdout_empty(start: Start) -> None:
    """A host is told so by the end of the pipe, and not by a line that it takes for a handshake."""
    host = start('print("1|1|unix|/nowhere|grpc")')

    assert await host.wait() == 0
    assert host.stdout.all() == b""
    assert host.stderr.all() == b"1|1|unix|/nowhere|grpc\n"


async def test_what_a_plugin_starts_keeps_its_stdout(start: Start) -> None:
    """A program that imports the sdk and is none of a host's own prints where it is told to."""
    host = start(
        """
        async def on_call(_):
            code = "import supervisor.sdk; print('from the tool')"
            return subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout
        serve(Control(on_call))
        """
    )
    await host.connect()
    assert await host.call() == "from the tool\n"


@pytest.mark.parametrize("variables", [{}, {"PLUGIN_PROTOCOL_VERSIONS": "1"}])
def test_importing_the_sdk_elsewhere_changes_nothing(variables: dict[str, str], tmp_path: object) -> None:
    """No host, or no pipe to one: a file on descriptor 1 is nobody's handshake."""
    out = f"{tmp_path}/out"
    code = "import sys, supervisor.sdk; print('kept'); assert sys.excepthook is sys.__excepthook__"
    with open(out, "wb") as file:
        subprocess.run(
            [sys.executable, "-c", code], stdout=file, env={"PYTHONPATH": ":".join(sys.path), **variables}, check=True
        )

    with open(out, "rb") as file:
        assert file.read() == b"kept\n"
