"""Specifications are right from birth, or are not born."""

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import ConfigurationError
from supervisor.spec import HealthProbe, MagicCookie, PluginSpec, StopPolicy, SupervisorSpec
from supervisor.terms import Limits
from supervisor.tls import TlsFiles


def plugin(name: str = "store", **changes: Any) -> PluginSpec:
    """Make a specification with a command."""
    return PluginSpec(name=name, **{"command": ("store",), **changes})


def test_a_specification_does_not_change_with_what_it_was_made_of() -> None:
    """Lists and dicts are copied and frozen."""
    command, env = ["store", "-v"], {"A": "1"}
    spec = plugin(command=command, env=env)
    command.append("-x")
    env["A"] = "2"

    assert (spec.command, spec.env) == (("store", "-v"), {"A": "1"})
    with pytest.raises(TypeError):
        spec.env["B"] = "1"  # type: ignore[index]  # the point is that it fails
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.cwd = "/"  # type: ignore[misc]  # the point is that it fails


@pytest.mark.parametrize("name", ["a", "0", "store", "my-store_2.v1", "x" * 63])
def test_plain_names_are_taken(name: str) -> None:
    """They appear in paths, logs and metrics as they are."""
    assert plugin(name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../x",
        "/etc/x",
        "a/b",
        "a\0",
        "-rf",
        ".hidden",
        "_x",
        "Store",
        "a b",
        "a..b",
        "x" * 64,
        "x" * 300,
        "ѕtore",  # noqa: RUF001 - a Cyrillic letter is the point
        "a\n",
    ],
)
def test_names_that_could_be_something_else_are_refused(name: str) -> None:
    """Paths, options, confusables, and what is too long."""
    with pytest.raises(ConfigurationError, match="is not a plugin name") as caught:
        plugin(name)

    assert caught.value.hint is not None


@given(st.text())
def test_no_name_leaves_its_directory(name: str) -> None:
    """A name that is accepted is one plain component of a path."""
    try:
        accepted = plugin(name).name
    except ConfigurationError:
        return

    assert accepted.isascii()
    assert accepted.isprintable()
    assert accepted[0] not in ".-_"
    assert ".." not in accepted
    assert "/" not in accepted


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"command": "rm -rf /; true"}, "is a string; give a list of arguments; nothing is passed to a shell"),
        ({"command": ()}, "command is empty"),
        ({"command": ("",)}, "command is empty"),
        ({"command": ("a", "b\0")}, "NUL in 'b\\x00'"),
        ({"cwd": "/a\0"}, "NUL in '/a\\x00'"),
        ({"env": {"A": "b\0"}}, "NUL in"),
        ({"env": {"A=B": "c"}}, "'A=B' is not an environment variable's name"),
        ({"env": {"": "c"}}, "'' is not an environment variable's name"),
        ({"versions": ()}, "versions () must be a non-empty list"),
        ({"versions": (-1,)}, "versions (-1,)"),
        ({"versions": (2**31,)}, "versions"),
        ({"start_timeout": 0}, "start_timeout must be positive, got 0"),
        ({"connect_timeout": -1}, "connect_timeout must be positive, got -1"),
        ({"ready_timeout": math.nan}, "ready_timeout must be positive, got nan"),
        ({"call_timeout": 0}, "call_timeout must be positive, got 0"),
        ({"idempotent": frozenset({"kv.Kv/Get"})}, "'kv.Kv/Get' is not a route"),
        ({"idempotent": frozenset({"/kv.Kv/Get\n"})}, "is not a route"),
        ({"sha256": ""}, "sha256 '' is not a SHA-256 digest; write the 64 hexadecimal digits"),
        ({"sha256": "abc"}, "sha256 'abc' is not a SHA-256 digest; write the 64 hexadecimal digits"),
        ({"sha256": {"plugin.py": "0" * 64}}, "sha256 pins 'plugin.py', which is no part of the command"),
        ({"command": ["../x"], "plugin_dir": "p"}, "command '../x' climbs out of plugin_dir"),
        ({"socket_group": ""}, "socket_group '' is no group"),
        ({"ports": (2, 1)}, "ports [2, 1] are not the first and the last of a range"),
        ({"ports": (1, 2, 3)}, "are not the first and the last"),
        ({"ports": (1, 65536)}, "are not the first and the last"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], said: str) -> None:
    """The error names the plugin, what is wrong and, where it helps, what to do."""
    with pytest.raises(ConfigurationError) as caught:
        plugin(**changes)

    assert caught.value.plugin == "store"
    assert caught.value.phase == "config"
    assert said in str(caught.value)


def test_no_deadline_and_no_probe_can_be_asked_for() -> None:
    """None is a choice, not an omission."""
    spec = plugin(call_timeout=None, health=None)

    assert (spec.call_timeout, spec.health) == (None, None)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MagicCookie(key=""),
        lambda: MagicCookie(key="A=B"),
        lambda: MagicCookie(value="\0"),
        lambda: HealthProbe(interval=0),
        lambda: HealthProbe(timeout=-1),
        lambda: HealthProbe(timeout=math.nan),
        lambda: HealthProbe(failures=0),
        lambda: StopPolicy(drain=-1),
        lambda: StopPolicy(shutdown=math.nan),
        lambda: StopPolicy(kill=0),
        *(lambda name=name: Limits(**{name: 0}) for name in ("message_size", "calls_in_flight", "log_line", "log_backlog", "stderr_tail")),
    ],
)  # fmt: skip
def test_parts_that_make_no_sense_are_refused(make: Any) -> None:
    """Each part checks itself, so a specification is made of good parts."""
    with pytest.raises(ConfigurationError):
        make()


def test_the_longest_stop_is_known_beforehand() -> None:
    """A host can tell its own supervisor how long to wait."""
    assert StopPolicy(drain=1, shutdown=2, terminate=3, kill=4).total == 10


def test_two_plugins_of_one_name_are_refused() -> None:
    """The name is how a plugin is addressed."""
    with pytest.raises(ConfigurationError, match="two plugins are named a, b"):
        SupervisorSpec(plugins=tuple(plugin(name) for name in "abcab"))


@pytest.mark.parametrize(
    "settings",
    [{"stdin": "inherit"}, {"auto_mtls": True}, {"multiplex": True}],
    ids=lambda settings: next(iter(settings)),
)
def test_what_ends_with_the_host_cannot_survive_it(settings: dict[str, Any]) -> None:
    """A terminal, keys in the host's memory, the one connection: each is refused by name."""
    with pytest.raises(ConfigurationError, match=next(iter(settings))) as caught:
        plugin(survive_host=True, **settings)

    assert caught.value.plugin == "store"


def test_certificates_in_files_survive() -> None:
    """The next host reads them again; `auto_mtls` means nothing beside them."""
    tls = TlsFiles(certificate="c", key="k", authority="a")

    assert plugin(survive_host=True, auto_mtls=True, tls=tls).survive_host
