"""Run a plugin that an installed distribution names as an entry point: `python -P -m supervisor.sdk.entry NAME`.

    [project.entry-points."supervisor.plugins"]
    store = "my_package.plugin:main"

where `main()` calls `serve`. This is how a host runs what it has found so.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

__all__ = ["main"]


def main(name: str) -> None:
    """Load the entry point of this name and call it; exit with status 1 and a word to people if that is not possible."""
    found = entry_points(group="supervisor.plugins", name=name)
    if len(found) != 1:
        there = "no entry point" if not found else f"{len(found)} entry points"
        sys.exit(f"{there} named {name!r} in the group 'supervisor.plugins'")
    (entry_point,) = found
    entry_point.load()()


if __name__ == "__main__":
    main(sys.argv[1])
