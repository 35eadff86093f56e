"""Streams of large messages: megabytes per second with messages of 64 KiB and of 1 MiB, in both directions.

python -m benchmarks.bulk [--json] [--plot FILE] [--seconds S] [--rounds N] [--only SYSTEM,...]

Streams of 16 MiB follow each other on one channel for as long as a slice is; each message is made, encoded, decoded and read.
"""

from __future__ import annotations

from typing import Any

from benchmarks.comparison import Comparison, run_workloads
from benchmarks.report import Column, write_cpu

WORKLOADS: dict[str, dict[str, Any]] = {
    "down_64k": {"kind": "download", "size": 2**16, "count": 256},
    "up_64k": {"kind": "upload", "size": 2**16, "count": 256},
    "down_1m": {"kind": "download", "size": 2**20, "count": 16},
    "up_1m": {"kind": "upload", "size": 2**20, "count": 16},
}

COMPARISON = Comparison(
    name="bulk",
    about=__doc__,
    headline="streams of large messages, unix socket",
    legend="down: to the client; up: to the server; MB: millions of bytes per second; CPU: µs per message, client+server",
    systems=("ours", "ours_uvloop", "bare", "stock_grpclib", "grpc_aio", "grpc_aio_uvloop", "grpc_aio_to_ours"),
    references=("grpc_aio", "stock_grpclib"),
    columns=(
        Column("64K down MB", "down_64k", "mb_per_s"),
        Column("64K up MB", "up_64k", "mb_per_s"),
        Column("1M down MB", "down_1m", "mb_per_s"),
        Column("1M up MB", "up_1m", "mb_per_s"),
        Column("64K down CPU", "down_64k", "cpu_us", write_cpu),
        Column("64K up CPU", "up_64k", "cpu_us", write_cpu),
        Column("1M down CPU", "down_1m", "cpu_us", write_cpu),
        Column("1M up CPU", "up_1m", "cpu_us", write_cpu),
    ),
    seconds=0.3,
)

if __name__ == "__main__":
    run_workloads(COMPARISON, WORKLOADS)
