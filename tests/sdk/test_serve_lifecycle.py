"""A real plugin program: the handshake, its descriptors, and all the ways in which it ends."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from raw_host import PATIENCE, RawHost

from supervisor.address import TcpAddress
from supervisor.services import controller, health, logs, stdio

Start = Callable[..., RawHost]


# --- start -------------------------------------------------------------------------------------------------------------


async def test_the_handshake_is_one_exact_line(start: Start) -> None:
    """Five fields, a socket inside the host's directory that only its owner may use, and nothing else on stdout."""
    host = start()
    line = host.handshake_line.decode()
    where = re.escape(str(host.socket_directory))
    assert re.fullmatch(rf"1\|1\|unix\|{where}/plugin[0-9a-f]{{8}}\|grpc\n", line)
    assert stat.S_IMODE(os.stat(host.socket_path).st_mode) == 0o600
    host.send_signal(signal.SIGTERM)
    await host.wait()
    assert host.stdout.all().decode() == line


async def test_it_answers_calls(start: Start) -> None:
    """The servicer given to serve() is reachable right after the handshake."""
    host = start()
    await host.connect()
    assert await host.call("hello") == "HELLO"


async def test_without_the_cookie_it_says_so_and_exits_1(start: Start) -> None:
    """A human who runs the program by hand reads three lines on stderr; stdout stays empty."""
    host = start(SUPERVISOR_PLUGIN="")
    assert await host.wait() == 1
    assert host.stderr.all().decode().splitlines() == [
        "This binary is a plugin. These are not meant to be executed directly.",
        "Please execute the program that consumes these plugins, which will",
        "load any plugins automatically",
    ]
    assert host.stdout.all() == b""


@pytest.mark.parametrize(("offered", "spoken"), [("3,1,2", 2), ("1", 1), ("9", 1), ("", 1)])
async def test_it_speaks_the_highest_common_version(start: Start, offered: str, spoken: int) -> None:
    """With nothing in common it speaks its own lowest, and each version has its own servicers."""
    host = start(
        """
        def answering(text):
            async def on_call(_): return f"{text} {current().version}"
            return [Control(on_call)]
        serve(versions={1: answering("one"), 2: answering("two")})
        """,
        PLUGIN_PROTOCOL_VERSIONS=offered,
    )
    assert host.handshake.version == spoken
    await host.connect()
    assert await host.call() == {1: "one 1", 2: "two 2"}[spoken]


async def test_a_host_that_asks_about_multiplexing_is_told_yes(start: Start) -> None:
    """The seventh field appears only when asked for."""
    assert start(PLUGIN_MULTIPLEX_GRPC="true").handshake.multiplex is True


async def test_without_a_directory_it_makes_a_private_one(start: Start, tmp_path: Path) -> None:
    """A host that names no directory gets a socket in one of mode 0700, which goes away with the plugin."""
    host = start(PLUGIN_UNIX_SOCKET_DIR="", TMPDIR=str(tmp_path))
    directory = Path(host.socket_path).parent
    assert directory.parent == tmp_path
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    host.send_signal(signal.SIGTERM)
    assert await host.wait() == 0
    assert not directory.exists()


async def test_it_listens_on_tcp_when_asked(start: Start) -> None:
    """The port comes from the host's range, on the loopback interface."""
    host = start(
        "async def on_call(text): return text.upper()\nserve(Control(on_call), network='tcp')",
        PLUGIN_MIN_PORT="20000",
        PLUGIN_MAX_PORT="25000",
    )
    address = host.handshake.address
    assert isinstance(address, TcpAddress)
    assert address.host == "127.0.0.1"
    assert 20000 <= address.port <= 25000
    await host.connect()
    assert await host.call("hello") == "HELLO"


async def test_a_start_that_fails_is_one_json_line_and_status_1(start: Start, tmp_path: Path) -> None:
    """What goes wrong in serve() is told as an hclog record with the traceback in it."""
    host = start(PLUGIN_UNIX_SOCKET_DIR=str(tmp_path / ("x" * 100)))
    event = await host.stderr_event("longer than the 107 bytes")
    assert event["@level"] == "error"
    assert event["exception"].startswith("Traceback (most recent call last):")
    assert await host.wait() == 1
    assert host.stdout.all() == b""


NOT_LOADED = (
    "supervisor.host", "supervisor.config", "supervisor.runners", "supervisor.transport.channel", "supervisor.transport.dial",
    "supervisor.transport.protocol", "msgspec", "cryptography", "h2", "hyperframe", "grpclib.server", "grpclib.client",
    "grpclib.protocol", "dateutil", "importlib.metadata", "google.protobuf", "uvloop",
)  # fmt: skip
"""What a plugin can do without until its first call is answered; asyncio itself loads `ssl`."""


async def test_a_plugin_loads_only_what_it_needs(start: Start) -> None:
    """The other engine, the host's wing, and what betterproto imports for uses that a plugin has not are left out."""
    host = start(
        f"""
        import sys
        async def on_call(_):
            return " ".join(name for name in {NOT_LOADED!r} if name in sys.modules)
        serve(Control(on_call))
        """
    )
    await host.connect()
    assert await host.call() == ""


@pytest.mark.parametrize(("engine", "loaded"), [("lean", "False"), ("grpclib", "True")])
async def test_it_speaks_with_the_engine_that_it_is_told(start: Start, engine: str, loaded: str) -> None:
    """grpclib's, on h2, is loaded for those who choose it."""
    host = start(
        f"""
        import sys
        async def on_call(_): return str("h2" in sys.modules)
        serve(Control(on_call), engine={engine!r})
        """
    )
    await host.connect()
    assert await host.call() == loaded


async def test_it_runs_on_uvloop_when_asked_to(start: Start) -> None:
    """With the extra `speed` installed, which the tests' own brings."""
    host = start(
        """
        import asyncio
        async def on_call(_): return type(asyncio.get_running_loop()).__module__
        serve(Control(on_call), event_loop="uvloop")
        """
    )
    await host.connect()
    assert await host.call() == "uvloop"


async def test_an_event_loop_that_is_not_there_is_said_so(start: Start) -> None:
    """A name that nobody knows, or uvloop without the package, ends the start with a hint."""
    host = start("serve(Control(print), event_loop='other')")
    assert await host.wait() == 1
    assert "there is no event loop 'other'" in await host.stderr_line("ConfigurationError: there")


# --- descriptors -------------------------------------------------------------------------------------------------------


async def test_stray_output_never_reaches_the_handshakes_pipe(start: Start) -> None:
    """Prints before serve(), a child's output and raw writes to descriptor 1 all land on stderr."""
    host = start(
        """
        print("printed early")
        async def on_call(_):
            os.write(1, b"written raw\\n")
            subprocess.run(["echo", "said by a child"], check=True)
            print("printed unheard")
        serve(Control(on_call))
        """
    )
    await host.connect()
    await host.call()
    for said in ("printed early", "written raw", "said by a child", "printed unheard"):
        assert await host.stderr_line(said) == said
    assert host.stdout.wait_for(lambda _: True) == host.handshake_line


async def test_prints_reach_the_host_that_listens(start: Start) -> None:
    """print() becomes GRPCStdio, line by line, and what is unfinished at the end comes too."""
    host = start(
        """
        async def on_call(text):
            print(text, end="\\n" if text == "first" else "")
        serve(Control(on_call))
        """
    )
    channel = await host.connect()
    heard = b""
    async with stdio.follow(channel) as follower:
        first = asyncio.ensure_future(anext(follower))
        while b"first" not in heard:
            # The stream is open when the first print arrives over it; until then prints go to stderr.
            await host.call("first")
            done, _ = await asyncio.wait([first], timeout=0.05)
            if done:
                which, heard = first.result()
                assert which == stdio.STDOUT
        await host.call("half a line")
        assert await controller.request_shutdown(channel, timeout=PATIENCE)
        async for which, data in follower:
            assert which == stdio.STDOUT
            heard += data
    assert set(heard.splitlines()) == {b"first", b"half a line"}
    assert await host.wait() == 0


# --- end ---------------------------------------------------------------------------------------------------------------


async def test_shutdown_ends_it_with_status_0(start: Start) -> None:
    """The Shutdown call is answered, then the plugin ends and its socket is gone."""
    host = start()
    channel = await host.connect()
    assert await controller.request_shutdown(channel, timeout=PATIENCE)
    assert await host.wait() == 0
    assert host.sockets == []


SLOW = """
release = asyncio.Event()
async def on_call(text):
    if text == "wait":
        logging.getLogger().warning("waiting")
        await release.wait()
        return "done"
    release.set()
serve(Control(on_call), grace={grace})
"""


async def test_sigterm_lets_calls_finish_and_ends_with_status_0(start: Start) -> None:
    """A call under way is answered, a new one is refused, and the socket is removed."""
    host = start(
        """
        release = asyncio.Event()
        async def on_call(text):
            logging.getLogger().warning("waiting")
            while current().log_level < 40: await asyncio.sleep(0.01)
            return "done"
        serve(Control(on_call), grace=20)
        """
    )
    channel = await host.connect()
    pending = asyncio.ensure_future(host.call("wait"))
    await host.stderr_line("waiting")
    host.send_signal(signal.SIGTERM)
    while await health.check(channel, timeout=PATIENCE) is health.ServingStatus.SERVING:
        await asyncio.sleep(0)
    with pytest.raises(GRPCError) as refused:
        await host.call("new")
    assert refused.value.status is Status.UNAVAILABLE
    async with logs.follow(channel, level=40):
        assert await pending == "done"
    assert await host.wait() == 0
    assert host.sockets == []


async def test_a_call_that_outlasts_the_grace_is_cut(start: Start) -> None:
    """The caller gets UNAVAILABLE, and the plugin ends all the same."""
    host = start(SLOW.format(grace=0.1))
    await host.connect()
    pending = asyncio.ensure_future(host.call("wait"))
    await host.stderr_line("waiting")
    host.send_signal(signal.SIGTERM)
    host.send_signal(signal.SIGTERM)
    with pytest.raises(GRPCError) as cut:
        await pending
    assert cut.value.status is Status.UNAVAILABLE
    assert await host.wait() == 0


async def test_sigint_changes_nothing(start: Start) -> None:
    """Ctrl-C reaches the whole foreground group, and the host decides."""
    host = start()
    await host.connect()
    host.send_signal(signal.SIGINT)
    assert await host.call("alive") == "ALIVE"


@pytest.mark.parametrize("busy", ["await asyncio.sleep(3600)", "while True: pass", "import time; time.sleep(3600)"])
async def test_it_ends_when_its_lifeline_does(start: Start, busy: str) -> None:
    """The host closes stdin, or dies: the plugin is gone at once, blocked loop or not, and its socket with it."""
    host = start(
        f"""
        async def on_call(_):
            subprocess.Popen(["sleep", "3600"])
            logging.getLogger().warning("busy")
            {busy}
        serve(Control(on_call))
        """
    )
    await host.connect()
    pending = asyncio.ensure_future(host.call())
    await host.stderr_line("busy")
    host.stdin.close()
    assert await host.wait() == -signal.SIGKILL
    # Its child was killed with the group: nobody holds stderr open any more.
    await asyncio.to_thread(host.stderr.all)
    assert host.sockets == []
    pending.cancel()
    await asyncio.wait([pending])


async def test_without_a_lifeline_stdin_means_nothing(start: Start) -> None:
    """A host that promised no lifeline may give any stdin."""
    host = start(PLUGIN_LIFELINE="")
    host.stdin.close()
    await host.connect()
    assert await host.call("alive") == "ALIVE"


async def test_sigabrt_shows_every_stack(start: Start) -> None:
    """A host that aborts a plugin that hangs finds out where it hung."""
    host = start(
        """
        async def on_call(_):
            logging.getLogger().warning("busy")
            while True: pass
        serve(Control(on_call))
        """
    )
    await host.connect()
    pending = asyncio.ensure_future(host.call())
    await host.stderr_line("busy")
    host.send_signal(signal.SIGABRT)
    assert await host.wait() == -signal.SIGABRT
    stacks = host.stderr.all().decode()
    assert "Fatal Python error: Aborted" in stacks
    assert "in on_call" in stacks
    pending.cancel()
    await asyncio.wait([pending])


async def test_serve_async_lives_in_the_authors_own_loop(start: Start) -> None:
    """Cancelling it stops the plugin in order, and the program goes on after it."""
    host = start(
        """
        async def main():
            async def on_call(text):
                asyncio.get_running_loop().call_later(0.05, serving.cancel)
                return text.upper()
            serving = asyncio.create_task(serve_async(Control(on_call)))
            with contextlib.suppress(asyncio.CancelledError):
                await serving
            print("and on it goes", flush=True)
        asyncio.run(main())
        """
    )
    await host.connect()
    assert await host.call("hello") == "HELLO"
    assert await host.stderr_line("and on") == "and on it goes"
    assert await host.wait() == 0
    assert host.sockets == []


async def test_a_host_of_another_make_is_served(start: Start) -> None:
    """grpcio, as a Go host would, checks the health, calls, opens the stdio stream and ends the plugin."""
    host = start()
    path = host.socket_path

    def drive() -> tuple[bytes, bytes, bytes, list[bytes]]:
        with grpc.insecure_channel(f"unix:{path}") as channel:
            stdio_stream = channel.unary_stream("/plugin.GRPCStdio/StreamStdio")(b"", timeout=PATIENCE)
            checked = channel.unary_unary("/grpc.health.v1.Health/Check")(b"\x0a\x06plugin", timeout=PATIENCE)
            answered = channel.unary_unary("/test.Control/Run")(b"hello", timeout=PATIENCE)
            ended = channel.unary_unary("/plugin.GRPCController/Shutdown")(b"", timeout=PATIENCE)
            return checked, answered, ended, list(stdio_stream)

    assert await asyncio.to_thread(drive) == (b"\x08\x01", b"HELLO", b"", [])
    assert await host.wait() == 0


# --- services ----------------------------------------------------------------------------------------------------------


async def test_a_service_says_whether_it_is_serving(start: Start) -> None:
    """current() reaches the plugin's health from a handler, and from a thread that carries the context."""
    host = start(
        """
        async def on_call(text):
            await asyncio.to_thread(current().set_serving, text == "yes")
        serve(Control(on_call))
        """
    )
    channel = await host.connect()
    assert await health.check(channel, timeout=PATIENCE) is health.ServingStatus.SERVING
    await host.call("no")
    assert await health.check(channel, timeout=PATIENCE) is health.ServingStatus.NOT_SERVING
    await host.call("yes")
    assert await health.check(channel, timeout=PATIENCE) is health.ServingStatus.SERVING


async def test_a_service_may_end_the_plugin(start: Start) -> None:
    """current().stop() ends the plugin as a Shutdown does: the call that said so is answered."""
    host = start("async def on_call(_):\n    current().stop()\n    return 'bye'\nserve(Control(on_call))")
    await host.connect()
    assert await host.call() == "bye"
    assert await host.wait() == 0


async def test_an_exceptions_text_stays_in_the_plugins_log(start: Start) -> None:
    """The caller learns only that it failed; the log has the traceback."""
    host = start('async def on_call(_): raise ValueError("secret=hunter2")\nserve(Control(on_call))')
    await host.connect()
    with pytest.raises(GRPCError) as failed:
        await host.call()
    assert failed.value.status is Status.UNKNOWN
    assert "hunter2" not in str(failed.value)
    event = await host.stderr_event("handler failed")
    assert event["method"] == "/test.Control/Run"
    assert "ValueError: secret=hunter2" in event["exception"]
