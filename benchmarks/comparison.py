"""What the benchmarks share: the command line, the tables, the JSON and the plot around one interleaved run."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.figures import Results
from benchmarks.harness import BenchmarkError, find_commands, measure
from benchmarks.report import Column, as_json, facts, facts_line, read_load, table

__all__ = ["Comparison", "Plan", "print_tables", "run", "run_workloads"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One benchmark.

    Attributes:
        name: its module's.
        about: its module's docstring.
        headline: what is measured, in a line.
        legend: what the headings of the columns mean.
        systems: who is compared, in the order of a round.
        references: to whom ratios are given.
        columns: of the tables, and of the plot.
        rounds: that count, when nobody says otherwise.
        seconds: the length of a slice, when nobody says otherwise; None where there are no slices.
    """

    name: str
    about: str
    headline: str
    legend: str
    systems: tuple[str, ...]
    references: tuple[str, ...] = ()
    columns: Sequence[Column]
    rounds: int = 7
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the command line asks for.

    Attributes:
        systems: who takes part; `measure` may find that some cannot.
        rounds: how many count.
        seconds: the length of a slice.
        skipped: why somebody does not take part; filled in by who finds out.
        on_round: to be told of each round.
    """

    systems: tuple[str, ...]
    rounds: int
    seconds: float
    skipped: dict[str, str]
    on_round: Callable[[int], None]


def run(comparison: Comparison, take: Callable[[Plan], Awaitable[Results]]) -> None:
    """Run from the command line: `take` measures, the rest is reading options and writing results."""
    options = _parse(comparison)
    about: dict[str, Any] = {"benchmark": comparison.name, "machine": facts(), "slice_seconds": options.seconds}

    def show_progress(number: int) -> None:
        if sys.stderr.isatty():
            print(f"round {number} of {options.rounds}", end="\r", file=sys.stderr)

    plan = Plan(
        systems=options.only,
        rounds=options.rounds,
        seconds=options.seconds or 0.0,
        skipped={},
        on_round=show_progress,
    )
    try:
        results = asyncio.run(_taken(take, plan))
    except BenchmarkError as error:
        sys.exit(f"benchmarks.{comparison.name}: {error}")
    about["machine"]["load_after"] = read_load()
    for system, reason in plan.skipped.items():
        print(f"{system} is left out: {reason}", file=sys.stderr)
    references = [name for name in comparison.references if name in results.rounds]
    found = as_json(results, references, **about, skipped=plan.skipped)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print_tables(comparison, found)
    if options.plot:
        from benchmarks.plot import draw  # noqa: PLC0415  # matplotlib is loaded only for this

        draw(comparison.headline, comparison.columns, found["medians"], options.plot)


async def _taken(take: Callable[[Plan], Awaitable[Results]], plan: Plan) -> Results:
    return await take(plan)


def run_workloads(comparison: Comparison, workloads: Mapping[str, Mapping[str, Any]]) -> None:
    """Run a benchmark whose clients stay up and are given workloads, each a slice long."""
    run(comparison, partial(_measure_workloads, workloads))


async def _measure_workloads(workloads: Mapping[str, Mapping[str, Any]], plan: Plan) -> Results:
    commands, skipped = find_commands(plan.systems)
    plan.skipped.update(skipped)
    asked = {name: {**workload, "seconds": plan.seconds} for name, workload in workloads.items()}
    return await measure(commands, asked, rounds=plan.rounds, on_round=plan.on_round)


def print_tables(comparison: Comparison, found: Mapping[str, Any]) -> None:
    """Print medians, then ratios to each reference, of what `as_json` made."""
    rounds = max(len(each) for workloads in found["rounds"].values() for each in workloads.values())
    length = f" of {found['slice_seconds']:g} s" if found["slice_seconds"] else ""
    print(f"{comparison.headline}; medians of {rounds} rounds{length}")
    print(facts_line(found["machine"]))
    print(f"{comparison.legend}\n")
    print(table("", comparison.columns, found["medians"]))
    for reference, ratios in found["ratios"].items():
        if ratios:
            print(f"\n{table(f'ratio to {reference}', [c.as_ratio() for c in comparison.columns], ratios)}")


def _parse(comparison: Comparison) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{comparison.name}",
        description=comparison.about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the figures, too; needs matplotlib")
    parser.add_argument(
        "--rounds", type=int, default=comparison.rounds, help=f"rounds that count (default: {comparison.rounds})"
    )
    parser.set_defaults(seconds=None)
    if comparison.seconds is not None:
        parser.add_argument(
            "--seconds",
            type=float,
            default=comparison.seconds,
            help=f"length of a slice (default: {comparison.seconds:g})",
        )
    parser.add_argument(
        "--only", default=",".join(comparison.systems), help=f"systems, of {','.join(comparison.systems)}"
    )
    options = parser.parse_args()
    options.only = tuple(options.only.split(","))
    if unknown := [name for name in options.only if name not in comparison.systems]:
        parser.error(f"no system is named {', '.join(unknown)}; there are {', '.join(comparison.systems)}")
    if len(set(options.only)) < len(options.only):
        parser.error("a system is named twice: results are kept by name")
    if options.rounds < 1 or (options.seconds is not None and options.seconds <= 0):
        parser.error("--rounds and --seconds must be positive")
    return options
