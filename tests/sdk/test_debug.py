"""Debug mode: a plugin that a person starts and ends."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from grpclib.const import Cardinality
from raw_host import PREAMBLE, Text

from supervisor.levels import Level
from supervisor.reattach import ReattachToken
from supervisor.records import ExceptionRecord
from supervisor.sdk.debug import find_debug_name, format_for_people
from supervisor.services import logs
from supervisor.transport.dial import dial

SOURCE = """
async def on_call(text):
    print("printed", text)
    structlog.get_logger("app").warning("asked", text=text)
    if text == "read": return await asyncio.to_thread(input)
    if text == "raise": raise ValueError("asked to raise")
    return f"{current().version} {text.upper()}"
serve(versions={1: [Control(on_call)], 3: [Control(on_call)]})
"""


class Debugged:
    """A program in debug mode, at whose terminal we sit."""

    def __init__(self, program: Path, *arguments: str, **environment: str) -> None:
        program.write_text(PREAMBLE + SOURCE)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(program), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        )

    def line(self) -> str:
        """Return the next line on its stdout."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def announced(self) -> dict[str, str]:
        """Return what it says that hosts have to be told, as a shell would understand it."""
        text = ""
        while (line := self.line()) not in {"", "Ctrl-C ends it.\n"}:
            text += line
        found = re.findall(r"^\t(\w+)=(.*)$", text, re.MULTILINE)
        return {name: shlex.split(value)[0] for name, value in found}

    def token(self) -> ReattachToken:
        """Return its token."""
        return ReattachToken.from_json(self.announced()["SUPERVISOR_REATTACH"])

    def interrupt(self) -> tuple[int, str, str]:
        """Press Ctrl-C; return its exit status, and the rest of its stdout and stderr."""
        self.process.send_signal(signal.SIGINT)
        stdout, stderr = self.process.communicate(timeout=20)
        return self.process.returncode, stdout, stderr


@pytest.fixture
def debug(tmp_path: Path, nothing_left: None) -> Iterator[Callable[..., Debugged]]:
    """Return a function that starts a program in debug mode."""
    started: list[Debugged] = []

    def start(*arguments: str, **environment: str) -> Debugged:
        started.append(Debugged(tmp_path / "My Plugin.py", *arguments, **environment))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


async def call(token: ReattachToken, text: str) -> str:
    """Call the plugin as a host would, and hang up."""
    channel = await dial(token.address, timeout=20)
    try:
        async with channel.request("/test.Control/Run", Cardinality.UNARY_UNARY, Text, Text, timeout=20) as stream:
            await stream.send_message(Text(text), end=True)
            answer: Text | None = await stream.recv_message()
        return str(answer)
    finally:
        channel.close()


async def test_it_serves_whoever_has_its_token(debug: Callable[..., Debugged], tmp_path: Path) -> None:
    """No cookie, no handshake, the highest version; on Ctrl-C it ends with status 0 and leaves no socket."""
    debugged = debug("--debug=store", TMPDIR=str(tmp_path))
    announced = debugged.announced()
    token = ReattachToken.from_json(announced["SUPERVISOR_REATTACH"])
    assert (token.name, token.version, token.test, token.process.pid) == ("store", 3, True, debugged.process.pid)
    assert ReattachToken.from_terraform(announced["TF_REATTACH_PROVIDERS"], source="store", name="store").test
    assert await call(token, "hello") == "3 HELLO"
    assert await call(token, "again") == "3 AGAIN"
    assert debugged.interrupt()[0] == 0
    assert os.listdir(tmp_path) == ["My Plugin.py"]  # blocking for a moment hurts nobody here


async def test_stdin_and_stdout_are_the_persons(debug: Callable[..., Debugged]) -> None:
    """What it prints is printed, and what is typed it reads: `breakpoint()` works."""
    debugged = debug("--debug")
    token = debugged.token()
    assert debugged.process.stdin is not None
    debugged.process.stdin.write("typed\n")
    debugged.process.stdin.flush()
    assert await call(token, "read") == "typed"
    assert debugged.interrupt()[1] == "printed read\n"


async def test_it_logs_for_people_whoever_follows(debug: Callable[..., Debugged]) -> None:
    """One line for a record on stderr, with its traceback below, and to a host that follows as well."""
    debugged = debug("--debug")
    token = debugged.token()
    channel = await dial(token.address, timeout=20)
    async with logs.follow(channel, level=Level.INFO) as follower:
        with pytest.raises(Exception, match="Internal Server Error"):
            await call(token, "raise")
        batch = await anext(aiter(follower))
        assert batch.records[0].event == "asked"
    channel.close()
    stderr = debugged.interrupt()[2].splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} WARNING  app: asked text='raise'", stderr[0])
    assert re.match(r".* ERROR    supervisor\.sdk: handler failed method=", stderr[1])
    assert stderr[2] == "Traceback (most recent call last):"
    assert stderr[-1] == "ValueError: asked to raise"


def test_variables_of_a_host_mean_nothing(debug: Callable[..., Debugged]) -> None:
    """A certificate, versions or a directory in the environment are some other process's."""
    debugged = debug(
        "--debug",
        PLUGIN_CLIENT_CERT="nonsense",
        PLUGIN_PROTOCOL_VERSIONS="1",
        PLUGIN_UNIX_SOCKET_DIR="/nowhere",
        PLUGIN_LIFELINE="stdin",
    )
    assert debugged.token().version == 3
    assert debugged.interrupt()[0] == 0


def test_with_a_host_it_is_an_argument_like_any_other(debug: Callable[..., Debugged]) -> None:
    """The cookie says who started it: then there is a handshake."""
    debugged = debug("--debug", SUPERVISOR_PLUGIN="3f0c7a1e-6d58-4b5f-9a53-0a3f7f6a2d11")
    assert debugged.line().startswith("1|1|unix|")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("plugin.py",), None),
        (("plugin.py", "-debug"), None),
        (("plugin.py", "--debugger"), None),
        (("/opt/My Plugin.py", "--debug"), "my-plugin"),
        (("...", "--debug"), "plugin"),
        (("plugin.py", "x", "--debug=store"), "store"),
        (("plugin.py", "--debug="), "plugin"),
        ((), None),
    ],
)
def test_the_name_is_given_or_the_files(arguments: tuple[str, ...], name: str | None) -> None:
    """A name that a specification could have."""
    assert find_debug_name(arguments) == name


def test_a_record_for_people_keeps_to_its_line() -> None:
    """Controls in an event are escaped; a traceback keeps its lines."""
    line = format_for_people(
        Level.ERROR,
        "two\nlines",
        logged_at=0.0,
        fields={"n": 1, "text": "a b"},
        exception=ExceptionRecord(type="E", message="m", text="Traceback\n  E: m"),
    )
    first, *rest = line.decode().splitlines()
    assert first.endswith(r"ERROR    two\nlines n=1 text='a b'")
    assert rest == ["Traceback", "  E: m"]
