"""Reattach tokens: our own form, go-plugin's and Terraform's, and what is none of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.address import TcpAddress, UnixAddress
from supervisor.errors import ConfigurationError
from supervisor.reattach import ProcessIdentity, ReattachToken

PROCESS = ProcessIdentity(pid=4711, started=123456, boot_id="b00t", lineage="1ineage", directory="/run/sup-0")

TOKEN = ReattachToken(
    name="store",
    process=PROCESS,
    address=UnixAddress("/run/sup-0/plugin1"),
    version=5,
    generation=3,
    survives_host=True,
)

CONFIG = {
    "Protocol": "grpc",
    "ProtocolVersion": 5,
    "Pid": 4711,
    "Test": True,
    "Addr": {"Network": "unix", "String": "/tmp/plugin1"},
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@pytest.mark.parametrize("address", [UnixAddress("/tmp/a"), TcpAddress("127.0.0.1", 4711), TcpAddress("::1", 1)])
@pytest.mark.parametrize("version", [None, 0, 5])
def test_our_form_keeps_everything(address: UnixAddress | TcpAddress, version: int | None) -> None:
    """What is written is read back, in one line."""
    token = ReattachToken(name="store", process=PROCESS, address=address, version=version, test=True)

    assert ReattachToken.from_json(token.to_json()) == token
    assert "\n" not in token.to_json()


def test_go_plugins_form_is_what_its_hosts_read() -> None:
    """The keys and types of ReattachConfig, as Terraform writes them."""
    assert json.loads(TOKEN.to_go_plugin()) == {
        "Protocol": "grpc",
        "ProtocolVersion": 5,
        "Pid": 4711,
        "Test": False,
        "Addr": {"Network": "unix", "String": "/run/sup-0/plugin1"},
    }
    assert json.loads(TOKEN.to_terraform("example.com/a/b")) == {"example.com/a/b": json.loads(TOKEN.to_go_plugin())}


def test_go_plugins_form_is_read() -> None:
    """Pid, address, version and test mode arrive; nothing is known of the process but its pid."""
    token = ReattachToken.from_go_plugin(json.dumps(CONFIG), name="store")

    assert token == ReattachToken(
        name="store",
        process=ProcessIdentity(pid=4711),
        address=UnixAddress("/tmp/plugin1"),
        version=5,
        survives_host=True,
        test=True,
    )
    assert ReattachToken.from_terraform(json.dumps({"a/b": CONFIG}), source="a/b", name="store") == token


@pytest.mark.parametrize("said", [{}, {"ProtocolVersion": 0}], ids=["absent", "zero"])
def test_a_version_of_zero_says_nothing(said: dict[str, int]) -> None:
    """go-plugin fills it in for test mode only."""
    config = {key: value for key, value in CONFIG.items() if key != "ProtocolVersion"} | said

    assert ReattachToken.from_go_plugin(json.dumps(config), name="store").version is None


@pytest.mark.parametrize(
    "change",
    [
        {"Protocol": "netrpc"},
        {"Protocol": ""},
        {"Pid": 0},
        {"Pid": 1},
        {"Pid": -1},
        {"Pid": "4711"},
        {"Pid": True},
        {"Pid": 2**31},
        {"Addr": None},
        {"Addr": {"Network": "unix", "String": "../relative"}},
        {"Addr": {"Network": "tcp", "String": "192.0.2.1:80"}},
        {"ProtocolVersion": "5"},
    ],
    ids=str,
)
def test_what_cannot_be_reattached_is_refused(change: dict[str, object]) -> None:
    """A pid that stands for many, an address off this machine, another protocol, a wrong type."""
    with pytest.raises(ConfigurationError) as caught:
        ReattachToken.from_go_plugin(json.dumps({**CONFIG, **change}), name="store")

    assert caught.value.key == "reattach"


def test_a_later_format_is_refused() -> None:
    """What this library does not know it does not guess."""
    with pytest.raises(ConfigurationError, match="format"):
        ReattachToken.from_json(json.dumps({**json.loads(TOKEN.to_json()), "format": 2}))


@given(st.one_of(st.text(), JSON.map(json.dumps)))
def test_noise_is_no_token(text: str) -> None:
    """Whatever else it is, it is a ConfigurationError."""
    for read in (ReattachToken.from_json, lambda noise: ReattachToken.from_go_plugin(noise, name="store")):
        with pytest.raises(ConfigurationError):
            read(text)


@given(st.sampled_from(sorted(json.loads(TOKEN.to_json()))), JSON)
def test_a_changed_token_is_a_token_or_refused(key: str, value: object) -> None:
    """Every field is looked at."""
    changed = json.dumps({**json.loads(TOKEN.to_json()), key: value})
    try:
        token = ReattachToken.from_json(changed)
    except ConfigurationError:
        return

    assert ReattachToken.from_json(token.to_json()) == token
