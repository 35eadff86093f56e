"""Which engine speaks HTTP/2."""

from __future__ import annotations

from typing import Literal, get_args

from supervisor.errors import ConfigurationError

__all__ = ["DEFAULT_ENGINE", "Engine", "chosen_engine"]

Engine = Literal["lean", "grpclib"]
"""`lean` is this package's own; `grpclib` is grpclib's on h2, with its lifecycle repaired."""

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
