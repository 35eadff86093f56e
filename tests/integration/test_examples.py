"""The examples do what their READMEs say: each command is run as it stands, and must print what stands below it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

READMES = sorted(EXAMPLES.glob("*/README.md"))


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the examples, where they may build what they build."""
    ignored = shutil.ignore_patterns("__pycache__", "bin", "data")
    return shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=ignored)


def blocks(readme: Path) -> Iterator[tuple[str, str]]:
    """Return the commands of a README, each with what it is said to print."""
    found = re.findall(r"^```(sh|text)\n(.*?)^```", readme.read_text(), re.MULTILINE | re.DOTALL)
    for position, (kind, text) in enumerate(found):
        if kind == "sh":
            follows = found[position + 1] if position + 1 < len(found) else ("", "")
            yield text, follows[1] if follows[0] == "text" else ""


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: readme.parent.name)
def test_example(copy: Path, readme: Path) -> None:
    """What the README shows is there, line by line and in order, among whatever else is printed."""
    if "go build" in readme.read_text() and shutil.which("go") is None:
        assert not os.environ.get("SUPERVISOR_REQUIRE_GO"), "SUPERVISOR_REQUIRE_GO is set and there is no Go"
        pytest.skip("there is no Go on this machine")
    for command, printed in blocks(readme):
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=copy / readme.parent.name,
            env={**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        rest = done.stdout
        for line in printed.splitlines():
            assert line in rest, done.stdout
            rest = rest.partition(line)[2]


def test_each_example_is_told_of() -> None:
    """Those with a README are the ones that this file runs; the first two are in the project's own README."""
    told = {readme.parent.name for readme in READMES}
    assert told | {"kv", "fastapi_app"} == {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert {"go_plugin", "bidirectional", "htmlize"} <= told
