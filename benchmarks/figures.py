"""What is made of measurements: figures of a slice, medians over rounds, ratios between systems. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

__all__ = ["Figures", "Flow", "Results", "Slice", "Used", "interleave", "medians", "percentile", "ratios"]

Figures = Mapping[str, float]
"""Figures by name, the unit at its end: `calls_per_s`, `p50_us`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a slice took, in seconds.

    Attributes:
        seconds: of time.
        client_cpu: CPU time of the client process, user and system, all threads.
        server_cpu: the same of the server process.
    """

    seconds: float
    client_cpu: float
    server_cpu: float

    def cpu_figures(self, count: int) -> dict[str, float]:
        """Return the CPU time of each of `count` things."""
        return {
            "cpu_us": (self.client_cpu + self.server_cpu) / count * 1e6,
            "client_cpu_us": self.client_cpu / count * 1e6,
            "server_cpu_us": self.server_cpu / count * 1e6,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The calls of one system in one slice.

    Attributes:
        latencies: seconds of each call, in no order.
        used: what all of them took.
    """

    latencies: Sequence[float]
    used: Used

    def figures(self) -> dict[str, float]:
        """Return what to report."""
        calls, ordered = len(self.latencies), sorted(self.latencies)
        return {
            "calls": calls,
            "calls_per_s": calls / self.used.seconds,
            "p50_us": percentile(ordered, 0.50) * 1e6,
            "p99_us": percentile(ordered, 0.99) * 1e6,
            **self.used.cpu_figures(calls),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """The messages that one system streamed in one slice, each of `size` bytes."""

    messages: int
    size: int
    used: Used

    def figures(self) -> dict[str, float]:
        """Return what to report; a megabyte is a million bytes."""
        rate = self.messages / self.used.seconds
        return {
            "messages": self.messages,
            "messages_per_s": rate,
            "mb_per_s": rate * self.size / 1e6,
            **self.used.cpu_figures(self.messages),
        }


@dataclass(frozen=True, slots=True)
class Results:
    """Figures by system, by workload, one set for each round. Not every system has every workload."""

    rounds: dict[str, dict[str, list[Figures]]] = field(default_factory=dict)

    def add(self, system: str, workload: str, figures: Figures) -> None:
        """Take in the figures of one more round."""
        self.rounds.setdefault(system, {}).setdefault(workload, []).append(figures)

    def medians(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return the median over rounds of each figure, by system and workload."""
        return {
            system: {workload: medians(rounds) for workload, rounds in workloads.items()}
            for system, workloads in self.rounds.items()
        }

    def ratios_to(self, reference: str) -> dict[str, dict[str, dict[str, float]]]:
        """Return each system's figures as multiples of `reference`'s, by system and workload, where both have it."""
        theirs = self.rounds[reference]
        return {
            system: {name: ratios(rounds, theirs[name]) for name, rounds in workloads.items() if name in theirs}
            for system, workloads in self.rounds.items()
            if system != reference
        }


def interleave(systems: Sequence[str], workloads: Sequence[str], rounds: int) -> Iterator[tuple[str, str]]:
    """Yield who does what, in the order of the run: within a round each workload goes to all systems in turn."""
    for _ in range(rounds):
        for workload in workloads:
            for system in systems:
                yield system, workload


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed (the nearest rank).

    Args:
        ordered: the values, ascending, at least one.
        share: more than 0, at most 1.
    """
    return ordered[math.ceil(share * len(ordered)) - 1]


def medians(rounds: Sequence[Figures]) -> dict[str, float]:
    """Return the median of each figure over rounds."""
    return {name: median(figures[name] for figures in rounds) for name in rounds[0]}


def ratios(ours: Sequence[Figures], theirs: Sequence[Figures]) -> dict[str, float]:
    """Return the median over rounds of the ratio within each round.

    The two slices of a round ran right after each other, so that their ratio is steadier than that of two medians. How
    many calls or messages there were is no figure to compare, and nothing is a multiple of nothing.
    """
    pairs = list(zip(ours, theirs, strict=True))
    return {
        name: median(mine[name] / other[name] for mine, other in pairs)
        for name in ours[0]
        if name not in {"calls", "messages"} and all(other[name] for other in theirs)
    }
