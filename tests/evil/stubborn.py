"""Ignore every signal that can be ignored, say so, and never end."""

# Printing is how this program answers.
# ruff: noqa: T201

import signal

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
print("ready", flush=True)
while True:
    signal.pause()
