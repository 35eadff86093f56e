"""The plugin wing: serve interfaces to a host.

from supervisor.sdk import serve

serve(Kv())

Import it before anything that may print: from then on stdout is kept for the handshake, and an error that nobody catches
is a record to the host. See `sdk/early.py`. And before generated code: betterproto then loads only what a plugin needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from supervisor.transport.light_imports import import_betterproto, without_collecting

with without_collecting():
    import_betterproto()  # before anything else does

    from supervisor.sdk.context import PluginContext, current
    from supervisor.sdk.early import prepare as _prepare
    from supervisor.sdk.negotiation import Servicer
    from supervisor.sdk.serving import serve, serve_async

    _prepare()

if TYPE_CHECKING:
    from supervisor.manifest import Manifest
    from supervisor.services.byte_streams import ByteReader, ByteSink, ByteSource, ByteWriter

__all__ = [
    "ByteReader",
    "ByteSink",
    "ByteSource",
    "ByteWriter",
    "Manifest",
    "PluginContext",
    "Servicer",
    "current",
    "serve",
    "serve_async",
]

_HOME_OF: Final = {
    "ByteReader": "supervisor.services.byte_streams",
    "ByteSink": "supervisor.services.byte_streams",
    "ByteSource": "supervisor.services.byte_streams",
    "ByteWriter": "supervisor.services.byte_streams",
    "Manifest": "supervisor.manifest",
}
"""What few plugins use, and is loaded when one does."""


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
