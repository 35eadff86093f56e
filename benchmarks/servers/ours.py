"""The plugin, as its author would write it."""

from benchmarks.contract import Kv
from supervisor.sdk import serve

if __name__ == "__main__":
    serve(Kv())
