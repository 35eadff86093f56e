"""Acting on a package when the program imports it: in fresh interpreters, since a process imports once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PREPARE = "import sys\nfrom supervisor.sdk.when_imported import when_imported\n"
WATCH = PREPARE + "when_imported('watched', lambda: print('acted', sys.modules['watched'].value))\n"


def run(program: str, folder: Path) -> list[str]:
    """Return the lines that a fresh interpreter prints, with a package `watched` to be imported."""
    (folder / "watched").mkdir(exist_ok=True)
    (folder / "watched" / "__init__.py").write_text("value = 'whole'\n")
    program = f"import sys\nsys.path.insert(0, {str(folder)!r})\n{program}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("program", "lines"),
    [
        (WATCH, []),
        (WATCH + "import json", []),
        (WATCH + "import watched; print('used')", ["acted whole", "used"]),
        (WATCH + "import watched, importlib; importlib.reload(watched)", ["acted whole"]),
        (f"import watched\n{WATCH}print('then')", ["acted whole", "then"]),
    ],
)
def test_it_acts_once_on_the_whole_package(program: str, lines: list[str], tmp_path: Path) -> None:
    """Never without the import, right after it, or at once if it was before."""
    assert run(program, tmp_path) == lines


def test_a_package_that_is_not_there_stays_an_import_error(tmp_path: Path) -> None:
    """And is watched for on."""
    program = """
        when_imported("late", lambda: print("acted"))
        for _ in range(2):
            try:
                import late
            except ModuleNotFoundError as error:
                print(error.name)
        import os, importlib
        open(os.path.join(sys.path[0], "late.py"), "w").close()
        importlib.invalidate_caches()
        import late
    """
    assert run(PREPARE + "\n".join(line[8:] for line in program.splitlines()), tmp_path) == ["late", "late", "acted"]


def test_looking_for_the_package_is_not_importing_it(tmp_path: Path) -> None:
    """Some look whether it is installed."""
    program = WATCH + "import importlib.util; print(importlib.util.find_spec('watched').name); import watched"
    assert run(program, tmp_path) == ["watched", "acted whole"]
