"""The plugin that logs at any level, writes to the bare descriptors, and fails in every way."""

import logging
import os
import threading
import warnings

import structlog
from betterproto.lib.google.protobuf import Empty
from interop_proto import LogLine, LogsBase, Name, Prints
from interop_serving import serve_as_asked

log = structlog.get_logger("peer")


class Loose:
    """Cannot be finalized."""

    def __del__(self) -> None:
        raise ValueError("while it was finalized")


class Logs(LogsBase):
    """Logs."""

    async def log(self, log_line: LogLine) -> Empty:
        """Log by structlog; trace has no method of its own."""
        if log_line.level == "trace":
            logging.getLogger("peer").log(5, log_line.message)
        else:
            getattr(log, log_line.level)(log_line.message, **log_line.fields)
        return Empty()

    async def raw(self, prints: Prints) -> Empty:
        """Write to the descriptors."""
        os.write(1, prints.stdout)
        os.write(2, prints.stderr)
        return Empty()

    async def panic(self, name: Name) -> Empty:
        """Fail where somebody looks, in a thread, in a finalizer, with a warning, and in the handler itself."""
        try:
            raise ValueError(name.name)  # noqa: TRY301  # to be logged, here
        except ValueError:
            log.exception("caught")
        thread = threading.Thread(target=self._raise, args=(name.name,))
        thread.start()
        thread.join()
        Loose()
        warnings.warn("of something", stacklevel=1)
        raise RuntimeError(name.name)

    @staticmethod
    def _raise(text: str) -> None:
        raise KeyError(text)


serve_as_asked(Logs(), log_level="trace")
