"""Listen on the unix socket whose path is the first argument, say so, and end when standard input does."""

# Printing is how this program answers.
# ruff: noqa: T201

import socket
import sys

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("listening", flush=True)
sys.stdin.read()
