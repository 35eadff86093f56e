"""Unary calls: latency, calls per second and CPU per call of this library and its peers, in one interleaved run.

python -m benchmarks.calls [--json] [--seconds S] [--rounds N] [--only SYSTEM,...]

A call is a Get of `proto.KV` with 100 bytes each way over a unix socket, client and server in a process each. Linux only,
since CPU time is read from the processes' own clocks. Ratios count, absolute figures are the machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks.figures import Results
from benchmarks.harness import BenchmarkError, measure
from benchmarks.report import Column, as_json, facts, facts_line, table
from benchmarks.systems import SYSTEMS

WIDTHS = (1, 16, 64, 256)
REFERENCES = ("grpc_aio", "raw_asyncio", "stock_grpclib")


def workload_name(width: int) -> str:
    """Return the name of the workload with so many calls in flight."""
    return f"unary_{width}"


def write_rate(figures: Mapping[str, float]) -> str:
    """Return calls per second."""
    return f"{figures['calls_per_s']:,.0f}"


def write_cpu(figures: Mapping[str, float]) -> str:
    """Return CPU microseconds per call of the client and of the server."""
    return f"{figures['client_cpu_us']:.0f}+{figures['server_cpu_us']:.0f}"


def figure_columns() -> list[Column]:
    """Return the columns of the table of figures."""
    alone = workload_name(1)
    rates = [Column(f"{width} /s", workload_name(width), "calls_per_s", write_rate) for width in WIDTHS]
    cpu = [Column(f"{width} CPU", workload_name(width), "cpu_us", write_cpu) for width in WIDTHS]
    return [Column("p50 µs", alone, "p50_us"), Column("p99 µs", alone, "p99_us"), *rates, *cpu]


def ratio_columns() -> list[Column]:
    """Return the same columns for ratios."""
    return [
        Column(column.title.removesuffix(" µs"), column.workload, column.figure, partial(write_ratio, column.figure))
        for column in figure_columns()
    ]


def write_ratio(name: str, ratios: Mapping[str, float]) -> str:
    """Return how many times the reference's figure it is."""
    return f"{ratios[name]:.2f}"


def print_tables(results: Results, references: Sequence[str], about: Mapping[str, Any]) -> None:
    """Print medians, then ratios to each reference."""
    rounds = len(next(iter(results.rounds.values()))[workload_name(1)])
    print(f"unary Get, 100 bytes each way, unix socket; medians of {rounds} rounds of {about['slice_seconds']:g} s")
    print(facts_line(about["machine"]))
    print("N /s: calls per second with N in flight; N CPU: µs per call, client+server; p50 and p99: one in flight\n")
    print(table("", figure_columns(), results.medians()))
    for reference in references:
        if found := results.ratios_to(reference):
            print(f"\n{table(f'ratio to {reference}', ratio_columns(), found)}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.calls", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--seconds", type=float, default=0.2, help="length of a slice (default: 0.2)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count (default: 7)")
    parser.add_argument("--only", default=",".join(SYSTEMS), help=f"systems, of {','.join(SYSTEMS)}")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",")
    if unknown := [name for name in options.only if name not in SYSTEMS]:
        parser.error(f"no system is named {', '.join(unknown)}; there are {', '.join(SYSTEMS)}")
    if len(set(options.only)) < len(options.only):
        parser.error("a system is named twice: results are kept by name")
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    return options


def main() -> None:
    """Run from the command line."""
    options = parse()
    workloads = {workload_name(width): {"in_flight": width, "seconds": options.seconds} for width in WIDTHS}
    machine = facts()

    def show_progress(number: int) -> None:
        if sys.stderr.isatty():
            print(f"round {number} of {options.rounds}", end="\r", file=sys.stderr)

    try:
        results = asyncio.run(measure(options.only, workloads, rounds=options.rounds, on_round=show_progress))
    except BenchmarkError as error:
        sys.exit(f"benchmarks.calls: {error}")
    about = {"benchmark": "calls", "machine": machine, "slice_seconds": options.seconds}
    references = [name for name in REFERENCES if name in options.only]
    if options.json:
        print(json.dumps(as_json(results, references, **about), indent=2))
    else:
        print_tables(results, references, about)


if __name__ == "__main__":
    main()
