"""The plugin wing: serve interfaces to a host.

from supervisor.sdk import serve

serve(Kv())

Import it before anything that may print: from then on stdout is kept for the handshake, and an error that nobody catches
is a record to the host. See `sdk/early.py`.
"""

from __future__ import annotations

from supervisor.transport.light_imports import import_betterproto

import_betterproto()  # before anything else does

from supervisor.manifest import Manifest  # noqa: E402 - see above
from supervisor.sdk.context import PluginContext, current  # noqa: E402
from supervisor.sdk.early import prepare as _prepare  # noqa: E402
from supervisor.sdk.negotiation import Servicer  # noqa: E402
from supervisor.sdk.serving import serve, serve_async  # noqa: E402
from supervisor.services.byte_streams import ByteReader, ByteSink, ByteSource, ByteWriter  # noqa: E402

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
