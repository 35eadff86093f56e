"""The plugin wing: serve interfaces to a host.

from supervisor.sdk import serve

serve(Kv())

Import it before anything that may print: from then on stdout is kept for the handshake, and an error that nobody catches
is a record to the host. See `sdk/early.py`.
"""

from __future__ import annotations

from supervisor.manifest import Manifest
from supervisor.sdk.context import PluginContext, current
from supervisor.sdk.early import prepare as _prepare
from supervisor.sdk.negotiation import Servicer
from supervisor.sdk.serving import serve, serve_async
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

_prepare()
