"""A KV plugin that a broken pipe ends, as it does most programs; its argument is a FIFO.

On SIGUSR1 it writes more to stderr than a pipe holds, and then opens the FIFO to say that it is done.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "kv"))

from kv_proto import Empty, GetRequest, GetResponse, KvBase, PutRequest  # after the path to the contract

from supervisor.sdk import serve

LINE = b"chatter " * 100 + b"\n"
LINES = 2000


class Kv(KvBase):
    """Knows how much was written."""

    def __init__(self) -> None:
        self._written = 0
        threading.Thread(target=self._chatter, daemon=True).start()

    async def get(self, message: GetRequest) -> GetResponse:
        """Answer how many bytes were written; with the key `say:TEXT` write one more line."""
        what, _, text = message.key.partition(":")
        if what == "say":
            os.write(2, f"{text}\n".encode())
        return GetResponse(value=str(self._written).encode())

    async def put(self, message: PutRequest) -> Empty:
        """Forget it."""
        return Empty()

    def _chatter(self) -> None:
        signal.sigwait({signal.SIGUSR1})
        for _ in range(LINES):
            self._written += os.write(2, LINE)
        Path(sys.argv[1]).open("wb").close()


signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
if __name__ == "__main__":
    serve(Kv())
