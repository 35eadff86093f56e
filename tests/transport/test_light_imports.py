"""betterproto without what a plugin does not use: nobody can tell the difference, except by the clock."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

LEFT_OUT = ("grpclib.server", "h2", "dateutil", "importlib.metadata")


def run(program: str) -> str:
    """Return what a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


PREPARE = "import sys\nfrom supervisor.transport.light_imports import import_betterproto\nimport_betterproto()\n"


def test_what_is_not_used_is_not_loaded() -> None:
    """Nor is anything left where something else stood in."""
    assert run(PREPARE + f"print([name for name in {LEFT_OUT} if name in sys.modules])") == "[]"


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("import grpclib.server; found = grpclib.server.Server.__name__", "Server"),
        ("from grpclib.server import Stream; found = Stream.__module__", "grpclib.server"),
        ("import dateutil.parser; found = hasattr(dateutil.parser, 'parse')", "True"),
        ("import betterproto; found = betterproto.__version__", version("betterproto")),
        ("import betterproto; found = betterproto.isoparse('2020-02-03').day", "3"),
        ("from betterproto import Message; found = Message.__module__", "betterproto"),
    ],
)
def test_whoever_asks_gets_the_real_one(statement: str, value: str) -> None:
    """Modules that stood in are gone when somebody imports them."""
    assert run(f"{PREPARE}{statement}\nprint(found)") == value


def test_betterproto_that_was_imported_is_left_alone() -> None:
    """An application may have imported it first."""
    assert run("import betterproto\n" + PREPARE + "print('dateutil.parser' in sys.modules)") == "True"
