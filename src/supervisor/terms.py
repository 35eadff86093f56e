"""What a host and a plugin both are told: the values that `Supervisor` and `serve` share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from supervisor.errors import ConfigurationError

__all__ = ["Engine", "Limits", "require"]


def require(condition: bool, message: str, *, plugin: str | None = None, hint: str | None = None) -> None:
    """Raise `ConfigurationError` unless the condition holds."""
    if not condition:
        raise ConfigurationError(message, plugin=plugin, hint=hint)


Engine = Literal["lean", "grpclib"]
"""What speaks HTTP/2: `lean` is this library's own, `grpclib` is grpclib's on h2, with its lifecycle repaired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what one plugin may cost the host.

    Attributes:
        message_size: bytes of one gRPC message, either direction.
        calls_in_flight: calls under way at once; more wait.
        broker_connections: services offered to it and connections to services that it offers, at once, together.
        log_line: bytes of one line on stderr or stdout; longer ones are cut and marked.
        log_backlog: bytes of log lines waiting to be parsed; more are dropped and counted.
        stderr_tail: lines of stderr kept for the exit report.
    """

    message_size: int = 64 * 1024 * 1024
    calls_in_flight: int = 10_000
    broker_connections: int = 1_000
    log_line: int = 64 * 1024
    log_backlog: int = 1024 * 1024
    stderr_tail: int = 50

    def __post_init__(self) -> None:
        for name in (
            "message_size", "calls_in_flight", "broker_connections", "log_line", "log_backlog", "stderr_tail",
        ):  # fmt: skip
            require(getattr(self, name) > 0, f"limit {name} must be positive")
