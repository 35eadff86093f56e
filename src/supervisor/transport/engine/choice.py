"""Which engine speaks HTTP/2."""

from __future__ import annotations

from typing import get_args

from supervisor.errors import ConfigurationError
from supervisor.terms import Engine

__all__ = ["DEFAULT_ENGINE", "chosen_engine"]

DEFAULT_ENGINE: Engine = "lean"


def chosen_engine(name: Engine | None) -> Engine:
    """Return the engine of that name, or the default.

    Raises:
        ConfigurationError: there is none of that name.
    """
    chosen = name or DEFAULT_ENGINE
    if chosen not in get_args(Engine):
        raise ConfigurationError(f"no engine is named {name!r}; there are {', '.join(get_args(Engine))}")
    return chosen
