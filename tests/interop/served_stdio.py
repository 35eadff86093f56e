"""The plugin that prints bytes to sys.stdout and sys.stderr."""

import sys

from betterproto.lib.google.protobuf import Empty
from interop_proto import Prints, StdioBase
from interop_serving import serve_as_asked


class Stdio(StdioBase):
    """Prints."""

    async def print(self, prints: Prints) -> Empty:
        """Write, and leave no line ending where there is none."""
        sys.stdout.buffer.write(prints.stdout)
        sys.stdout.flush()
        sys.stderr.buffer.write(prints.stderr)
        sys.stderr.flush()
        return Empty()


serve_as_asked(Stdio())
