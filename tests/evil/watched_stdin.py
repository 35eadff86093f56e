"""Start a child in a session of its own, with no trace of its lineage, that ends only when standard input does."""

# Printing is how this program answers.
# ruff: noqa: T201

import json
import os
import signal
import subprocess
import sys

child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], env={}, start_new_session=True)
print(json.dumps({"leader": os.getpid(), "watcher": child.pid}), flush=True)
while True:
    signal.pause()
