"""The program of a plugin that does errands."""

import os

from errands import Errands

from supervisor.sdk import serve

serve(
    Errands(),
    network=os.environ.get("ERRANDS_NETWORK", "unix"),
    event_loop="uvloop" if os.environ.get("ERRANDS_LOOP") == "uvloop" else "asyncio",
)
