"""The plugin wing: serve interfaces to a host.

from supervisor.sdk import serve

serve(Kv())
"""

from __future__ import annotations

from supervisor.transport.light_imports import import_betterproto

import_betterproto()  # before anything else does

from supervisor.sdk.context import PluginContext, current  # noqa: E402 - see above
from supervisor.sdk.negotiation import Servicer  # noqa: E402
from supervisor.sdk.serving import serve, serve_async  # noqa: E402
from supervisor.services.byte_streams import ByteReader, ByteSink, ByteSource, ByteWriter  # noqa: E402

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
