"""Run every benchmark, or those that are named.

python -m benchmarks [--list] [--bars] [--json] [--from FILE] [--rounds N] [--seconds S] [NAME ...]
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bars import print_bars
from benchmarks.comparison import print_tables

NAMES = ("calls", "streams", "bulk", "fairness", "start_up", "memory", "logs", "codec")
SLICED = ("calls", "streams", "bulk", "fairness")
"""Those that measure in slices, whose length `--seconds` is."""


def describe(name: str) -> str:
    """Return the first line of a benchmark's docstring, without importing it and what it needs."""
    spec = importlib.util.find_spec(f"benchmarks.{name}")
    assert spec is not None
    assert spec.origin is not None
    return (ast.get_docstring(ast.parse(Path(spec.origin).read_text())) or "").partition("\n")[0]


def command(name: str, options: argparse.Namespace) -> list[str]:
    """Return what runs a benchmark: a process each, so that what one imports and keeps does not weigh on the next."""
    made = [sys.executable, "-m", f"benchmarks.{name}"]
    made += ["--rounds", str(options.rounds)] if options.rounds else []
    made += ["--seconds", str(options.seconds)] if options.seconds and name in SLICED else []
    return made


def run_json(names: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Run benchmarks and return their results by name."""
    found = {}
    for name in names:
        done = subprocess.run([*command(name, options), "--json"], check=True, stdout=subprocess.PIPE)
        found[name] = json.loads(done.stdout)
    return found


def print_results(names: Sequence[str], found: Mapping[str, Any]) -> None:
    """Print the tables of results that are there already."""
    for name in names:
        print(f"--- {name}", flush=True)
        module = importlib.import_module(f"benchmarks.{name}")
        if name == "codec":
            module.print_table(found[name])
        else:
            print_tables(module.COMPARISON, found[name])


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; all when left out")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--bars", action="store_true", help="print what was measured beside the bars instead of tables")
    parser.add_argument("--json", action="store_true", help="print one JSON object, by name, instead of tables")
    parser.add_argument(
        "--from", dest="saved", type=Path, metavar="FILE", help="run nothing: print this JSON's results"
    )
    parser.add_argument("--rounds", type=int, help="rounds of each; each one's own default when left out")
    parser.add_argument("--seconds", type=float, help="length of a slice; each one's own default when left out")
    options = parser.parse_args()
    if unknown := sorted({*options.names} - {*NAMES}):
        parser.error(f"no benchmark is named {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return options


def main() -> None:
    """Run from the command line."""
    options = parse()
    names = options.names or NAMES
    if options.list:
        for name in names:
            print(f"{name:10}{describe(name)}")
    elif options.saved or options.json or options.bars:
        found = json.loads(options.saved.read_text()) if options.saved else run_json(names, options)
        if options.json:
            print(json.dumps(found, indent=2))
        elif options.bars:
            print_bars(found)
        else:
            print_results([name for name in names if name in found], found)
    else:
        for name in names:
            print(f"--- {name}", flush=True)
            subprocess.run(command(name, options), check=True)


if __name__ == "__main__":
    main()
