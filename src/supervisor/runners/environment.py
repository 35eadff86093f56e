"""What a plugin finds in its environment. Pure: values in, a dict out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

from supervisor.runners.lineage import VARIABLE as LINEAGE
from supervisor.spec import PluginSpec, Stdin

__all__ = ["ALLOWED", "build_environment", "extend_lineage"]

ALLOWED: Final = frozenset(
    {
        "PATH",  # to find programs
        "HOME", "USER", "LOGNAME",  # to find the user's own files and configuration
        "LANG", "LANGUAGE", "TZ",  # to speak and to tell the time as the host does; LC_* too, see below
        "TMPDIR",  # where the host's administrator wants temporary files
    }
)  # fmt: skip
"""Names that are inherited, besides `LC_*`.

Not among them, on purpose: whatever changes the code that a program loads (LD_*, DYLD_*, PYTHON*, NODE_OPTIONS ...),
credentials (AWS_*, *_TOKEN, SSH_AUTH_SOCK ...), TERM (there is none, unless stdin is inherited) and VIRTUAL_ENV, which interpreters do not
need: a virtual environment is found from the interpreter's own path.
"""

_ALLOWED_ON_WINDOWS: Final = frozenset(
    {
        "PATH", "PATHEXT", "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC",
        "TEMP", "TMP", "USERNAME", "USERPROFILE", "HOMEDRIVE", "HOMEPATH", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA",
        "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE",
    }
)  # fmt: skip


def build_environment(
    host_env: Mapping[str, str], spec: PluginSpec, variables: Mapping[str, str], socket_dir: str
) -> dict[str, str]:
    """Return the whole environment of one instance.

    From weakest to strongest: what is inherited (an allowlist, or everything with `inherit_env`), the plugin's own `env`,
    the protocol's `variables`. `PLUGIN_*` are never inherited: a host that is itself a plugin would hand its own
    certificate and multiplexing flags to a plugin that cannot know they are stale.

    `PLUGIN_LIFELINE` tells programs that know it (this library's sdk) that standard input ends with the host.
    """
    inherited = {name: value for name, value in host_env.items() if _passes(name, spec)}
    own = {"PLUGIN_UNIX_SOCKET_DIR": socket_dir}
    if spec.stdin is Stdin.LIFELINE and not spec.survive_host:
        own["PLUGIN_LIFELINE"] = "stdin"
    if spec.socket_group is not None:
        own["PLUGIN_UNIX_SOCKET_GROUP"] = spec.socket_group
    if spec.ports is not None:
        own["PLUGIN_MIN_PORT"], own["PLUGIN_MAX_PORT"] = map(str, spec.ports)
    return {**inherited, **spec.env, **variables, **own}


def extend_lineage(host_env: Mapping[str, str], *tokens: str) -> str:
    """Return the lineage of a child of this host: the host's own lineage, if it is a plugin itself, and `tokens`."""
    return ":".join([*filter(None, [host_env.get(LINEAGE, "")]), *tokens])


def _passes(name: str, spec: PluginSpec) -> bool:
    if name.upper().startswith("PLUGIN_"):
        return False
    if spec.inherit_env or (name == "TERM" and spec.stdin is Stdin.INHERIT):
        return True
    if sys.platform == "win32":
        return name.upper() in _ALLOWED_ON_WINDOWS
    return name in ALLOWED or name.startswith("LC_")
