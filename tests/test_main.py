"""`python -m supervisor`: check a file, print the schema."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.__main__ import main
from supervisor.config import config_schema


def test_check_lists_the_plugins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file without mistakes is shown as it was understood."""
    file = tmp_path / "plugins.toml"
    file.write_text('[plugins.store]\ncommand = ["store", "a b"]\nprovides = ["kv"]\nrestart = { type = "always" }')

    assert main(["check", str(file)]) == 0

    assert capsys.readouterr().out == f"{file}: 1 plugin, one_for_one\n  store: store 'a b' (permanent, provides kv)\n"


def test_check_says_where_more_plugins_are_looked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It runs none of them."""
    file = tmp_path / "plugins.toml"
    file.write_text('[supervisor]\ndiscover = "plugins/*"\ndiscover_entry_points = true')

    assert main(["check", str(file)]) == 0

    assert capsys.readouterr().out.splitlines()[1:] == [f"  and what is found: {tmp_path}/plugins/*, entry points"]


def test_check_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake is one line on stderr and exit status 1."""
    file = tmp_path / "plugins.toml"
    file.write_text("[plugins.store]\ncomand = ['x']")

    assert main(["check", str(file)]) == 1

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "[plugins.store] comand is an unknown key" in captured.err


def test_schema_prints_the_schema() -> None:
    """The module runs as a program, and its output is JSON."""
    done = subprocess.run([sys.executable, "-m", "supervisor", "schema"], capture_output=True, check=True, timeout=60)

    assert json.loads(done.stdout) == config_schema()


@pytest.mark.parametrize("arguments", [[], ["chek"], ["check"]])
def test_a_wrong_command_line_explains_itself(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Argparse's usage and its exit status."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2
    assert "usage: plugin-supervisor" in capsys.readouterr().err
