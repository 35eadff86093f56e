"""Fairness: how long a unary call takes beside a stream without end on the same channel.

python -m benchmarks.fairness [--json] [--plot FILE] [--seconds S] [--rounds N] [--only SYSTEM,...]

The stream is of messages of 100 bytes, as fast as it goes, to the client or to the server; calls are made one at a time.
"""

from __future__ import annotations

from typing import Any

from benchmarks.comparison import Comparison, run_workloads
from benchmarks.report import Column

WORKLOADS: dict[str, dict[str, Any]] = {
    "quiet": {"kind": "unary", "in_flight": 1},
    "beside_down": {"kind": "beside", "stream": "down", "size": 100},
    "beside_up": {"kind": "beside", "stream": "up", "size": 100},
}

COMPARISON = Comparison(
    name="fairness",
    about=__doc__,
    headline="a unary Get beside a stream of messages of 100 bytes on the same channel",
    legend="down: the stream goes to the client; up: to the server; /s: the stream's messages per second meanwhile",
    systems=("ours", "bare", "stock_grpclib", "grpc_aio"),
    references=("grpc_aio", "stock_grpclib"),
    columns=(
        Column("alone p50 µs", "quiet", "p50_us"),
        Column("down p50 µs", "beside_down", "p50_us"),
        Column("down p99 µs", "beside_down", "p99_us"),
        Column("down /s", "beside_down", "messages_per_s"),
        Column("up p50 µs", "beside_up", "p50_us"),
        Column("up p99 µs", "beside_up", "p99_us"),
        Column("up /s", "beside_up", "messages_per_s"),
    ),
    seconds=0.5,
)

if __name__ == "__main__":
    run_workloads(COMPARISON, WORKLOADS)
