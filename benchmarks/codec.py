"""Codec speed: this library's against betterproto's own and google.protobuf's (upb), on the same messages.

    python -m benchmarks.codec [--json] [--rounds N]

Times are CPU microseconds per operation: the best of several rounds, in which the codecs take turns, so that a busy machine
slows all of them alike. Needs the `test` extra (grpcio-tools and betterproto's compiler).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import betterproto

from supervisor.transport.codec import decode, encode

PROTO = """
syntax = "proto3";
package bench;
import "google/protobuf/timestamp.proto";

message Tiny { string text = 1; }
message LogRecord {
  google.protobuf.Timestamp at = 1; int32 level = 2; string logger = 3; string event = 4; map<string, string> fields = 5;
  string exception = 6; uint64 sequence = 7; bool dropped = 8; double elapsed = 9;
}
message Seven {
  string id = 1; int64 count = 2; bool active = 3; double score = 4; map<string, string> labels = 5;
  google.protobuf.Timestamp created = 6; bytes data = 7;
}
message Blob { bytes data = 1; }
message Item { int32 id = 1; string name = 2; double price = 3; }
message Items { repeated Item items = 1; }
message Numbers { repeated int64 values = 1; }
message Batch { repeated LogRecord records = 1; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One message: CPU microseconds per encode and per decode, for each codec."""

    message: str
    size: int
    encode: dict[str, float]
    decode: dict[str, float]

    def total(self, codec: str) -> float:
        """Return the time of one encode and one decode."""
        return self.encode[codec] + self.decode[codec]


def compile_protos(folder: Path) -> tuple[Any, Any]:
    """Return the messages as modules of betterproto's and of google.protobuf's classes."""
    (folder / "bench.proto").write_text(PROTO)
    (folder / "bench_betterproto").mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"--python_out={folder}"]
    command += [f"--python_betterproto_out={folder / 'bench_betterproto'}", "bench.proto"]
    subprocess.run(command, check=True, env={**os.environ, "PATH": path}, capture_output=True)
    sys.path.insert(0, str(folder))
    return importlib.import_module("bench_betterproto.bench"), importlib.import_module("bench_pb2")


def make_messages(bench: Any) -> dict[str, betterproto.Message]:
    """Return the messages to measure, by the name of the row."""
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

    def record(number: int) -> Any:
        return bench.LogRecord(
            at=at,
            level=20,
            logger="shop.checkout",
            event="order placed, payment accepted",
            fields={f"key_{index}": f"value {index} of {number}" for index in range(6)},
            sequence=number,
            elapsed=0.25,
        )

    labels = {"region": "eu-west-1", "tier": "gold", "team": "payments"}
    return {
        "tiny {string}": bench.Tiny(text="hello world"),
        "log record": record(123456),
        "seven fields": bench.Seven(
            id="9f1c2d", count=123456, active=True, score=0.75, labels=labels, created=at, data=bytes(64)
        ),
        "1 MiB bytes": bench.Blob(data=bytes(2**20)),
        "1000 nested": bench.Items(items=[bench.Item(id=i, name=f"item {i}", price=i / 4) for i in range(1000)]),
        "1000 int64": bench.Numbers(values=[i * 1009 for i in range(1000)]),
        "100 log records": bench.Batch(records=[record(number) for number in range(100)]),
    }


def measure(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the best CPU time of each contender in microseconds; they take turns within each round."""
    counts = {name: _count(run) for name, run in contenders.items()}
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(rounds):
        for name, run in contenders.items():
            best[name] = min(best[name], _time(run, counts[name]) / counts[name] * 1e6)
    return best


def _count(run: Callable[[], object], target: float = 0.02) -> int:
    """Return how many repetitions take about `target` seconds."""
    count = 1
    while (elapsed := _time(run, count)) < target / 4:
        count *= 4
    return max(1, round(count * target / elapsed))


def _time(run: Callable[[], object], count: int) -> float:
    begin = time.process_time()
    for _ in range(count):
        run()
    return time.process_time() - begin


def run_all(rounds: int) -> list[Row]:
    """Measure every message with every codec."""
    with tempfile.TemporaryDirectory() as folder:
        bench, bench_pb2 = compile_protos(Path(folder))
    rows = []
    for name, message in make_messages(bench).items():
        cls, google = type(message), getattr(bench_pb2, type(message).__name__)
        data = encode(message)
        theirs = google.FromString(data)
        assert decode(cls, data) == message
        assert google.FromString(encode(decode(cls, data))) == theirs
        rows.append(
            Row(
                message=name,
                size=len(data),
                encode=measure(
                    {
                        "ours": partial(encode, message),
                        "betterproto": partial(bytes, message),
                        "upb": theirs.SerializeToString,
                    },
                    rounds,
                ),
                decode=measure(
                    {
                        "ours": partial(decode, cls, data),
                        "betterproto": partial(cls.FromString, data),
                        "upb": partial(google.FromString, data),
                    },
                    rounds,
                ),
            )
        )
    return rows


def as_json(rows: list[Row]) -> dict[str, Any]:
    """Return everything for programs."""
    out = [
        {
            "message": row.message,
            "bytes": row.size,
            "encode_us": row.encode,
            "decode_us": row.decode,
            "times_faster_than_betterproto": row.total("betterproto") / row.total("ours"),
        }
        for row in rows
    ]
    return {"python": sys.version.split()[0], "rows": out}


def print_table(found: Mapping[str, Any]) -> None:
    """Print microseconds, then how many times faster than betterproto an encode and a decode together are."""
    print(f"Python {found['python']}, CPU µs per operation (encode / decode)\n")
    print(f"| {'message':15} | {'bytes':>9} | {'ours':>17} | {'betterproto':>21} | {'upb':>15} | {'times':>5} |")
    print(f"|{'-' * 17}|{'-' * 10}:|{'-' * 18}:|{'-' * 22}:|{'-' * 16}:|{'-' * 6}:|")
    for row in found["rows"]:
        cells = [f"{row['encode_us'][by]:.1f} / {row['decode_us'][by]:.1f}" for by in ("ours", "betterproto", "upb")]
        ours, betterproto, upb = cells
        times = row["times_faster_than_betterproto"]
        print(
            f"| {row['message']:15} | {row['bytes']:>9,} | {ours:>17} | {betterproto:>21} | {upb:>15} | {times:>5.1f} |"
        )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=7, help="rounds per measurement (default: 7)")
    options = parser.parse_args()
    found = as_json(run_all(options.rounds))
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print_table(found)


if __name__ == "__main__":
    main()
