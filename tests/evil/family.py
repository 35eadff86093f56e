"""Start children that try to get away: plain, own group, own session, orphaned into a session of their own.

Prints the pids of all as one line of JSON, then waits for ever, or exits with the code given as first argument.
The children hold this program's stdout and stderr open.
"""

# Printing is how this program answers.
# ruff: noqa: T201

import json
import os
import signal
import sys
from collections.abc import Callable


def hide_in_group() -> None:
    """Leave the group, stay in the session."""
    os.setpgid(0, 0)


def orphan() -> None:
    """Leave the session and the parent."""
    os.setsid()
    if os.fork():
        os._exit(0)
    os.setsid()


def start(prepare: Callable[[], None]) -> int:
    """Fork a child that prepares itself, reports its final pid and waits for ever."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        prepare()
        os.write(writing, b"%d\n" % os.getpid())
        os.close(writing)
        while True:
            signal.pause()
    os.close(writing)
    with os.fdopen(reading) as answer:
        return int(answer.readline())


pids = {
    "leader": os.getpid(),
    "plain": start(lambda: None),
    "group": start(hide_in_group),
    "session": start(os.setsid),
    "orphan": start(orphan),
}
print(json.dumps(pids), flush=True)
if len(sys.argv) > 1:
    os._exit(int(sys.argv[1]))
while True:
    signal.pause()
