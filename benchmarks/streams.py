"""Streams of small messages: messages of 100 bytes per second, and CPU for each, in both directions.

python -m benchmarks.streams [--json] [--plot FILE] [--seconds S] [--rounds N] [--only SYSTEM,...]

Streams of 2,000 messages follow each other on one channel for as long as a slice is; each message is made, encoded,
decoded and read.
"""

from __future__ import annotations

from typing import Any

from benchmarks.comparison import Comparison, run_workloads
from benchmarks.report import Column, write_cpu

WORKLOADS: dict[str, dict[str, Any]] = {
    "down_100": {"kind": "download", "size": 100, "count": 2000},
    "up_100": {"kind": "upload", "size": 100, "count": 2000},
}

COMPARISON = Comparison(
    name="streams",
    about=__doc__,
    headline="streams of messages of 100 bytes, unix socket",
    legend="down: to the client; up: to the server; /s: messages per second; CPU: µs per message, client+server",
    systems=("ours", "ours_uvloop", "bare", "stock_grpclib", "grpc_aio", "grpc_aio_uvloop", "grpc_aio_to_ours"),
    references=("grpc_aio", "stock_grpclib"),
    columns=(
        Column("down /s", "down_100", "messages_per_s"),
        Column("up /s", "up_100", "messages_per_s"),
        Column("down CPU", "down_100", "cpu_us", write_cpu),
        Column("up CPU", "up_100", "cpu_us", write_cpu),
    ),
    seconds=0.3,
)

if __name__ == "__main__":
    run_workloads(COMPARISON, WORKLOADS)
