"""The bars: what calls are meant to cost, beside what was measured.

python -m benchmarks --bars

Most are ratios to a peer in the same run. What was not measured, for the peer is not on the machine, is said to be so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["BARS", "Bar", "Verdict", "judge", "print_bars"]

Found = Mapping[str, Any]
"""What `python -m benchmarks --json` prints: the JSON of each benchmark by its name."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the table.

    Attributes:
        title: what is measured, and in which unit.
        read: takes the figure out of the results; `LookupError` when it was not measured.
        limit: the bar.
        at_most: whether the figure is to be at most that; at least when not.
    """

    title: str
    read: Callable[[Found], float]
    limit: float
    at_most: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A bar, and the figure, None when it was not measured."""

    bar: Bar
    figure: float | None

    @property
    def word(self) -> str:
        """Say what became of it."""
        if self.figure is None:
            return "not measured"
        met = self.figure <= self.bar.limit if self.bar.at_most else self.figure >= self.bar.limit
        return "met" if met else "missed"


def _ratio(
    benchmark: str, reference: str, workload: str, figure: str, *, system: str = "ours"
) -> Callable[[Found], float]:
    return lambda found: float(found[benchmark]["ratios"][reference][system][workload][figure])


def _median(benchmark: str, workload: str, figure: str, *, unit: float = 1.0) -> Callable[[Found], float]:
    return lambda found: float(found[benchmark]["medians"]["ours"][workload][figure]) / unit


def _codec(message: str) -> Callable[[Found], float]:
    def read(found: Found) -> float:
        (row,) = (row for row in found["codec"]["rows"] if row["message"] == message)
        return float(row["times_faster_than_betterproto"])

    return read


BARS = (
    Bar("unary, 64 in flight: times grpcio.aio", _ratio("calls", "grpc_aio", "unary_64", "calls_per_s"), 18),
    Bar("unary, 64 in flight: times raw asyncio", _ratio("calls", "raw_asyncio", "unary_64", "calls_per_s"), 0.6),
    Bar("unary, 64 in flight: times go-plugin", _ratio("calls", "go_plugin", "unary_64", "calls_per_s"), 1.8),
    Bar(
        "the same with a deadline and metadata: times grpcio.aio",
        _ratio("calls", "grpc_aio", "unary_64_dressed", "calls_per_s"),
        12,
    ),
    Bar(
        "sequential p50 on one processor: times grpcio.aio",
        _ratio("calls", "grpc_aio", "unary_1_one_core", "p50_us"),
        0.25,
        at_most=True,
    ),
    Bar("100 B stream to the host: times grpcio.aio", _ratio("streams", "grpc_aio", "down_100", "messages_per_s"), 15),
    Bar("100 B stream to the plugin: times grpcio.aio", _ratio("streams", "grpc_aio", "up_100", "messages_per_s"), 15),
    Bar("64 KiB messages to the host: times grpcio.aio", _ratio("bulk", "grpc_aio", "down_64k", "mb_per_s"), 4),
    Bar("64 KiB messages to the plugin: times grpcio.aio", _ratio("bulk", "grpc_aio", "up_64k", "mb_per_s"), 4),
    Bar("1 MiB messages to the host: times grpcio.aio", _ratio("bulk", "grpc_aio", "down_1m", "mb_per_s"), 1.5),
    Bar("1 MiB messages to the plugin: times grpcio.aio", _ratio("bulk", "grpc_aio", "up_1m", "mb_per_s"), 1.5),
    Bar(
        "grpcio.aio host, our plugin, 64 in flight: times grpcio.aio",
        _ratio("calls", "grpc_aio", "unary_64", "calls_per_s", system="grpc_aio_to_ours"),
        3.5,
    ),
    Bar("unary p50 beside a stream to the host: ms", _median("fairness", "beside_down", "p50_us", unit=1e3), 1, at_most=True),
    Bar("unary p50 beside a stream to the plugin: ms", _median("fairness", "beside_up", "p50_us", unit=1e3), 1, at_most=True),
    Bar("seven fields, encode and decode: times betterproto", _codec("seven fields"), 15),
    Bar("plugin's start to the first answer: times grpcio.aio", _ratio("start_up", "grpc_aio", "first_call", "ms"), 0.85, at_most=True),
    Bar("memory of a further channel: KB", _median("memory", "channel", "resident_kb"), 15, at_most=True),
)  # fmt: skip


def judge(found: Found) -> list[Verdict]:
    """Hold the results against the bars."""
    verdicts = []
    for bar in BARS:
        try:
            figure = bar.read(found)
        except LookupError:
            verdicts.append(Verdict(bar, None))
        else:
            verdicts.append(Verdict(bar, figure))
    return verdicts


def print_bars(found: Found) -> None:
    """Print a Markdown table."""
    width = max(len(bar.title) for bar in BARS)
    print(f"| {'':{width}} |    bar | measured |              |")
    print(f"|{'-' * (width + 2)}|-------:|---------:|--------------|")
    for verdict in judge(found):
        bar = verdict.bar
        limit = f"{'≤' if bar.at_most else '≥'} {bar.limit:g}"
        figure = "-" if verdict.figure is None else f"{verdict.figure:.2f}"
        print(f"| {bar.title:{width}} | {limit:>6} | {figure:>8} | {verdict.word:12} |")
