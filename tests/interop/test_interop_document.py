"""docs/interop.md is what matrix.py would write: its rows and cells are those of the tables, and none of them failed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import matrix
import pytest
import thousand

PROJECT = Path(__file__).parents[2]


def shape(text: str) -> str:
    """Return a document without what differs from run to run: results, versions, figures."""
    text = re.sub(r"\| (?:\*\*FAIL\*\*[^|\n]*|\*\*NOT RUN\*\*|pass(?: \(\d+\))?) (?=\|)", "| RESULT ", text)
    head, _, rest = text.partition("## The matrix")
    head = re.sub(r"^(\| [^|]+ \|) .* \|$", r"\1 VERSION |", head, flags=re.MULTILINE)
    return re.sub(r"→ (\w+) plugin: [\d,]+ lives.*", r"→ \1 plugin: LIVES", head + rest)


def test_rows_and_cells_are_those_of_the_tables() -> None:
    """Each feature, each test of go-plugin's and each cell of the matrix has its place; nothing else is there."""
    lives = {direction: thousand.Lives(count=0, seconds=0, failed=0, left=()) for direction in thousand.DIRECTIONS}
    facts = dict.fromkeys(("run on", "Python", *matrix.PYTHON_PARTS, "Go", *matrix.GO_PARTS), "?")

    assert shape(matrix.DOCUMENT.read_text()) == shape(matrix.document(matrix.Outcomes({}), lives, facts))


def test_everything_passed() -> None:
    """The run that is written down had no failure, ran everything, and left nothing behind."""
    text = matrix.DOCUMENT.read_text()

    assert "FAIL" not in text
    assert "NOT RUN" not in text
    assert re.findall(r"(\d[\d,]*) lives in [\d.]+ s, (\d+) failed steps, left behind: (\w+)", text) == [
        ("1,000", "0", "nothing")
    ] * len(thousand.DIRECTIONS)


@pytest.mark.parametrize("node", matrix.named_nodes())
def test_named_test_exists(node: str) -> None:
    """A test that the tables name is there."""
    path, _, name = node.partition("::")
    tree = ast.parse((PROJECT / path).read_text())
    functions = {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}

    assert not name or name in functions


def test_a_failure_is_shown() -> None:
    """What failed stands in its cell with the reason, also when it is one parameter of many."""
    outcomes = matrix.Outcomes({"tests/a.py::test_b[1]": "", "tests/a.py::test_b[2]": "call failed: because"})

    assert outcomes.cell(["tests/a.py::test_b"]) == "**FAIL** test_b[2]: call failed: because"
    assert outcomes.cell(["tests/a.py::test_b[1]"]) == "pass (1)"
    assert outcomes.cell(["tests/a.py"]).startswith("**FAIL**")
    assert outcomes.cell(["tests/a.py::test_c"]) == "**NOT RUN**"
