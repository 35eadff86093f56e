"""The host's variables."""

from __future__ import annotations

import pytest

from supervisor.errors import ConfigurationError
from supervisor.sdk.host_request import HostRequest, forget_host, parse_level, read_environment


def test_an_old_host_says_nothing() -> None:
    """No variable is required, and an empty one is as good as none."""
    assert read_environment({}) == HostRequest()
    names = (
        "PROTOCOL_VERSIONS",
        "UNIX_SOCKET_DIR",
        "UNIX_SOCKET_GROUP",
        "MIN_PORT",
        "MAX_PORT",
        "LOG_LEVEL",
        "CLIENT_CERT",
        "MULTIPLEX_GRPC",
        "HOST_SERVICES",
    )
    assert read_environment({f"PLUGIN_{name}": "" for name in names}) == HostRequest()


def test_every_variable() -> None:
    """Each variable has its field."""
    assert read_environment(
        {
            "PLUGIN_PROTOCOL_VERSIONS": "3,1",
            "PLUGIN_UNIX_SOCKET_DIR": "/run/x",
            "PLUGIN_UNIX_SOCKET_GROUP": "staff",
            "PLUGIN_MIN_PORT": "10000",
            "PLUGIN_MAX_PORT": "25000",
            "PLUGIN_MULTIPLEX_GRPC": "false",
            "PLUGIN_HOST_SERVICES": "1",
            "PLUGIN_LIFELINE": "stdin",
            "PLUGIN_LOG_LEVEL": "30",
            "PLUGIN_CLIENT_CERT": "-----BEGIN CERTIFICATE-----",
        }
    ) == HostRequest(
        versions="3,1",
        socket_directory="/run/x",
        socket_group="staff",
        ports=(10000, 25000),
        multiplex_asked=True,
        host_services=1,
        lifeline=True,
        log_level=30,
        client_certificate="-----BEGIN CERTIFICATE-----",
    )


@pytest.mark.parametrize(
    ("value", "asked", "meant"),
    [("true", True, True), ("1", True, True), ("false", True, False), ("maybe", True, False), ("", False, False)],
)
def test_asking_about_multiplexing_is_not_asking_for_it(value: str, asked: bool, meant: bool) -> None:
    """Any value has the plugin say whether it can; only one that is true to Go has it do so."""
    request = read_environment({"PLUGIN_MULTIPLEX_GRPC": value})

    assert (request.multiplex_asked, request.multiplex) == (asked, meant)


@pytest.mark.parametrize(
    ("level", "number"),
    [("10", 10), ("warn", 30), ("WARNING", 30), ("trace", 5), (40, 40), ("", None), ("loud", None), (None, None)],
)
def test_levels_are_names_or_numbers(level: str | int | None, number: int | None) -> None:
    """A level that nobody knows is one that was not given: a plugin starts all the same."""
    assert parse_level(level) == number


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PLUGIN_MIN_PORT", "x"),
        ("PLUGIN_MAX_PORT", "65536"),
        ("PLUGIN_MAX_PORT", "-1"),
        ("PLUGIN_MIN_PORT", "\u0661"),
        ("PLUGIN_MIN_PORT", "10"),
        ("PLUGIN_HOST_SERVICES", "audit"),
        ("PLUGIN_HOST_SERVICES", "0"),
        ("PLUGIN_HOST_SERVICES", str(2**32)),
    ],
)
def test_a_variable_that_cannot_work_is_named(name: str, value: str) -> None:
    """A bad port, an empty range, and an id that no broker gives out."""
    with pytest.raises(ConfigurationError) as error:
        read_environment({name: value})
    assert error.value.key == name


def test_what_was_meant_for_this_process_is_forgotten() -> None:
    """A host that a plugin starts does not find the variables; those of the plugin's author stay."""
    environment = {f"PLUGIN_{name}": "x" for name in ("CLIENT_CERT", "LIFELINE", "HOST_SERVICES", "COLOUR")}
    forget_host(environment)

    assert environment == {"PLUGIN_COLOUR": "x"}
