"""The plugin of two interfaces in the versions that its arguments name, in Python; 1 and 2 when it has none."""

import sys

from interop_proto import GreeterBase, Greeting, Name
from interop_serving import serve_as_asked
from served_kv import Kv


class Greeter(GreeterBase):
    """Greets in the words of one version of the application's protocol."""

    def __init__(self, version: int) -> None:
        self._version = version

    async def greet(self, name: Name) -> Greeting:
        """Greet."""
        return Greeting(text=f"version {self._version} greets {name.name}")


versions = [int(argument) for argument in sys.argv[1:]] or [1, 2]
serve_as_asked(versions={version: (Kv(), Greeter(version)) for version in versions})
