"""The plugin, as its author would write it."""

from supervisor.sdk import serve  # before generated code, as in a project where it is installed

# isort: split
from benchmarks.contract import Kv

if __name__ == "__main__":
    serve(Kv())
