"""Unary calls: latency, calls per second and CPU per call of this library and its peers, in one interleaved run.

python -m benchmarks.calls [--json] [--plot FILE] [--seconds S] [--rounds N] [--only SYSTEM,...]

A call is a Get of `proto.KV` with 100 bytes each way over a unix socket, client and server in a process each. Linux only,
since CPU time is read from the processes' own clocks. Ratios count, absolute figures are the machine's.
"""

from __future__ import annotations

from typing import Any

from benchmarks.comparison import Comparison, run_workloads
from benchmarks.report import Column, write_cpu
from benchmarks.systems import SYSTEMS

WORKLOADS: dict[str, dict[str, Any]] = {
    "unary_1": {"kind": "unary", "in_flight": 1},
    "unary_1_one_core": {"kind": "unary", "in_flight": 1, "one_processor": True},
    "unary_16": {"kind": "unary", "in_flight": 16},
    "unary_64": {"kind": "unary", "in_flight": 64},
    "unary_64_dressed": {"kind": "dressed", "in_flight": 64},
    "unary_256": {"kind": "unary", "in_flight": 256},
}

COMPARISON = Comparison(
    name="calls",
    about=__doc__,
    headline="unary Get, 100 bytes each way, unix socket",
    legend=(
        "p50: one in flight; p50 core: the same with both processes on one processor; N /s: calls per second with N in\n"
        "flight; 64d: with a deadline and two items of metadata; CPU: µs per call, client+server"
    ),
    systems=tuple(SYSTEMS),
    references=("grpc_aio", "raw_asyncio", "stock_grpclib", "go_plugin"),
    columns=(
        Column("p50 µs", "unary_1", "p50_us"),
        Column("p99 µs", "unary_1", "p99_us"),
        Column("p50 core", "unary_1_one_core", "p50_us"),
        Column("16 /s", "unary_16", "calls_per_s"),
        Column("64 /s", "unary_64", "calls_per_s"),
        Column("64d /s", "unary_64_dressed", "calls_per_s"),
        Column("256 /s", "unary_256", "calls_per_s"),
        Column("1 CPU", "unary_1", "cpu_us", write_cpu),
        Column("64 CPU", "unary_64", "cpu_us", write_cpu),
        Column("64d CPU", "unary_64_dressed", "cpu_us", write_cpu),
    ),
    seconds=0.2,
)

if __name__ == "__main__":
    run_workloads(COMPARISON, WORKLOADS)
