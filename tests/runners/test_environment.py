from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from supervisor.runners.environment import build_environment, extend_lineage
from supervisor.spec import PluginSpec, Stdin

HOST = {
    "PATH": "/bin",
    "HOME": "/home/me",
    "LC_TIME": "C",
    "AWS_SECRET_ACCESS_KEY": "s3cret",
    "GITHUB_TOKEN": "s3cret",
    "LD_PRELOAD": "evil.so",
    "PYTHONPATH": "/elsewhere",
    "PYTHONDONTWRITEBYTECODE": "1",
    "SSLKEYLOGFILE": "/tmp/keys",
    "PLUGIN_CLIENT_CERT": "stale",
    "PLUGIN_MULTIPLEX_GRPC": "true",
}


def spec(**settings: Any) -> PluginSpec:
    """A plugin with these settings."""
    return PluginSpec(name="a", command=("a",), **settings)


def test_row_79_only_the_allowlist_is_inherited() -> None:
    """Credentials, loader and interpreter settings and stale protocol variables of the host stay with the host."""
    built = build_environment(HOST, spec(), {"PLUGIN_PROTOCOL_VERSIONS": "1"}, "/run/x")

    assert built == {
        "PATH": "/bin",
        "HOME": "/home/me",
        "LC_TIME": "C",
        "PLUGIN_PROTOCOL_VERSIONS": "1",
        "PLUGIN_UNIX_SOCKET_DIR": "/run/x",
        "PLUGIN_LIFELINE": "stdin",
    }


def test_inherit_env_passes_all_but_the_protocol() -> None:
    """The switch passes the host's environment on, without the variables that concern the host's own host."""
    built = build_environment(HOST, spec(inherit_env=True), {}, "/run/x")

    assert built == {
        **{name: value for name, value in HOST.items() if not name.startswith("PLUGIN_")},
        "PLUGIN_UNIX_SOCKET_DIR": "/run/x",
        "PLUGIN_LIFELINE": "stdin",
    }


def test_the_plugins_own_env_beats_what_is_inherited_and_the_protocol_beats_both() -> None:
    """A user can override PATH and set what the allowlist refuses, but cannot break the protocol."""
    own = {"PATH": "/opt/bin", "LD_PRELOAD": "wanted.so", "PLUGIN_UNIX_SOCKET_GROUP": "staff", "COOKIE": "mine"}
    built = build_environment(HOST, spec(env=own), {"COOKIE": "theirs"}, "/run/x")

    assert built["PATH"] == "/opt/bin"
    assert built["LD_PRELOAD"] == "wanted.so"
    assert built["PLUGIN_UNIX_SOCKET_GROUP"] == "staff"
    assert built["COOKIE"] == "theirs"


@given(st.dictionaries(st.text(), st.text()), st.booleans())
def test_nothing_of_the_protocol_is_ever_inherited(host: dict[str, str], everything: bool) -> None:
    """Whatever the host's environment holds, no PLUGIN_* variable of it passes and nothing is made up."""
    built = build_environment({**host, "PLUGIN_X": "1", "plugin_y": "2"}, spec(inherit_env=everything), {}, "/run/x")

    assert (built.pop("PLUGIN_UNIX_SOCKET_DIR"), built.pop("PLUGIN_LIFELINE")) == ("/run/x", "stdin")
    assert built.items() <= host.items()
    assert not any(name.upper().startswith("PLUGIN_") for name in built)


def test_a_lineage_grows_inward() -> None:
    """A plugin that is a host itself appends to its own lineage, so that its host still finds its plugins."""
    outer = extend_lineage({}, "host", "instance")

    assert outer == "host:instance"
    assert extend_lineage({"SUPERVISOR_LINEAGE": outer}, "inner", "leaf") == "host:instance:inner:leaf"


def test_a_plugin_with_the_hosts_terminal_knows_its_kind() -> None:
    """TERM passes when there is a terminal; and where there is no lifeline, none is promised."""
    host = {"TERM": "vt100"}

    assert "TERM" not in build_environment(host, spec(), {}, "/run/x")
    assert build_environment(host, spec(stdin=Stdin.INHERIT), {}, "/run/x") == {
        "TERM": "vt100",
        "PLUGIN_UNIX_SOCKET_DIR": "/run/x",
    }
    assert "PLUGIN_LIFELINE" not in build_environment(host, spec(survive_host=True), {}, "/run/x")
