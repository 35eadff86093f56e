"""Say `ready`, then end in the way that the first argument names, once standard input has been read to its end.

`exit N` and `signal N` end at once.
"""

# Printing is how this program answers.
# ruff: noqa: T201

import os
import resource
import signal
import sys

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
print("ready", flush=True)
match sys.argv[1:]:
    case ["exit", code]:
        os._exit(int(code))
    case ["signal", number]:
        signal.signal(int(number), signal.SIG_DFL) if int(number) != signal.SIGKILL else None
        os.kill(os.getpid(), int(number))
    case ["wait"]:
        while True:
            signal.pause()
