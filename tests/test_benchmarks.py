"""The benchmarks' arithmetic, and that they run; what they find is nobody's to assert."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import shutil
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

from benchmarks.bars import BARS, Bar, Verdict, judge  # noqa: E402  # after the path
from benchmarks.clocks import cpu_seconds  # noqa: E402  # as above
from benchmarks.figures import (  # noqa: E402  # as above
    Flow,
    Results,
    Slice,
    Used,
    interleave,
    medians,
    percentile,
    ratios,
)
from benchmarks.generate import LOAD_PROTO, generate_load  # noqa: E402  # as above
from benchmarks.processes import family, kept_to  # noqa: E402  # as above
from benchmarks.report import Column, table  # noqa: E402  # as above
from benchmarks.workloads import run_unary  # noqa: E402  # as above

CPU = {"cpu_us", "client_cpu_us", "server_cpu_us"}
CALLS = {"calls", "calls_per_s", "p50_us", "p99_us", *CPU}
FLOW = {"messages", "messages_per_s", "mb_per_s", *CPU}
BESIDE = {"calls", "calls_per_s", "p50_us", "p99_us", "messages_per_s"}


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
    used = Used(seconds=0.5, client_cpu=0.002, server_cpu=0.006)
    made = Slice(latencies=[0.004, 0.001, 0.002, 0.003], used=used)
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


def test_flow_becomes_figures() -> None:
    """Figures are per message and per second; a megabyte is a million bytes."""
    made = Flow(messages=4, size=250_000, used=Used(seconds=0.5, client_cpu=0.002, server_cpu=0.006))
    assert made.figures() == pytest.approx(
        {
            "messages": 4,
            "messages_per_s": 8.0,
            "mb_per_s": 2.0,
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


def test_nothing_is_a_multiple_of_nothing() -> None:
    """A figure that the reference has as zero is left out of the ratios."""
    assert ratios([{"lost": 1.0, "p50_us": 2.0}], [{"lost": 0.0, "p50_us": 1.0}]) == {"p50_us": 2.0}


def test_results_compare_every_system_with_the_reference() -> None:
    """The reference is not compared with itself."""
    results = Results()
    results.add("ours", "unary_1", {"p50_us": 1.0})
    results.add("theirs", "unary_1", {"p50_us": 4.0})
    assert results.medians() == {"ours": {"unary_1": {"p50_us": 1.0}}, "theirs": {"unary_1": {"p50_us": 4.0}}}
    assert results.ratios_to("theirs") == {"ours": {"unary_1": {"p50_us": 0.25}}}


def test_results_compare_what_both_have() -> None:
    """A workload that the reference cannot do has no ratio."""
    results = Results()
    results.add("ours", "unary_1", {"p50_us": 1.0})
    results.add("ours", "streams", {"p50_us": 1.0})
    results.add("theirs", "unary_1", {"p50_us": 2.0})
    assert results.ratios_to("theirs") == {"ours": {"unary_1": {"p50_us": 0.5}}}


def test_table_is_markdown() -> None:
    """Every line has the same width and the same number of cells."""
    columns = [Column("p50 µs", "unary_1", "p50_us"), Column("x", "unary_1", "p50_us", lambda _: "long text")]
    lines = table("system", columns, {"ours": {"unary_1": {"p50_us": 1234.4}}}).splitlines()
    assert lines == [
        "| system | p50 µs |         x |",
        "|--------|-------:|----------:|",
        "| ours   |  1,234 | long text |",
    ]


def test_table_has_a_dash_for_what_was_not_measured() -> None:
    """A system without a workload, or without a figure of it, keeps its row."""
    columns = [Column("p50 µs", "unary_1", "p50_us"), Column("ms", "unary_2", "p50_us")]
    assert table("", columns, {"ours": {"unary_1": {}}}).splitlines()[-1] == "| ours |      - |  - |"


@pytest.mark.parametrize(
    ("figure", "at_most", "word"),
    [
        (2.0, False, "met"),
        (1.9, False, "missed"),
        (2.0, True, "met"),
        (2.1, True, "missed"),
        (None, True, "not measured"),
    ],
)
def test_a_bar_is_met_by_its_own_value(figure: float | None, at_most: bool, word: str) -> None:
    """A bar is at least or at most, itself included."""
    assert Verdict(Bar("", lambda _: 0.0, 2.0, at_most), figure).word == word


def test_bars_without_results_are_not_measured() -> None:
    """A benchmark or a peer that did not run is no error."""
    assert {verdict.word for verdict in judge({"calls": {"ratios": {}}})} == {"not measured"}


def test_generated_code_has_not_drifted(tmp_path: Path) -> None:
    """What is committed is what the .proto gives; run `python -m benchmarks.generate` after changing it."""
    generate_load(tmp_path / "load.py")
    assert ast.dump(ast.parse((tmp_path / "load.py").read_text())) == ast.dump(ast.parse(LOAD_PROTO.read_text()))


def test_a_family_is_kept_to_a_processor_and_let_go(nothing_left: None) -> None:
    """All threads of a process and its children run there meanwhile, and where we may run afterwards."""
    shell = subprocess.Popen(["sh", "-c", "cat; exit"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert shell.stdin is not None
    assert shell.stdout is not None
    with shell, shell.stdin:
        shell.stdin.write(b"up\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == b"up\n"
        both = list(family(shell.pid))
        everywhere = os.sched_getaffinity(0)
        with kept_to(shell.pid, {max(everywhere)}):
            assert [os.sched_getaffinity(pid) for pid in both] == [{max(everywhere)}] * 2
        assert [os.sched_getaffinity(pid) for pid in both] == [everywhere] * 2


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
    assert found.used.seconds > 0


RUNS: dict[str, tuple[list[str], set[str], dict[str, set[str]], set[str]]] = {
    "calls": (
        ["--seconds", "0.02"],
        {"ours", "bare", "raw_asyncio", "raw_bytes", "stock_grpclib", "grpc_aio", "grpc_aio_to_ours", "process_pool"},
        {
            "unary_1": CALLS,
            "unary_1_one_core": CALLS,
            "unary_16": CALLS,
            "unary_64": CALLS,
            "unary_64_dressed": CALLS,
            "unary_256": CALLS,
        },
        {"grpc_aio", "raw_asyncio", "stock_grpclib"},
    ),
    "streams": (["--seconds", "0.05"], {"ours", "grpc_aio"}, {"down_100": FLOW, "up_100": FLOW}, {"grpc_aio"}),
    "bulk": (
        ["--seconds", "0.05"],
        {"ours", "grpc_aio"},
        {"down_64k": FLOW, "up_64k": FLOW, "down_1m": FLOW, "up_1m": FLOW},
        {"grpc_aio"},
    ),
    "fairness": (
        ["--seconds", "0.05"],
        {"ours", "grpc_aio"},
        {"quiet": CALLS, "beside_down": BESIDE, "beside_up": BESIDE},
        {"grpc_aio"},
    ),
    "start_up": (
        [],
        {"ours", "ours_stubs_first", "stock_grpclib", "grpc_aio"},
        {"first_call": {"ms", "line_ms", "plugin_cpu_ms", "plugin_mb"}},
        {"grpc_aio", "stock_grpclib"},
    ),
    "memory": ([], {"ours"}, {"channel": {"resident_kb", "traced_kb"}}, set()),
    "logs": ([], {"stream", "stderr"}, {"flood": {"records_per_s", "lost_percent", *CPU}}, set()),
}
"""Benchmark → options, systems, figures of each workload, references."""


@pytest.mark.parametrize("name", RUNS)
def test_it_runs_and_prints_json(name: str, nothing_left: None) -> None:
    """One short round ends with every figure of every workload, and leaves nothing behind."""
    options, systems, workloads, references = RUNS[name]
    command = [sys.executable, "-m", f"benchmarks.{name}", "--rounds", "1", "--json", "--only", ",".join(systems)]
    done = subprocess.run([*command, *options], cwd=PROJECT, check=True, stdout=subprocess.PIPE, timeout=100)
    found: dict[str, Any] = json.loads(done.stdout)
    assert set(found) == {"benchmark", "machine", "slice_seconds", "skipped", "medians", "ratios", "rounds"}
    assert set(found["machine"]) == {"python", "system", "processors", "load", "load_after", "versions"}
    assert found["benchmark"] == name
    assert found["skipped"] == {}
    assert set(found["medians"]) == systems
    for system, measured in found["medians"].items():
        assert measured
        for workload, figures in measured.items():
            assert set(figures) == workloads[workload]
            assert [set(round_) for round_ in found["rounds"][system][workload]] == [workloads[workload]]
    assert set(found["medians"][min(systems & {"ours", "stream"})]) == set(workloads)
    assert set(found["ratios"]) == references
    for reference in references:
        assert set(found["ratios"][reference]) == systems - {reference}


def test_every_bar_has_its_figure(nothing_left: None) -> None:
    """What the bars look for is what the benchmarks print: none but Go's may be missing from a full set."""
    found: dict[str, Any] = {"codec": {"rows": [{"message": "seven fields", "times_faster_than_betterproto": 20.0}]}}
    for name, (_, systems, workloads, references) in RUNS.items():
        medians = {
            system: {load: dict.fromkeys(figures, 1.0) for load, figures in workloads.items()} for system in systems
        }
        found[name] = {"medians": medians, "ratios": dict.fromkeys(references, medians)}
    assert [verdict.bar.title for verdict in judge(found) if verdict.figure is None] == [BARS[2].title]


def test_go_plugin_does_what_the_others_do(nothing_left: None) -> None:
    """The program in Go gives the same figures; where there is no Go, the run says so and goes on."""
    command = [sys.executable, "-m", "benchmarks.calls", "--rounds", "1", "--json", "--only", "bare,go_plugin"]
    done = subprocess.run(
        [*command, "--seconds", "0.02"], cwd=PROJECT, check=True, capture_output=True, text=True, timeout=110
    )
    found = json.loads(done.stdout)
    if shutil.which("go") is None:
        assert found["skipped"] == {"go_plugin": "there is no Go on this machine"}
        assert "go_plugin is left out: there is no Go on this machine" in done.stderr
        return
    assert found["skipped"] == {}
    assert set(found["medians"]["go_plugin"]["unary_64"]) == CALLS
    assert set(found["medians"]["go_plugin"]["unary_64_dressed"]) == CALLS


def test_figures_are_drawn(tmp_path: Path, nothing_left: None) -> None:
    """`--plot` writes a picture of the kind that the file's name says."""
    target = tmp_path / "streams.svg"
    command = [sys.executable, "-m", "benchmarks.streams", "--rounds", "1", "--seconds", "0.02", "--only", "bare"]
    subprocess.run([*command, "--plot", target], cwd=PROJECT, check=True, stdout=subprocess.PIPE, timeout=100)
    assert "<svg" in target.read_text()
