"""Rows 76, 77, 79, 80, 83 and 84 of the fault table: what passes between host, plugin and other users."""

# Files are looked at while nothing else needs the loop.
# ruff: noqa: ASYNC240

from __future__ import annotations

import errno
import json
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kv_proto import GetRequest, KvStub
from watching import Log, exit_of

from supervisor import ConfigurationError, HandshakeError, PluginSpec, Restart, RestartPolicy, Supervisor
from supervisor.events import HandshakeDone
from supervisor.outcome import ExitReason
from supervisor.runners.subprocess import SubprocessRunner
from supervisor.spec import MagicCookie

MakeSpec = Callable[..., PluginSpec]
Supervise = Callable[..., Supervisor]

ONCE = RestartPolicy(restart=Restart.TEMPORARY)

# --- rows 76 and 77 ----------------------------------------------------------------------------------------------------

CONNECT = """
import os, socket, sys
if sys.argv[2] != "0":
    os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
os.chdir(os.path.dirname(os.path.dirname(os.path.dirname(sys.argv[1]))))  # where others may pass
print(socket.socket(socket.AF_UNIX).connect_ex(sys.argv[1]))
"""


def connect_as(user: int, path: str) -> int:
    """Connect to a unix socket as a user and return the errno, 0 for success."""
    command = [sys.executable, "-I", "-S", "-c", CONNECT, path, str(user)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=20)
    return int(done.stdout)


@pytest.fixture
def passable() -> Iterator[Path]:
    """Return a directory with a short path that everybody may pass, as `/tmp` is."""
    with tempfile.TemporaryDirectory(prefix="t") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
async def test_row_76_other_user_cannot_connect(supervise: Supervise, kv: MakeSpec, log: Log, passable: Path) -> None:
    """Another local user gets EACCES from the plugin's socket, even from one that a careless plugin opened to all."""
    async with supervise(kv(), runner=partial(SubprocessRunner, runtime_root=str(passable))) as supervisor:
        stub = await supervisor.dispense(KvStub)
        path = log.of(HandshakeDone)[0].address
        assert path.startswith(str(passable))
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
        Path(path).chmod(0o777)
        assert connect_as(0, path) == 0
        assert connect_as(65534, path) == errno.EACCES
        assert (await stub.get(GetRequest(key="a"))).value == b""


@pytest.mark.parametrize("mark", ["@", "\\x00"])
async def test_row_77_abstract_socket_is_refused(supervise: Supervise, evil: MakeSpec, log: Log, mark: str) -> None:
    """A plugin that listens on an abstract socket, which any local user may connect to, is refused without a connection."""
    name = f"evil-{os.getpid()}"
    deeds = ("listen-abstract", name, "handshake", f"{mark}{name}", "accept", "error", "connected", "hang")
    async with supervise(evil(*deeds, restart=ONCE)) as supervisor:
        report = await exit_of(supervisor)
    assert isinstance(report.error, HandshakeError)
    assert (report.reason, report.error.field) == (ExitReason.HANDSHAKE, "address")
    assert report.error.hint
    assert report.stderr == ()
    assert log.of(HandshakeDone) == []


# --- rows 79 and 80 ----------------------------------------------------------------------------------------------------

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "s3cret",
    "GITHUB_TOKEN": "s3cret",
    "SSH_AUTH_SOCK": "/tmp/agent",
    "SSLKEYLOGFILE": "/tmp/keys",
    "LD_LIBRARY_PATH_X": "/evil",
    "LD_AUDIT_X": "evil.so",
    "PYTHONSTARTUP": "/evil.py",
    "PYTHONINSPECT": "",
    "NODE_OPTIONS": "--require evil",
    "BASH_ENV": "/evil.sh",
    "VIRTUAL_ENV": "/venv",
    "DATABASE_URL": "postgres://user:s3cret@db",
}
STALE = {"PLUGIN_CLIENT_CERT": "stale", "PLUGIN_MULTIPLEX_GRPC": "true", "PLUGIN_UNIX_SOCKET_GROUP": "stale"}
ALLOWED = {"PATH": os.environ["PATH"], "HOME": "/home/me", "LANG": "C.UTF-8", "LC_TIME": "C", "TZ": "UTC"}


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the host an environment of which every name is known."""
    kept = {name: os.environ[name] for name in ("SUPERVISOR_LINEAGE", "XDG_RUNTIME_DIR")}
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in {**kept, **ALLOWED, **SECRETS, **STALE}.items():
        monkeypatch.setenv(name, value)


async def reported(supervise: Supervise, spec: PluginSpec, file: Path) -> dict[str, Any]:
    """Run a plugin that reports to a file, and return what it said."""
    async with supervise(spec) as supervisor:
        await exit_of(supervisor)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def assert_protocol(variables: dict[str, str]) -> None:
    """Take the protocol's variables out and look at their values."""
    cookie = MagicCookie()
    assert variables.pop(cookie.key) == cookie.value
    assert variables.pop("PLUGIN_PROTOCOL_VERSIONS") == "1"
    assert variables.pop("PLUGIN_LOG_LEVEL") == "20"
    assert variables.pop("PLUGIN_LIFELINE") == "stdin"
    assert variables.pop("PLUGIN_SYNC_STDERR") == "false"
    assert variables.pop("PLUGIN_UNIX_SOCKET_DIR").startswith(os.environ["XDG_RUNTIME_DIR"])
    lineage = variables.pop("SUPERVISOR_LINEAGE")
    assert re.fullmatch(re.escape(os.environ["SUPERVISOR_LINEAGE"]) + ":[0-9a-f]{32}:[0-9a-f]{32}", lineage)


async def test_row_79_environment_is_an_allowlist(
    supervise: Supervise, evil: MakeSpec, own_environment: None, tmp_path: Path
) -> None:
    """The plugin was started with the allowlist, its own `env` and the protocol's variables, and not a name more."""
    file = tmp_path / "report"
    spec = evil("report", str(file), env={"OWN": "1", "LANG": "de_DE"}, restart=ONCE)
    variables = (await reported(supervise, spec, file))["env"]
    assert_protocol(variables)
    assert variables == {**ALLOWED, "OWN": "1", "LANG": "de_DE"}


async def test_row_79_inherited_environment_is_a_switch(
    supervise: Supervise, evil: MakeSpec, own_environment: None, tmp_path: Path
) -> None:
    """With `inherit_env` it has the host's whole environment, without the variables that concern the host's own host."""
    file = tmp_path / "report"
    spec = evil("report", str(file), inherit_env=True, restart=ONCE)
    variables = (await reported(supervise, spec, file))["env"]
    assert_protocol(variables)
    assert variables == {
        name: value for name, value in os.environ.items() if name not in {*STALE, "SUPERVISOR_LINEAGE"}
    }
    assert variables.items() >= SECRETS.items()


async def test_row_80_only_the_standard_descriptors(
    supervise: Supervise, evil: MakeSpec, kv: MakeSpec, tmp_path: Path
) -> None:
    """Beside another plugin, with inheritable files and sockets in the host, the plugin has 0, 1 and 2 and no more."""
    file = tmp_path / "report"
    with open(os.devnull) as leaky, socket.socket() as listener:  # noqa: ASYNC230  # a file that stays open
        for number in (leaky.fileno(), listener.fileno()):
            os.set_inheritable(number, True)  # noqa: FBT003  # the signature is the os module's
        async with supervise(kv(), evil("report", str(file), restart=ONCE)) as supervisor:
            await supervisor.plugin("store").ready()
            await supervisor.plugin("evil").wait_at_rest()
            await supervisor.plugin("evil").stop()
    found = json.loads(file.read_text())
    assert sorted(found["fds"]) == [0, 1, 2]
    assert found["session"] == found["group"] == found["pid"]


# --- rows 83 and 84 ----------------------------------------------------------------------------------------------------

BAD_NAMES = [
    "", ".", "..", "../x", "a/../b", "a..b", "/etc/passwd", "a/b", "a\\b", "a\0b", "-rf", "--help", ".hidden", "_a", "A",
    "sto\u0433e", "\uff53tore", "store\n", "\nstore", " store", "a b", "a;b", "$(a)", "a" * 64, "a" * 300, "CON ", "é", "a\u202eb",
]  # fmt: skip


def try_name(name: str) -> PluginSpec | None:
    """Return a plugin of this name, or None when it is refused with a hint."""
    try:
        return PluginSpec(name=name, command=("x",))
    except ConfigurationError as error:
        assert error.hint  # noqa: PT017  # a refusal is an outcome
        assert str(error).isprintable()  # noqa: PT017
        return None


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_row_83_bad_name_is_refused(name: str) -> None:
    """Names that climb, hide, look like options or like other letters, or are too long, are a ConfigurationError."""
    assert try_name(name) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text() | st.text(alphabet="ab.-_/\\0Z~", max_size=70))
@example("a" * 63)
@example("0.a-b_c")
def test_row_83_accepted_name_is_harmless(name: str) -> None:
    """Whatever name is accepted is ASCII, at most 63 long, begins with a letter or digit and stays in its folder."""
    if try_name(name) is not None:
        assert re.fullmatch("[a-z0-9][a-z0-9._-]*", name, re.ASCII)
        assert len(name) <= 63
        assert ".." not in name
        assert os.path.normpath(os.path.join("/run/x", name)) == f"/run/x/{name}"  # lexically
    else:
        assert not re.fullmatch("[a-z0-9]([a-z0-9_-]|[.](?![.])){0,62}", name, re.ASCII)


@pytest.mark.parametrize("table", ['[plugins."../x"]\ncommand = ["x"]', '[plugins.store]\ncommand = "x; rm -rf /"'])
def test_rows_83_and_84_configuration_is_held_to_the_same(tmp_path: Path, table: str) -> None:
    """A bad name and a command that is a string are refused in a file too, which the error names."""
    file = tmp_path / "plugins.toml"
    file.write_text(table)
    with pytest.raises(ConfigurationError) as caught:
        Supervisor.from_config(file)
    assert str(file) in str(caught.value)


def test_row_84_command_that_is_a_string_is_refused() -> None:
    """A string would be for a shell: it is refused, with the way out."""
    with pytest.raises(ConfigurationError, match="list of arguments") as caught:
        PluginSpec(name="a", command="store --all; rm -rf /")  # type: ignore[arg-type]  # that is the point
    assert caught.value.plugin == "a"


async def test_row_84_metacharacters_are_only_characters(supervise: Supervise, evil: MakeSpec, tmp_path: Path) -> None:
    """What a shell would expand arrives as it was written and does nothing."""
    folder = tmp_path / "empty"
    folder.mkdir()
    file = tmp_path / "report"
    arguments = [
        "; touch pwned",
        "$(touch pwned)",
        "`touch pwned`",
        "a b",
        "*",
        "",
        "$HOME",
        "'\"",
        "| cat",
        "> x",
        "&",
    ]
    deeds = [word for argument in arguments for word in ("error", argument)]
    spec = evil("report", str(file), *deeds, cwd=str(folder), restart=ONCE)
    found = await reported(supervise, spec, file)
    assert found["argv"][2:] == deeds
    assert list(folder.iterdir()) == []
