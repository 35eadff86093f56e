"""What a type checker makes of an interface: mypy runs over this file, nothing else does."""

from typing import Any, assert_type

from supervisor.interface import Interface


class KvStub:
    """A stub as a compiler generates it."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    def get(self, key: str) -> bytes:
        """Answer with bytes."""
        raise NotImplementedError


def make_stub(channel: object) -> KvStub:
    """Make a stub in a function instead of a class."""
    return KvStub(channel)


KV = Interface("kv", KvStub)

assert_type(KV, Interface[KvStub])
assert_type(KV.stub(None), KvStub)
assert_type(KV.stub(None).get("a"), bytes)
assert_type(KV.name, str)
assert_type(KV.version, int)
assert_type(Interface("kv", make_stub, version=2), Interface[KvStub])

Interface("kv", 5)  # type: ignore[arg-type]  # a stub is something to call
Interface("kv", KvStub, version="1")  # type: ignore[arg-type]  # a version is a number
KV.name = "other"  # type: ignore[misc]  # an interface is a value
