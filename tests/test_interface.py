"""A contract, declared once."""

from typing import Any

import pytest

from supervisor.errors import ConfigurationError
from supervisor.interface import Interface


class Stub:
    def __init__(self, channel: Any) -> None:
        self.channel = channel


def test_an_interface_is_a_value() -> None:
    """Two declarations of the same contract are equal, and one can be a key."""
    assert Interface("kv", Stub) == Interface("kv", Stub, version=1)
    assert Interface("kv", Stub) != Interface("kv", Stub, version=2)
    assert {Interface("kv", Stub): 1}[Interface("kv", Stub)] == 1


@pytest.mark.parametrize(("name", "stub"), [("", Stub), ("kv", None), ("kv", "KvStub")])
def test_an_interface_needs_a_name_and_something_to_call(name: str, stub: Any) -> None:
    """A mistake is found where the interface is declared, not where it is dispensed."""
    with pytest.raises(ConfigurationError):
        Interface(name, stub)
