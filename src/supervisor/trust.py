"""What a specification says of the files that it has executed: pins. Pure checks; the files are looked at elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from supervisor.errors import ConfigurationError

__all__ = ["read_pins"]

_DIGEST = re.compile("[0-9a-fA-F]{64}")


def read_pins(sha256: str | Mapping[str, str], command: tuple[str, ...], *, plugin: str) -> Mapping[str, str]:
    """Return digest by argument: a text pins the program, a table any part of the command that it names as it stands.

    Raises:
        ConfigurationError: a digest is none, or a name is not in the command.
    """
    pins = {command[0]: sha256} if isinstance(sha256, str) else dict(sha256)
    for name, digest in pins.items():
        if not _DIGEST.fullmatch(digest):
            raise ConfigurationError(
                f"sha256 {digest!r} is not a SHA-256 digest",
                plugin=plugin,
                hint="write the 64 hexadecimal digits that sha256sum prints",
            )
        if name not in command:
            raise ConfigurationError(
                f"sha256 pins {name!r}, which is no part of the command {list(command)!r}",
                plugin=plugin,
                hint="name the program or an argument exactly as it stands in the command",
            )
    return MappingProxyType({name: digest.lower() for name, digest in pins.items()})
