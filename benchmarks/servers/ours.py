"""The plugin, as its author would write it."""

import sys

from supervisor.sdk import serve  # before generated code, as in a project where it is installed

# isort: split
from benchmarks.contract import Kv, Load

if __name__ == "__main__":
    serve(Kv(), Load(), event_loop="uvloop" if sys.argv[1:] == ["uvloop"] else "asyncio")
