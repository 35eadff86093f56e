"""The front door: the names it promises, and what it does not load."""

from __future__ import annotations

import ast
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import supervisor

SOURCE = Path(supervisor.__file__)


@pytest.mark.parametrize("name", supervisor.__all__)
def test_every_promised_name_is_there(name: str) -> None:
    """Each name of `__all__` can be had and comes from where the type checker is told it does."""
    value = getattr(supervisor, name)
    tree = ast.parse(SOURCE.read_text())
    imported = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("supervisor.")
        for alias in node.names
    }
    assert value is getattr(importlib.import_module(imported[name]), name)


def test_unknown_name_is_an_attribute_error() -> None:
    """A name that is not promised is an AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        _ = supervisor.nothing_of_this_name


def test_dir_lists_the_promised_names() -> None:
    """dir() shows what can be had before it is loaded."""
    assert set(supervisor.__all__) <= set(dir(supervisor))


def loaded_after(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after a statement."""
    program = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_plugin_wing_never_loads_the_host_wing() -> None:
    """A plugin that says `from supervisor.sdk import serve` loads nothing of the host's wing, nor what only that needs."""
    loaded = loaded_after("from supervisor.sdk import serve")
    assert not {
        name for name in loaded if name.startswith(("supervisor.host", "supervisor.runners", "supervisor.config"))
    }
    assert not loaded & {"msgspec", "cryptography", "google.protobuf", "grpc"}


def test_host_wing_never_loads_the_plugin_wing() -> None:
    """A host loads nothing of the sdk, and neither msgspec without a config nor cryptography without TLS."""
    loaded = loaded_after("from supervisor import Supervisor")
    assert not {name for name in loaded if name.startswith("supervisor.sdk")}
    assert not loaded & {"msgspec", "cryptography", "google.protobuf", "grpc"}


def test_beside_supervisord_it_says_so(tmp_path: Path) -> None:
    """Installed over supervisord, which has the same import name, importing is an error that names both."""
    package = tmp_path / "supervisor"
    shutil.copytree(SOURCE.parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "supervisord.py").touch()
    run = subprocess.run(
        [sys.executable, "-c", "import supervisor"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "ImportError" in run.stderr
    assert "supervisord" in run.stderr
