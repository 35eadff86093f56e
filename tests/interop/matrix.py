"""Run the matrix and the features of docs/interop.md, and write it.

python tests/interop/matrix.py             # run, and print the document
python tests/interop/matrix.py --write     # run, and write docs/interop.md

What is run are tests, by pytest: those that features.py names, and with them test_matrix.py.
"""

from __future__ import annotations

import argparse
import platform
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import peers
import thousand
from cells import BROKERS, NETWORKS, PAIRS, TLS, Cell
from features import FAILING, FEATURES, UPSTREAM, Absent, Proof, Tests

__all__ = ["DOCUMENT", "Outcomes", "document", "named_nodes"]

PROJECT: Final = peers.HERE.parents[1]
DOCUMENT: Final = PROJECT / "docs" / "interop.md"

PYTHON_PARTS: Final = ("plugin-supervisor", "grpclib", "h2", "betterproto", "cryptography")
GO_PARTS: Final = (
    "github.com/hashicorp/go-plugin",
    "github.com/hashicorp/yamux",
    "github.com/hashicorp/go-hclog",
    "google.golang.org/grpc",
    "google.golang.org/protobuf",
)

HEAD: Final = """\
# Interop with hashicorp/go-plugin

Written by `python tests/interop/matrix.py --write` from a run with the real thing; a test holds its rows to what that command
would write. The Go programs are in [`tests/interop/go`](../tests/interop/go/README.md). **pass (n)**: n tests ran and passed;
a sentence in italics says why there is nothing to test.
"""

MATRIX: Final = """\
Values go both ways; with a broker, each side calls three times what the other one offers. Nothing may be left behind.
Every cell can exist: go-plugin listens on TCP on Windows only, so elsewhere its plugins are behind a relay of bytes.
"""

FEATURES_TEXT: Final = """\
The left column is our host, with a Go plugin wherever the peer matters; the right one is our plugin under a Go host.
[`tests/interop/features.py`](../tests/interop/features.py) names the tests of each row.
"""

UPSTREAM_TEXT: Final = """\
The behaviours of go-plugin's own suite, as far as they apply to gRPC, and the tests of ours that mirror them.
"""

FAILING_TEXT: Final = """\
What go-plugin 1.8.0 does, seen or read in its source, and the tests that hold us to more.
"""

LIVES_TEXT: Final = """\
Launched, called and stopped one after another by [`thousand.py`](../tests/interop/thousand.py), which then looks for
processes, sockets, files, directories and descriptors.
"""


class Outcomes:
    """How each test ended: why it failed or was skipped, an empty text when it passed."""

    def __init__(self, ended: Mapping[str, str]) -> None:
        self._ended = dict(ended)

    @classmethod
    def read(cls, report: Path) -> Outcomes:
        """Read pytest's report in JUnit's XML."""
        ended: dict[str, str] = {}
        for case in ET.parse(report).iter("testcase"):
            node = f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name']}"
            reasons = [f"{part.tag}: {part.attrib.get('message', '')}" for part in case if "message" in part.attrib]
            ended[node] = "; ".join(
                [*filter(None, [ended.get(node)]), *(" ".join(each.split())[:200] for each in reasons)]
            )
        return cls(ended)

    def cell(self, nodes: Iterable[str]) -> str:
        """Return what stands in a table for these tests, each with all of its parameters."""
        wanted = tuple(nodes)
        ended = {
            node: reason
            for node, reason in self._ended.items()
            if any(node == each or node.startswith((f"{each}[", f"{each}::")) for each in wanted)
        }
        if failed := [f"{node.rpartition('::')[2]}: {reason}" for node, reason in ended.items() if reason]:
            return f"**FAIL** {'; '.join(failed)}".replace("|", "\\|")
        return f"pass ({len(ended)})" if ended else "**NOT RUN**"


def named_nodes() -> list[str]:
    """Return the tests that the tables name, and the matrix; a file stands for all that is in it."""
    proofs = [each.host for each in FEATURES] + [each.plugin for each in FEATURES]
    proofs += [each.proof for each in (*UPSTREAM, *FAILING)]
    nodes = {node for proof in proofs if not isinstance(proof, Absent) for tests in proof for node in tests.nodes}
    nodes.add("tests/interop/test_matrix.py")
    return sorted(node for node in nodes if node.partition("::")[0] not in nodes - {node})


def document(outcomes: Outcomes, lives: Mapping[str, thousand.Lives], facts: Mapping[str, str]) -> str:
    """Return the document."""
    parts = [
        HEAD,
        _table(("part", "version"), facts.items()),
        f"## The matrix\n\n{MATRIX}",
        _table(("", *_columns()), _matrix_rows(outcomes)),
        f"## Features\n\n{FEATURES_TEXT}",
        _table(("#", "feature", "our host", "our plugin"), _feature_rows(outcomes)),
        f"## go-plugin's own tests\n\n{UPSTREAM_TEXT}",
        _table(("go-plugin's", "ours", "result"), _upstream_rows(outcomes)),
        f"## Where go-plugin fails\n\n{FAILING_TEXT}",
        _table(("what", "go-plugin", "ours", "result"), _failing_rows(outcomes)),
        f"## Many lives\n\n{LIVES_TEXT}",
        "".join(f"- {thousand.DIRECTIONS[direction]}: {each}.\n" for direction, each in lives.items()),
    ]
    return "\n".join(parts)


def _columns() -> tuple[str, ...]:
    return tuple(f"{BROKERS[broker]}, {NETWORKS[network]}" for broker, network in product(BROKERS, NETWORKS))


def _matrix_rows(outcomes: Outcomes) -> Iterable[Sequence[str]]:
    for pair, tls in product(PAIRS, TLS):
        row = [Cell(pair, tls, broker, network) for broker, network in product(BROKERS, NETWORKS)]
        found = [outcomes.cell([f"tests/interop/test_matrix.py::test_cell[{cell}]"]) for cell in row]
        yield f"{PAIRS[pair]}, {TLS[tls]}", *(text.removesuffix(" (1)") for text in found)


def _feature_rows(outcomes: Outcomes) -> Iterable[Sequence[str]]:
    for number, feature in enumerate(FEATURES, start=1):
        yield str(number), feature.name, _show(outcomes, feature.host), _show(outcomes, feature.plugin)


def _upstream_rows(outcomes: Outcomes) -> Iterable[Sequence[str]]:
    for mirror in UPSTREAM:
        ours = "" if isinstance(mirror.proof, Absent) else _list(mirror.proof)
        yield mirror.names, ours, _show(outcomes, mirror.proof)


def _failing_rows(outcomes: Outcomes) -> Iterable[Sequence[str]]:
    for each in FAILING:
        yield each.what, each.upstream, _list(each.proof), _show(outcomes, each.proof)


def _list(proof: Iterable[Tests]) -> str:
    """Return the tests without their parameters."""
    nodes = (node.removeprefix("tests/").partition("[")[0] for tests in proof for node in tests.nodes)
    return "<br>".join(f"`{node}`" for node in dict.fromkeys(nodes))


def _show(outcomes: Outcomes, proof: Proof) -> str:
    if isinstance(proof, Absent):
        return f"*{proof.reason}*"
    return outcomes.cell(node for tests in proof for node in tests.nodes)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def find_facts() -> dict[str, str]:
    """Return the versions of everything that takes part."""
    listed = ["go", "list", "-m", "-f", "{{.Path}} {{.Version}}", *GO_PARTS]
    modules = subprocess.run(listed, cwd=peers.HERE / "go", stdout=subprocess.PIPE, text=True, check=True).stdout
    go = subprocess.run(["go", "version"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[2]
    return {
        "run on": f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.release()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}, {ssl.OPENSSL_VERSION}",
        **{part: version(part) for part in PYTHON_PARTS},
        "Go": go.removeprefix("go"),
        **dict(line.split() for line in modules.splitlines()),
    }


def run_tests() -> Outcomes:
    """Run what the tables name, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        subprocess.run([*command, *named_nodes()], cwd=PROJECT, check=False)
        return Outcomes.read(report)


def main() -> int:
    """Run; the exit status is 1 when something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/interop.md instead of printing it")
    parser.add_argument("--lives", type=int, default=1000, help="launches and stops in each direction")
    options = parser.parse_args()
    outcomes = run_tests()
    with tempfile.TemporaryDirectory(prefix="go") as folder:
        peers.build(Path(folder))
        lives = {direction: thousand.live(direction, Path(folder), options.lives) for direction in thousand.DIRECTIONS}
    text = document(outcomes, lives, find_facts())
    if options.write:
        DOCUMENT.write_text(text)
    else:
        print(text)  # noqa: T201  # what the command is for
    failed = "**FAIL**" in text or "**NOT RUN**" in text or any(each.failed or each.left for each in lives.values())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
