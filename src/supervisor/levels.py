"""Severities, with one meaning in every library's words."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["Level"]


class Level(enum.IntEnum):
    """Severities with the numbers that stdlib logging and structlog use."""

    TRACE = 5
    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40
    CRITICAL = 50

    @classmethod
    def from_name(cls, name: str) -> Level | None:
        """Return the level that `name` means in stdlib logging, structlog, hclog, slog or logrus; None if none."""
        return _BY_NAME.get(name.strip().lower())

    @classmethod
    def from_number(cls, number: int) -> Level:
        """Return the highest level not above `number`."""
        return max((level for level in cls if level <= number), default=cls.TRACE)


_BY_NAME: Mapping[str, Level] = MappingProxyType(
    {
        "trace": Level.TRACE,
        "debug": Level.DEBUG,
        "info": Level.INFO,
        "notice": Level.INFO,
        "warn": Level.WARNING,
        "warning": Level.WARNING,
        "err": Level.ERROR,
        "error": Level.ERROR,
        "exception": Level.ERROR,
        "critical": Level.CRITICAL,
        "fatal": Level.CRITICAL,
        "panic": Level.CRITICAL,
    }
)
