"""The plugin wing: serve interfaces to a host.

from supervisor.sdk import serve

serve(Kv())
"""

from __future__ import annotations

from supervisor.sdk.context import PluginContext, current
from supervisor.sdk.negotiation import Servicer
from supervisor.sdk.serving import serve, serve_async
from supervisor.services.byte_streams import ByteReader, ByteSink, ByteSource, ByteWriter

__all__ = [
    "ByteReader",
    "ByteSink",
    "ByteSource",
    "ByteWriter",
    "PluginContext",
    "Servicer",
    "current",
    "serve",
    "serve_async",
]
