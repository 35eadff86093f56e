"""Importing asyncio and betterproto without what they import and a plugin does not use: half of the time that these take.

asyncio loads `ssl`. betterproto reads its own version from its package's metadata, makes a class of each of
google.protobuf's own messages, wants dateutil and json for JSON, and loads grpclib's server, and h2 with it, for one
annotation. While they are imported, something smaller stands in for each; whoever asks later gets the real one.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, Concatenate, Final, ParamSpec, Self

__all__ = ["import_betterproto", "without_collecting"]

_NOT_ASYNCIOS: Final = ("ssl", "tokenize", "textwrap", "locale")
"""What is loaded with asyncio for TLS, and by what it loads for source code, tracebacks and child processes' text."""


_BASES: Final = {"Duration", "Timestamp"}
"""google.protobuf's messages from which betterproto derives a class."""


@contextmanager
def without_collecting() -> Iterator[None]:
    """Import inside: what is imported stays, and looking for garbage in it again and again takes 3 ms."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def import_betterproto() -> None:
    """Import asyncio, betterproto and its servicers' base class, unless that was done already."""
    if "asyncio" not in sys.modules:
        sslproto = _Later("asyncio.sslproto")
        with _standing_in(sslproto, _Ast("ast"), *map(_Later, _NOT_ASYNCIOS)):
            vars(importlib.import_module("asyncio")).setdefault("sslproto", sslproto)
    if "betterproto" in sys.modules:
        return
    wellknown = _Wellknown("betterproto.lib.google.protobuf")
    with _standing_in(
        _module("betterproto._version", __version__=None),
        _module("dateutil.parser", isoparse=_isoparse),
        _Later("json"),
        _module("typing_extensions", Concatenate=Concatenate, ParamSpec=ParamSpec, Self=Self),
        wellknown,
    ):
        betterproto = importlib.import_module("betterproto")
    wellknown.put_off(betterproto)
    import grpclib  # noqa: PLC0415 - betterproto has loaded it

    server = _module("grpclib.server", Stream=_Stream)
    with _standing_in(server):
        lent = vars(grpclib).setdefault("server", server) is server
        try:
            importlib.import_module("betterproto.grpc.grpclib_server")
        finally:
            if lent:
                del vars(grpclib)["server"]


@contextmanager
def _standing_in(*modules: ModuleType) -> Iterator[None]:
    """Have each be what an import of its name finds, unless the real one is there."""
    lent = [module for module in modules if sys.modules.setdefault(module.__name__, module) is module]
    try:
        yield
    finally:
        for module in lent:
            _take_away(module)


def _take_away(module: ModuleType) -> None:
    if sys.modules.get(module.__name__) is module:
        del sys.modules[module.__name__]


class _Later(ModuleType):
    """A module that is loaded when something in it is wanted."""

    def __getattr__(self, name: str) -> Any:
        _take_away(self)
        return getattr(importlib.import_module(self.__name__), name)


class _Ast(_Later):
    """`ast`, from which `inspect` derives a class, up to 3.12, to find the source of classes."""

    class NodeVisitor:
        """Does what the real one does."""

        def __getattr__(self, name: str) -> Any:
            return partial(getattr(importlib.import_module("ast").NodeVisitor, name), self)


class _Wellknown(ModuleType):
    """What stands in for google.protobuf's own messages while betterproto, which they need, is made itself."""

    def __getattr__(self, name: str) -> Any:
        # `put_off` takes all of them away again, and what betterproto derives from these two.
        return object if name in _BASES else None

    def put_off(self, betterproto: ModuleType) -> None:
        """Load the real ones when betterproto first needs one, or somebody asks betterproto for one."""
        names = vars(betterproto)
        wrapper_of = names["_get_wrapper"]
        derived = {name: names[name] for name in ("_Duration", "_Timestamp")}
        missing = {name for name in wrapper_of.__code__.co_names if name in names and names[name] is None} | _BASES

        def load() -> None:
            real = importlib.import_module(self.__name__)
            names.update({name: getattr(real, name) for name in missing}, _get_wrapper=wrapper_of)
            for name, made in derived.items():
                members = {key: value for key, value in vars(made).items() if key not in ("__dict__", "__weakref__")}
                names[name] = type(name, (names[name[1:]],), members)

        def get(name: str) -> Any:
            if name == "__version__":
                names[name] = _installed_version()
            elif name in missing or name in derived or name == wrapper_of.__name__:
                load()
            else:
                raise AttributeError(f"module 'betterproto' has no attribute {name!r}")
            return names[name]

        for name in (*missing, "__version__"):
            del names[name]
        for name in (*derived, wrapper_of.__name__):
            names[name] = _Unmade(partial(get, name))
        names["__getattr__"] = get


class _Unmade:
    """A class or function that is made when it is used."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make()(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)


def _installed_version() -> str:
    from importlib.metadata import version  # noqa: PLC0415 - 11 ms, for the curious

    return version("betterproto")


class _Stream:
    """What stands in for `grpclib.server.Stream`."""


def _module(name: str, **names: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(names)
    return module


def _isoparse(text: Any) -> Any:
    """Read a date as dateutil does."""
    from dateutil.parser import isoparse  # type: ignore[import-untyped] # noqa: PLC0415 - used for JSON only

    return isoparse(text)
