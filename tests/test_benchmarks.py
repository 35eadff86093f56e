"""The benchmarks' arithmetic, and that they run; what they find is nobody's to assert."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

PROJECT = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT))  # the benchmarks are not installed

from benchmarks.figures import Results, Slice, interleave, medians, percentile, ratios  # noqa: E402  # after the path
from benchmarks.report import Column, table  # noqa: E402  # as above
from benchmarks.workloads import cpu_seconds, run_unary  # noqa: E402  # as above

SYSTEMS = ("ours", "bare", "raw_asyncio", "stock_grpclib", "grpc_aio")
FIGURES = {"calls", "calls_per_s", "p50_us", "p99_us", "cpu_us", "client_cpu_us", "server_cpu_us"}


def test_systems_take_turns_within_each_round() -> None:
    """Every workload goes to all systems before the next workload, and all of it once in each round."""
    one_round = [("a", "x"), ("b", "x"), ("a", "y"), ("b", "y")]
    assert list(interleave(["a", "b"], ["x", "y"], rounds=2)) == one_round * 2


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.001, 1))
def test_percentile_is_a_value_with_enough_below_it(values: list[float], share: float) -> None:
    """A percentile is one of the values, its share does not exceed it, and that holds for no smaller value."""
    found = percentile(sorted(values), share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_slice_becomes_figures() -> None:
    """Figures are per call and per second, in microseconds where their names say so."""
    made = Slice(latencies=[0.004, 0.001, 0.002, 0.003], seconds=0.5, client_cpu=0.002, server_cpu=0.006)
    assert made.figures() == pytest.approx(
        {
            "calls": 4,
            "calls_per_s": 8.0,
            "p50_us": 2000.0,
            "p99_us": 4000.0,
            "cpu_us": 2000.0,
            "client_cpu_us": 500.0,
            "server_cpu_us": 1500.0,
        }
    )


def test_medians_are_over_rounds() -> None:
    """One disturbed round moves no median."""
    assert medians([{"p50_us": 1.0}, {"p50_us": 900.0}, {"p50_us": 3.0}]) == {"p50_us": 3.0}


def test_ratios_are_taken_within_rounds() -> None:
    """A round that was slow for both systems is as good as any other, and a number of calls is no figure to compare."""
    ours = [{"calls": 1, "p50_us": 2.0}, {"calls": 1, "p50_us": 20.0}, {"calls": 1, "p50_us": 8.0}]
    theirs = [{"calls": 1, "p50_us": 1.0}, {"calls": 1, "p50_us": 10.0}, {"calls": 1, "p50_us": 2.0}]
    assert ratios(ours, theirs) == {"p50_us": 2.0}


def test_results_compare_every_system_with_the_reference() -> None:
    """The reference is not compared with itself."""
    results = Results()
    results.add("ours", "unary_1", {"p50_us": 1.0})
    results.add("theirs", "unary_1", {"p50_us": 4.0})
    assert results.medians() == {"ours": {"unary_1": {"p50_us": 1.0}}, "theirs": {"unary_1": {"p50_us": 4.0}}}
    assert results.ratios_to("theirs") == {"ours": {"unary_1": {"p50_us": 0.25}}}


def test_table_is_markdown() -> None:
    """Every line has the same width and the same number of cells."""
    columns = [Column("p50 µs", "unary_1", "p50_us"), Column("x", "unary_1", "p50_us", lambda _: "long text")]
    lines = table("system", columns, {"ours": {"unary_1": {"p50_us": 1234.4}}}).splitlines()
    assert lines == [
        "| system | p50 µs |         x |",
        "|--------|-------:|----------:|",
        "| ours   |  1,234 | long text |",
    ]


def test_cpu_clock_is_the_kernels() -> None:
    """The clock of this process, found by its pid, is the one that the process itself reads."""
    before = time.process_time()
    found = cpu_seconds([os.getpid()])
    assert before <= found <= time.process_time()


async def test_unary_keeps_as_many_calls_in_flight_as_asked() -> None:
    """Each caller calls at least once, all at the same time, and every call is counted."""
    under_way, most, made = 0, 0, 0

    async def call() -> None:
        nonlocal under_way, most, made
        under_way += 1
        made += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1

    found = await run_unary(call, in_flight=5, seconds=1e-9, server_pids=[os.getpid()])
    assert most == 5
    assert len(found.latencies) == made >= 5
    assert found.seconds > 0


def test_calls_runs_and_prints_json(nothing_left: None) -> None:
    """One short round of all systems ends with every figure of every workload, and leaves nothing behind."""
    command = [sys.executable, "-m", "benchmarks.calls", "--seconds", "0.02", "--rounds", "1", "--json"]
    done = subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE, timeout=100)
    found: dict[str, Any] = json.loads(done.stdout)
    workloads = {"unary_1", "unary_16", "unary_64", "unary_256"}
    assert set(found) == {"benchmark", "machine", "slice_seconds", "medians", "ratios", "rounds"}
    assert set(found["machine"]) == {"python", "system", "processors", "load", "versions"}
    assert set(found["medians"]) == set(SYSTEMS)
    for system in SYSTEMS:
        assert set(found["medians"][system]) == workloads
        for workload in workloads:
            assert set(found["medians"][system][workload]) == FIGURES
            assert [set(figures) for figures in found["rounds"][system][workload]] == [FIGURES]
    for reference in ("grpc_aio", "raw_asyncio", "stock_grpclib"):
        assert set(found["ratios"][reference]) == set(SYSTEMS) - {reference}
        assert set(found["ratios"][reference]["ours"]["unary_64"]) == FIGURES - {"calls"}
