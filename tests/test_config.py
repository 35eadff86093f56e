"""The TOML file: what it gives, and what each mistake says."""

import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.config import config_schema, load_config, parse_config
from supervisor.errors import ConfigurationError
from supervisor.policy import Backoff, Restart, RestartIntensity, RestartPolicy, Strategy
from supervisor.spec import HealthProbe, MagicCookie, PluginSpec, Stdin, StopPolicy, SupervisorSpec, WhileRestarting
from supervisor.terms import Limits
from supervisor.tls import TlsFiles

EVERYTHING = """
[supervisor]
strategy = "rest_for_one"

[defaults]
env = { SHARED = "1", MODE = "default" }
stop = { drain = 1, kill = 3.5 }
versions = [1, 2]
health = false

[plugins.first]
command = ["{python}", "-m", "first", "--python={python}"]

[plugins.store]
command = ["./bin/store", "--data", "data"]
cwd = "work"
env = { MODE = "own" }
inherit_env = true
provides = ["kv", "blob"]
versions = [3]
cookie = { key = "COOKIE", value = "v" }
restart = { type = "permanent", intensity = { limit = 3, period = 60 }, backoff = { initial = 0.5, factor = 3, ceiling = 9, jitter = 0 }, stable_after = 5 }
health = { interval = 1, timeout = 0.5, failures = 1 }
stop = { drain = 2, shutdown = 0 }
limits = { message_size = 1, calls_in_flight = 2, broker_connections = 6, log_line = 3, log_backlog = 4, stderr_tail = 5 }
start_timeout = 1
connect_timeout = 2
ready_timeout = 3
call_timeout = "none"
while_restarting = "fail"
idempotent = ["/kv.Kv/Get"]
log_level = "debug"
escalate = true
auto_mtls = true
tls = { certificate = "tls/host.pem", key = "/keys/host.key", authority = "tls/ca.pem", server_name = "plugin.test" }
insecure = true
multiplex = true
engine = "grpclib"
"""


def parse(text: str, path: str = "/etc/app/plugins.toml") -> SupervisorSpec:
    """Parse `text` as if it stood in the file `path`."""
    return parse_config(text, path=path, python="/usr/bin/python")


def parse_plugin(text: str) -> PluginSpec:
    """Parse the keys of one plugin with a command."""
    (plugin,) = parse(f'[plugins.p]\ncommand = ["p"]\n{text}').plugins
    return plugin


def refuse(text: str) -> ConfigurationError:
    """Parse `text` and return the error, which names its file."""
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    assert caught.value.path == "/etc/app/plugins.toml"
    assert str(caught.value).startswith("/etc/app/plugins.toml: ")
    assert "\n" not in str(caught.value)
    return caught.value


def test_everything_that_can_be_said() -> None:
    """Each key reaches the specification."""
    spec = parse(EVERYTHING)
    first, store = spec.plugins

    assert spec.strategy is Strategy.REST_FOR_ONE
    assert store == PluginSpec(
        name="store",
        command=("/etc/app/bin/store", "--data", "data"),
        cwd="/etc/app/work",
        env={"SHARED": "1", "MODE": "own"},
        inherit_env=True,
        provides=("kv", "blob"),
        versions=(3,),
        cookie=MagicCookie(key="COOKIE", value="v"),
        restart=RestartPolicy(
            restart=Restart.PERMANENT,
            intensity=RestartIntensity(limit=3, period=60.0),
            backoff=Backoff(initial=0.5, factor=3.0, ceiling=9.0, jitter=0.0),
            stable_after=5.0,
        ),
        health=HealthProbe(interval=1.0, timeout=0.5, failures=1),
        stop=StopPolicy(drain=2.0, shutdown=0.0, kill=3.5),
        limits=Limits(
            message_size=1, calls_in_flight=2, broker_connections=6, log_line=3, log_backlog=4, stderr_tail=5
        ),
        start_timeout=1.0,
        connect_timeout=2.0,
        ready_timeout=3.0,
        call_timeout=None,
        while_restarting=WhileRestarting.FAIL,
        idempotent=frozenset({"/kv.Kv/Get"}),
        log_level="debug",
        escalate=True,
        auto_mtls=True,
        tls=TlsFiles(
            certificate="/etc/app/tls/host.pem",
            key="/keys/host.key",
            authority="/etc/app/tls/ca.pem",
            server_name="plugin.test",
        ),
        insecure=True,
        multiplex=True,
        engine="grpclib",
    )
    assert first.command == ("/usr/bin/python", "-m", "first", "--python=/usr/bin/python")
    assert (first.env, first.stop.drain, first.versions, first.health) == (
        {"SHARED": "1", "MODE": "default"},
        1.0,
        (1, 2),
        None,
    )


def test_a_plugin_at_the_terminal_and_one_that_survives() -> None:
    """What binds a plugin to its host, or does not; and words that are neither."""
    assert parse_plugin("").stdin is Stdin.LIFELINE
    assert parse_plugin('stdin = "inherit"').stdin is Stdin.INHERIT
    assert parse_plugin("survive_host = true").survive_host
    assert refuse('[plugins.p]\ncommand = ["p"]\nstdin = "null"').key == "stdin"
    assert "auto_mtls" in str(refuse('[plugins.p]\ncommand = ["p"]\nsurvive_host = true\nauto_mtls = true'))


def test_pins_and_places_are_those_of_the_file() -> None:
    """A pin names a part of the command as the file writes it; the places start in the file's folder."""
    spec = parse_plugin(f'sha256 = "{"A" * 64}"\nplugin_dir = "plugins"\nports = [10000, 25000]\nsocket_group = "app"')
    assert dict(spec.pins) == {"p": "a" * 64}
    assert (spec.plugin_dir, spec.ports, spec.socket_group) == ("/etc/app/plugins", (10000, 25000), "app")
    assert spec.verifies_owner

    text = '[plugins.p]\ncommand = ["{python}", "./plugin.py"]\nverify_owner = false\n[plugins.p.sha256]\n'
    (spec,) = parse(f'{text}"{{python}}" = "{"a" * 64}"\n"./plugin.py" = "{"b" * 64}"').plugins
    assert dict(spec.pins) == {"/usr/bin/python": "a" * 64, "./plugin.py": "b" * 64}
    assert not spec.verifies_owner

    twice = f'[plugins.p]\ncommand = ["./tool", "./tool"]\nsha256 = {{ "./tool" = "{"c" * 64}" }}'
    (spec,) = parse(twice).plugins
    assert dict(spec.pins) == {"/etc/app/tool": "c" * 64, "./tool": "c" * 64}


def test_programs_may_lie_beside_the_files_folder() -> None:
    """A `..` that leads to `plugin_dir` climbs out of nothing."""
    (spec,) = parse('[plugins.p]\ncommand = ["../plugins/kv"]\nplugin_dir = "../plugins"').plugins
    assert (spec.plugin_dir, spec.command) == ("/etc/app/../plugins", ("/etc/app/../plugins/kv",))


def test_pair_of_another_type_is_described() -> None:
    """As the list that it is in the file."""
    with pytest.raises(ConfigurationError, match="expected a list of 2: an integer, an integer"):
        parse_plugin("ports = 7")


def test_more_plugins_may_be_discovered() -> None:
    """The pattern starts in the file's folder, whatever that is called; what is found has the defaults."""
    text = '[supervisor]\ndiscover = "plugins/*"\ndiscover_entry_points = true\n[defaults]\nlog_level = "debug"'
    discovery = parse(text, path="/etc/app [1]/plugins.toml").discovery

    assert discovery is not None
    assert (discovery.pattern, discovery.entry_points) == ("/etc/app [[]1]/plugins/*", True)
    assert (discovery.template.log_level, discovery.template.cwd) == ("debug", "/etc/app [1]")
    assert parse("").discovery is None


def test_what_is_not_said_is_the_default_of_the_specification() -> None:
    """The file has no defaults of its own, but that a plugin runs in the file's folder."""
    assert parse_plugin("") == PluginSpec(name="p", command=("p",), cwd="/etc/app")
    assert parse("") == SupervisorSpec()


def test_plugins_start_in_the_order_of_the_file() -> None:
    """The order matters to the strategy `rest_for_one`."""
    spec = parse("".join(f'[plugins.{name}]\ncommand = ["x"]\n' for name in "cab"))

    assert [plugin.name for plugin in spec.plugins] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("said", "meant"),
    [("permanent", "permanent"), ("always", "permanent"), ("on-failure", "transient"), ("never", "temporary")],
)
def test_restart_types_have_two_vocabularies(said: str, meant: str) -> None:
    """OTP's words and systemd's mean the same."""
    assert parse_plugin(f'restart = {{ type = "{said}" }}').restart.restart == meant


@pytest.mark.parametrize(
    ("defaults", "own", "health"),
    [
        ("{ interval = 9 }", "{ timeout = 1 }", HealthProbe(interval=9.0, timeout=1.0)),
        ("{ interval = 9 }", "false", None),
        ("{ interval = 9 }", "true", HealthProbe()),
        ("false", "{ timeout = 1 }", HealthProbe(timeout=1.0)),
    ],
)
def test_health_is_a_table_or_off(defaults: str, own: str, health: HealthProbe | None) -> None:
    """Tables are merged; what is not a table replaces."""
    (plugin,) = parse(f'[defaults]\nhealth = {defaults}\n[plugins.p]\ncommand = ["p"]\nhealth = {own}').plugins

    assert plugin.health == health


@pytest.mark.parametrize("program", ["store", "/opt/store"])
def test_a_name_and_an_absolute_path_stay_as_they_are(program: str) -> None:
    """The first is looked up on the PATH, the second needs no folder."""
    assert parse(f'[plugins.p]\ncommand = ["{program}"]').plugins[0].command == (program,)


def test_a_relative_file_name_starts_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Specifications hold absolute paths, so that a later change of folder moves nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugins.toml").write_text('[plugins.p]\ncommand = ["{python}", "p.py"]')

    (plugin,) = load_config("plugins.toml").plugins

    assert (plugin.command, plugin.cwd) == ((sys.executable, "p.py"), str(tmp_path))


@pytest.mark.parametrize(
    ("text", "table", "key", "said"),
    [
        ("[plugin.x]", None, "plugin", "plugin is an unknown key, allowed are supervisor, defaults, plugins; did you mean 'plugins'?"),
        ("supervisor = 5", "supervisor", None, "[supervisor] is the number 5, expected a table"),
        ("plugins = []", "plugins", None, "[plugins] is not a table; write [plugins.NAME] for each plugin"),
        ("plugins.store = 'x'", "plugins.store", None, "[plugins.store] is the text 'x', expected a table"),
        ("[supervisor]\nstrategy = 'one'", "supervisor", "strategy", "strategy is the text 'one', expected one of 'one_for_one', 'one_for_all', 'rest_for_one'"),
        ("[defaults]\ncommand = ['x']", "defaults", "command", "command is an unknown key"),
        ("[defaults.restart]\ntype = 'x'\n[plugins.p]\ncommand = ['p']", "defaults.restart", "type", "expected one of 'always', 'never', 'on-failure', 'permanent', 'temporary', 'transient'"),
        ("[plugins.p]", "plugins.p", "command", "[plugins.p] command is missing"),
        ("[plugins.p]\ncommand = 'rm -rf /'", "plugins.p", "command", "is the text 'rm -rf /', expected a list that is not empty, each item a text"),
        ("[plugins.p]\ncommand = []", "plugins.p", "command", "expected a list that is not empty"),
        ("[plugins.p]\ncommand = [1]", "plugins.p", "command", "is the list [1]"),
        ("[plugins.p]\ncommand = ['']", "plugins.p", None, "command is empty"),
        ("[plugins.p]\ncommand = ['{pyhton}', 'x']", "plugins.p", "command", "the only placeholder is '{python}'"),
        ("[plugins.store.restart]\ntyp = 'always'", "plugins.store.restart", "typ", "[plugins.store.restart] typ is an unknown key, allowed are type, intensity, backoff, stable_after; did you mean 'type'?"),
        ("[plugins.p.restart.backoff]\njitter = 2", "plugins.p.restart.backoff", "jitter", "is the number 2, expected a number >= 0 and <= 1"),
        ("[plugins.p]\nhealth = 'off'", "plugins.p", "health", "is the text 'off', expected a table or true or false"),
        ("[plugins.p]\nhealth = { failures = 0 }", "plugins.p.health", "failures", "expected an integer >= 1"),
        ("[plugins.p]\ncall_timeout = 'never'", "plugins.p", "call_timeout", "expected a number > 0 or 'none'"),
        ("[plugins.p]\nstart_timeout = inf", "plugins.p", "start_timeout", "is inf, expected a finite number"),
        ("[plugins.p]\nready_timeout = true", "plugins.p", "ready_timeout", "is the boolean true, expected a number > 0"),
        ("[plugins.p]\nready_timeout = 2024-05-01", "plugins.p", "ready_timeout", "is the date or time 2024-05-01"),
        ("[plugins.p]\ninherit_env = 1", "plugins.p", "inherit_env", "expected true or false"),
        ("[plugins.p]\nlog_level = 'loud'", "plugins.p", "log_level", "expected one of 'critical', 'debug', "),
        ("[plugins.p]\nenv = 5", "plugins.p", "env", "is the number 5, expected a table"),
        ("[plugins.p.env]\nPORT = 80", "plugins.p.env", "PORT", "is the number 80, expected a text"),
        ("[plugins.p]\ncommand = ['p']\nenv = { 'A=B' = 'x' }", "plugins.p", None, "'A=B' is not an environment variable's name"),
        ("[plugins.p]\ncommand = ['p']\nversions = [99999999999]", "plugins.p", None, "versions"),
        ("[plugins.p]\nversions = [-1]", "plugins.p", "versions", "each item an integer >= 0"),
        ("[plugins.p]\ncommand = ['p']\ncookie = { key = 'A=B' }", "plugins.p.cookie", None, "bad magic cookie"),
        ("[plugins.p]\ncommand = ['p']\ntls = { key = 'k', authority = 'a' }", "plugins.p.tls", None, "tls has no certificate; tls needs certificate, key and authority"),
        ("[plugins.p]\ntls = true", "plugins.p", "tls", "is the boolean true, expected a table"),
        ("[plugins.p]\ncommand = ['p']\nidempotent = ['Get']", "plugins.p", None, "is not a route; write it as '/package.Service/Method'"),
        ("[plugins.p]\ncommand = ['p']\nrestart.backoff = { initial = 9, ceiling = 1 }", "plugins.p.restart.backoff", None, "backoff needs"),
        ("[plugins.p]\ncommand = ['p']\nrestart.intensity = { limit = 50, period = 10 }", "plugins.p.restart", None, "can never trip"),
        ('[plugins."Bad Name"]\ncommand = ["p"]', 'plugins."Bad Name"', None, "'Bad Name' is not a plugin name"),
        ('[plugins."../x"]\ncommand = ["p"]', 'plugins."../x"', None, "is not a plugin name"),
        ('[plugins.p]\n"\\u001b[2J" = 1', "plugins.p", "\x1b[2J", "\\x1b[2J is an unknown key"),
    ],
)  # fmt: skip
def test_each_mistake_is_named_with_its_place(text: str, table: str | None, key: str | None, said: str) -> None:
    """The error names file, table, key, what was found and what is allowed."""
    error = refuse(text)

    assert (error.table, error.key) == (table, key)
    assert said in str(error)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[plugins\n", "(at line 1, column 9)"),
        ("a = 1\nb = = 2", "(at line 2,"),
        ("a = " + "[" * 9000, ""),
        ("a = " + "9" * 5000, ""),
    ],
)
def test_what_is_not_toml_is_said_with_its_line(text: str, said: str) -> None:
    """Neither deep nesting nor a huge number escapes as another exception."""
    assert "is not valid TOML" in str(refuse(text))
    assert said in str(refuse(text))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file, a folder and a binary file are configuration errors too."""
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    for path, said in ((tmp_path / "none.toml", "No such file"), (tmp_path, "directory"), (binary, "is not UTF-8")):
        with pytest.raises(ConfigurationError) as caught:
            load_config(path)
        assert said in str(caught.value)
        assert caught.value.path == str(path)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=4,
    ),
    st.sampled_from(["supervisor", "plugins", "plugins.p", "plugins.p.env", "plugins.p.health", "plugins.p.versions",
                     "plugins.p.restart.backoff.factor", "plugins.p.restart.intensity.limit", "plugins.p.call_timeout"]),
)  # fmt: skip
def test_no_value_anywhere_gives_another_error(value: Any, place: str) -> None:
    """Whatever TOML can hold under whatever key is accepted or refused by name."""
    text = f"plugins.q.command = ['q']\n{place} = {to_toml(value)}\n"
    said = "/etc/app/plugins.toml: accepted"
    try:
        parse(text)
    except ConfigurationError as error:
        said = str(error)

    assert said.startswith("/etc/app/plugins.toml: ")


def to_toml(value: object) -> str:
    """Write a value as TOML; None, which TOML lacks, as a time."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return '"' + "".join(f"\\U{0xFFFD if 0xD800 <= ord(c) < 0xE000 else ord(c):08x}" for c in value) + '"'
        case list():
            return "[" + ", ".join(map(to_toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{to_toml(key)} = {to_toml(item)}" for key, item in value.items()) + "}"
        case None:
            return "12:00:00"
        case _:
            return str(value)


def test_the_schema_accepts_what_the_parser_accepts() -> None:
    """An editor has nothing against a file that uses every key."""
    schema = config_schema()

    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(tomllib.loads(EVERYTHING), schema)


@pytest.mark.parametrize(
    "wrong",
    [
        {"plugin": {}},
        {"plugins": {"p": {}}},
        {"plugins": {"P": {"command": ["x"]}}},
        {"plugins": {"p": {"command": "x"}}},
        {"plugins": {"p": {"command": ["x"], "restart": {"typ": "always"}}}},
        {"plugins": {"p": {"command": ["x"], "call_timeout": "never"}}},
    ],
)
def test_the_schema_refuses_what_the_parser_refuses(wrong: dict[str, Any]) -> None:
    """An editor marks the mistake while it is made."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, config_schema())


def test_every_key_of_the_schema_is_described() -> None:
    """An editor shows what a key means."""
    for name, table in config_schema()["$defs"].items():
        for key, entry in table.get("properties", {}).items():
            assert entry.get("description"), f"{name}.{key}"
