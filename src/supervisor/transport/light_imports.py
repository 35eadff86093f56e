"""Importing betterproto without what it imports and a plugin does not use: a quarter of the time that a plugin takes to start.

It reads its own version from its package's metadata, wants dateutil for dates in JSON, and loads grpclib's server, and h2 with
it, for one annotation. While it is imported, something smaller stands in for each; whoever asks later gets the real one.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import grpclib

__all__ = ["import_betterproto"]


def import_betterproto() -> None:
    """Import it and its servicers' base class, unless that was done already."""
    if "betterproto" in sys.modules:
        return
    stand_ins = [
        _module("betterproto._version", __version__=_installed_version()),
        _module("dateutil.parser", isoparse=_isoparse),
        _module("grpclib.server", Stream=_Stream),
    ]
    stand_ins = [module for module in stand_ins if module.__name__ not in sys.modules]
    sys.modules.update({module.__name__: module for module in stand_ins})
    lent = "server" not in vars(grpclib)
    if lent:
        vars(grpclib)["server"] = sys.modules["grpclib.server"]
    try:
        importlib.import_module("betterproto.grpc.grpclib_server")
    finally:
        for module in stand_ins:
            del sys.modules[module.__name__]
        if lent:
            del vars(grpclib)["server"]


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


def _installed_version() -> str:
    """Return betterproto's version, which the name of its metadata's directory tells."""
    spec = PathFinder.find_spec("betterproto")
    for folder in (spec and spec.submodule_search_locations) or ():
        for found in Path(folder).parent.glob("betterproto-*.dist-info"):
            return found.name.removesuffix(".dist-info").partition("-")[2]
    from importlib.metadata import version  # noqa: PLC0415 - installed in another way

    return version("betterproto")
