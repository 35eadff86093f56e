"""Run every benchmark, or those that are named.

python -m benchmarks [--list] [--bars] [--json] [--rounds N] [--seconds S] [NAME ...]
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.bars import print_bars

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


def run_json(name: str, options: argparse.Namespace) -> Any:
    """Run a benchmark and return its results."""
    done = subprocess.run([*command(name, options), "--json"], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; all when left out")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--bars", action="store_true", help="print what was measured beside the bars instead of tables")
    parser.add_argument("--json", action="store_true", help="print one JSON object, by name, instead of tables")
    parser.add_argument("--rounds", type=int, help="rounds of each; each one's own default when left out")
    parser.add_argument("--seconds", type=float, help="length of a slice; each one's own default when left out")
    options = parser.parse_args()
    names = options.names or NAMES
    if unknown := sorted({*names} - {*NAMES}):
        parser.error(f"no benchmark is named {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if options.list:
        for name in names:
            print(f"{name:10}{describe(name)}")
    elif options.json or options.bars:
        found = {name: run_json(name, options) for name in names}
        if options.json:
            print(json.dumps(found, indent=2))
        else:
            print_bars(found)
    else:
        for name in names:
            print(f"--- {name}", flush=True)
            subprocess.run(command(name, options), check=True)


if __name__ == "__main__":
    main()
