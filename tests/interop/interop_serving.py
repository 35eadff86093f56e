"""How the plugins beside this file serve: with the cookie of go-plugin's examples, where and with what the test says.

INTEROP_NETWORK is `unix` or `tcp`, INTEROP_TLS a folder with the plugin's certificates, INTEROP_CLEANED a file that is made
once `serve` has returned: what a plugin of one's own would clean up there.
"""

import os
from pathlib import Path
from typing import Any

from supervisor.sdk import serve
from supervisor.spec import MagicCookie
from supervisor.tls import TlsFiles

__all__ = ["serve_as_asked"]


def serve_as_asked(*services: Any, **options: Any) -> None:
    """Serve until the host ends it."""
    serve(
        *services,
        cookie=MagicCookie(key="BASIC_PLUGIN", value="hello"),
        network=os.environ.get("INTEROP_NETWORK", "unix"),
        tls=_files(os.environ.get("INTEROP_TLS")),
        **options,
    )
    if cleaned := os.environ.get("INTEROP_CLEANED"):
        Path(cleaned).touch()


def _files(folder: str | None) -> TlsFiles | None:
    if folder is None:
        return None
    return TlsFiles(certificate=f"{folder}/plugin.pem", key=f"{folder}/plugin.key", authority=f"{folder}/authority.pem")
