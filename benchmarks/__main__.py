"""Run every benchmark, or those that are named.

python -m benchmarks [--list] [--json] [--rounds N] [NAME ...]
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

NAMES = ("calls", "codec")


def describe(name: str) -> str:
    """Return the first line of a benchmark's docstring, without importing it and what it needs."""
    spec = importlib.util.find_spec(f"benchmarks.{name}")
    assert spec is not None
    assert spec.origin is not None
    return (ast.get_docstring(ast.parse(Path(spec.origin).read_text())) or "").partition("\n")[0]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; all when left out")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object, by name, instead of tables")
    parser.add_argument("--rounds", type=int, help="rounds of each; each one's own default when left out")
    options = parser.parse_args()
    names = options.names or NAMES
    if unknown := sorted({*names} - {*NAMES}):
        parser.error(f"no benchmark is named {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if options.list:
        for name in names:
            print(f"{name:10}{describe(name)}")
        return
    found = {}
    for name in names:
        # A process each: what one imports and leaves on the heap must not weigh on the next.
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        command += ["--rounds", str(options.rounds)] if options.rounds else []
        if options.json:
            found[name] = json.loads(subprocess.run([*command, "--json"], check=True, stdout=subprocess.PIPE).stdout)
        else:
            print(f"--- {name}", flush=True)
            subprocess.run(command, check=True)
    if options.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
