"""The plugin wing: serve interfaces to a host.

from supervisor.sdk import serve

serve(Kv())
"""

from __future__ import annotations

from supervisor.sdk.context import PluginContext, current
from supervisor.sdk.negotiation import Servicer
from supervisor.sdk.serving import serve, serve_async

__all__ = ["PluginContext", "Servicer", "current", "serve", "serve_async"]
