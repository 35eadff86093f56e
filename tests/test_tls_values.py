"""What the application brings for TLS is right from birth, or is not born."""

from __future__ import annotations

import ssl

import pytest

from supervisor.errors import ConfigurationError
from supervisor.spec import PluginSpec
from supervisor.tls import TlsContexts, TlsFiles


@pytest.mark.parametrize("name", ["certificate", "key", "authority", "server_name"])
def test_files_are_named_in_full(name: str) -> None:
    """Half a configuration would be no TLS, or TLS with anybody."""
    names = {"certificate": "a", "key": "b", "authority": "c", "server_name": "d"}
    with pytest.raises(ConfigurationError, match=f"tls has no {name}"):
        TlsFiles(**names | {name: ""})


def test_contexts_for_nobody_are_refused() -> None:
    """At least one role is what they are for."""
    with pytest.raises(ConfigurationError, match="tls has no context"):
        TlsContexts()


def test_host_needs_a_clients_context() -> None:
    """It is the one that connects."""
    with pytest.raises(ConfigurationError, match="no context for a client") as caught:
        PluginSpec(name="store", command=("store",), tls=TlsContexts(server=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)))

    assert caught.value.plugin == "store"
