"""The plugin, as its author would write it."""

import sys

from benchmarks.contract import Kv, Load
from supervisor.sdk import serve

if __name__ == "__main__":
    serve(Kv(), Load(), event_loop="uvloop" if sys.argv[1:] == ["uvloop"] else "asyncio")
