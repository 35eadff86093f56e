"""go-plugin's own tests of starting and ending a plugin, mirrored: its programs with our host, our plugins with its host."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import peers
import pytest
from interop_proto import GreeterStub, Name
from peers import GoHost, MakeSpec, Step
from watching import Log, exit_of

from supervisor import HandshakeError, LaunchError, PluginSpec, State, Supervisor, VersionMismatchError
from supervisor.errors import HandshakeTimeoutError
from supervisor.events import InstanceLaunched
from supervisor.outcome import ExitReason, ExitReport
from supervisor.spec import MagicCookie

STRANGE = MagicCookie(key="ANOTHER_PLUGIN", value="good day")


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


async def first_end(spec: PluginSpec) -> ExitReport:
    """Run a plugin once and say how that ended."""
    async with Supervisor([spec], observers=[]) as supervisor:
        return await exit_of(supervisor)


def is_running(pid: int | None) -> bool:
    """Whether there is such a process."""
    return Path(f"/proc/{pid}").exists()


def failure(steps: list[Step]) -> str:
    """Return why the Go host could not start a plugin."""
    assert steps[0]["step"] == "start"
    assert not steps[0]["ok"]
    return str(steps[0]["error"])


# --- start, stop ---------------------------------------------------------------------------------------------------


async def test_client(go_plugin: MakeSpec) -> None:
    """TestClient: a plugin starts, has a process, is killed and has none."""
    log = Log()
    async with Supervisor([go_plugin("kv")], observers=[log]) as supervisor:
        plugin = supervisor.plugin("peer")
        await plugin.ready()
        pid = plugin.pid
        assert (plugin.state, plugin.version) == (State.READY, 1)
        assert is_running(pid)
        await plugin.stop()
        assert (plugin.state, plugin.pid) == (State.STOPPED, None)
        assert not is_running(pid)
        assert plugin.last_exit is not None
        assert (plugin.last_exit.reason, plugin.last_exit.status.code) == (ExitReason.STOPPED, 0)
    log.assert_each_launch_ended_once()


def test_client_of_a_go_host(go_host: GoHost) -> None:
    """TestClient: a Go host starts our plugin, knows its pid and protocol, kills it in time; nothing is left."""
    steps = go_host("kv", plugin="served_kv.py")

    start, kill = steps[0], steps[-1]
    assert (start["ok"], start["protocol"], start["version"]) == (True, "grpc", 1)
    assert start["id"] == str(start["pid"])
    assert (kill["graceful"], kill["exited"], kill["alive"], kill["socket_left"]) == (True, True, False, False)


async def test_client_kill_start(go_plugin: MakeSpec) -> None:
    """TestClient_killStart: a plugin that is still starting is stopped at once."""
    async with Supervisor([go_plugin("evil", "silent")], observers=[]) as supervisor:
        plugin = supervisor.plugin("peer")
        with supervisor.subscribe() as events:
            while not isinstance(await anext(events), InstanceLaunched):
                pass
        await plugin.stop()
        assert plugin.state is State.STOPPED


def test_client_cleanup(go_host: GoHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TestClient_testCleanup: what a plugin does once it has been served is done before it is killed."""
    monkeypatch.setenv("INTEROP_CLEANED", str(tmp_path / "cleaned"))
    steps = go_host("kv", plugin="served_kv.py")

    assert steps[-1]["graceful"]
    assert (tmp_path / "cleaned").exists()


async def test_cleanup_under_our_host(python_plugin: MakeSpec, tmp_path: Path) -> None:
    """TestClient_testCleanup, with our host."""
    spec = python_plugin("served_kv.py", env={"INTEROP_CLEANED": str(tmp_path / "cleaned")})
    async with Supervisor([spec], observers=[]) as supervisor:
        await supervisor.ready()

    assert (tmp_path / "cleaned").exists()


async def test_client_start_timeout(go_plugin: MakeSpec) -> None:
    """TestClient_Start_Timeout: a plugin that says nothing is given up after the start timeout, and killed."""
    report = await first_end(go_plugin("evil", "silent", start_timeout=0.5))

    assert report.reason is ExitReason.START_TIMEOUT
    assert isinstance(report.error, HandshakeTimeoutError)
    assert "still waiting for its handshake" in str(report.error)


async def test_client_no_stdout_scanner_race(go_plugin: MakeSpec) -> None:
    """TestClient_noStdoutScannerRace: a plugin that ends the moment it has spoken is reported as ended, every time."""
    for _ in range(20):
        report = await first_end(go_plugin("evil", "line-and-exit", "1|1|unix|/tmp/nobody|grpc|"))

        assert report.reason in {ExitReason.LAUNCH, ExitReason.HANDSHAKE}
        assert report.status.known


async def test_additional_notes_about_command(go_plugin: MakeSpec, tmp_path: Path) -> None:
    """TestAdditionalNotesAboutCommand: a start that fails says why; upstream says mode, owner and architecture."""
    program = tmp_path / "program"
    program.write_text("no program")
    forbidden = await first_end(go_plugin("kv", command=(str(program),)))
    ended = await first_end(go_plugin("evil", "exit", "4"))

    assert isinstance(forbidden.error, LaunchError)
    assert "not executable" in str(forbidden.error)
    assert "exit code 4; its last line on stderr: evil: I would rather not" in str(ended.error)


# --- the cookie ----------------------------------------------------------------------------------------------------

DIRECTLY = [
    "This binary is a plugin. These are not meant to be executed directly.",
    "Please execute the program that consumes these plugins, which will",
    "load any plugins automatically",
]


@pytest.mark.parametrize("environment", [{}, {"BASIC_PLUGIN": "good day"}], ids=["missing", "wrong"])
def test_plugin_that_is_run_by_hand(go: Path, environment: dict[str, str]) -> None:
    """Without the cookie our plugin says word for word what a Go plugin says, on stderr, and exits with 1."""
    ours, gos = peers.python_command("served_kv.py"), peers.go_command(go, "kv")
    given = {**os.environ, "PYTHONPATH": peers.PYTHONPATH, **environment}
    said = [subprocess.run(each, capture_output=True, text=True, env=given, check=False) for each in (ours, gos)]

    for done in said:
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.splitlines() == DIRECTLY


async def test_wrong_cookie_of_our_host(go_plugin: MakeSpec) -> None:
    """A Go plugin that expects another cookie ends, and what it says is in the error."""
    report = await first_end(go_plugin("kv", cookie=STRANGE))

    assert (report.reason, report.status.code) == (ExitReason.LAUNCH, 1)
    assert list(report.stderr) == DIRECTLY
    assert DIRECTLY[-1] in str(report.error)


def test_wrong_cookie_of_a_go_host(go_host: GoHost) -> None:
    """The Go host's text has what it read, which is nothing."""
    steps = go_host("kv", "-cookie-key", STRANGE.key, plugin="served_kv.py")

    assert failure(steps).startswith(
        "Unrecognized remote plugin message: \nFailed to read any lines from plugin's stdout"
    )


# --- what does not fit ---------------------------------------------------------------------------------------------


async def test_client_start_bad_version(go_plugin: MakeSpec) -> None:
    """TestClientStart_badVersion: another core protocol, with both versions in the text."""
    report = await first_end(go_plugin("evil", "line", "2|1|tcp|127.0.0.1:1234|grpc|"))

    assert report.reason is ExitReason.HANDSHAKE
    assert isinstance(report.error, HandshakeError)
    assert report.error.field == "core_version"
    assert "incompatible core API version with plugin. Plugin version: 2, Core version: 1" in str(report.error)


async def test_client_start_bad_negotiated_version(go_plugin: MakeSpec) -> None:
    """TestClientStart_badNegotiatedVersion, TestClient_wrongVersion: nothing in common; both sides are in the text."""
    report = await first_end(go_plugin("two", versions=(5, 6)))

    assert isinstance(report.error, VersionMismatchError)
    assert (report.error.spoken, report.error.accepted) == (1, (5, 6))
    assert "incompatible API version with plugin. Plugin version: 1, Client versions: [5 6]" in str(report.error)


def test_bad_negotiated_version_of_our_plugin(go_host: GoHost) -> None:
    """TestClientStart_badNegotiatedVersion: our plugin offers its lowest version and the Go host says so."""
    steps = go_host("two", "-versions", "5", plugin="served_two.py", arguments=("4", "3"))

    assert failure(steps) == "incompatible API version with plugin. Plugin version: 3, Client versions: [5]"


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("udp|127.0.0.1:1234", "unknown network 'udp'"),
        ("tcp|nowhere", "'nowhere'"),
        ("unix|/tmp/nobody-is-here", "'/tmp/nobody-is-here' is refused: No such file or directory"),
    ],
)
async def test_invalid_rpc_address(go_plugin: MakeSpec, address: str, text: str) -> None:
    """The scenario invalid-rpc-address: an address that cannot be is refused, and quoted."""
    report = await first_end(go_plugin("evil", "line", f"1|1|{address}|grpc|"))

    assert report.reason is ExitReason.HANDSHAKE
    assert text in str(report.error)


async def test_client_grpc_not_allowed(go_plugin: MakeSpec) -> None:
    """TestClient_grpcNotAllowed, the other way round, since we speak nothing else: net/rpc is refused by its name."""
    report = await first_end(go_plugin("evil", "netrpc"))

    assert isinstance(report.error, HandshakeError)
    assert report.error.field == "protocol"
    assert 'unsupported plugin protocol "netrpc". Supported: [grpc]' in str(report.error)


# --- versions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("accepted", "chosen"), [((1, 2, 3), 2), ((1,), 1), ((2, 7), 2)])
async def test_client_versioned_client(go_plugin: MakeSpec, accepted: tuple[int, ...], chosen: int) -> None:
    """TestClient_versionedClient, _legacyClient: the highest common version wins, and what is served is of that one."""
    async with Supervisor([go_plugin("two", versions=accepted)], observers=[]) as supervisor:
        assert await greeting(supervisor) == f"version {chosen} greets Ada"
        assert supervisor.plugin("peer").version == chosen


@pytest.mark.parametrize(("accepted", "chosen"), [("1,2,3", 2), ("1", 1), ("2,7", 2)])
def test_client_versioned_client_of_go(go_host: GoHost, accepted: str, chosen: int) -> None:
    """TestClient_versionedClient, _legacyClient: the same of a Go host and our plugin."""
    steps = go_host("two", "-versions", accepted, plugin="served_two.py")

    assert [step for step in steps if not step["ok"]] == []
    assert steps[0]["version"] == chosen
    assert steps[2]["text"] == f"version {chosen} greets Ada"


async def test_client_legacy_server(go_plugin: MakeSpec) -> None:
    """TestClient_legacyServer: a plugin that knows one version only is served by a host that knows several."""
    async with Supervisor([go_plugin("kv", versions=(2, 1))], observers=[]) as supervisor:
        await supervisor.ready()
        assert supervisor.plugin("peer").version == 1


# --- environment ---------------------------------------------------------------------------------------------------


def environment_of(pid: int | None) -> dict[str, str]:
    """Return a process's environment as it was given."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


@pytest.mark.parametrize("inherit", [False, True])
async def test_client_skip_host_env(go_plugin: MakeSpec, monkeypatch: pytest.MonkeyPatch, inherit: bool) -> None:
    """TestClient_SkipHostEnv: the host's environment is passed on when that is wanted; `PLUGIN_*` never are."""
    monkeypatch.setenv("INTEROP_SECRET", "of the host")
    monkeypatch.setenv("PLUGIN_UNIX_SOCKET_GROUP", "stale")
    spec = go_plugin("kv", inherit_env=inherit, env={"INTEROP_OWN": "of the plugin"})
    async with Supervisor([spec], observers=[]) as supervisor:
        await supervisor.ready()
        given = environment_of(supervisor.plugin("peer").pid)

    assert given.get("INTEROP_SECRET") == ("of the host" if inherit else None)
    assert given["INTEROP_OWN"] == "of the plugin"
    assert given["BASIC_PLUGIN"] == "hello"
    assert "PLUGIN_UNIX_SOCKET_GROUP" not in given


def test_skip_host_env_of_a_go_host(go_host: GoHost) -> None:
    """TestClient_SkipHostEnv: our plugin runs with nothing but what the Go host sets."""
    steps = go_host("kv", "-skip-host-env", "-env", f"PYTHONPATH={peers.PYTHONPATH}", plugin="served_kv.py")

    assert [step for step in steps if not step["ok"]] == []


async def greeting(supervisor: Supervisor) -> str:
    """Have the plugin say which version of it was called."""
    greeter = await supervisor.dispense("peer", GreeterStub)
    return (await greeter.greet(Name(name="Ada"))).text
