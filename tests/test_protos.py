"""The committed generated code is what the .proto files give."""

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.services.descriptors import split_set

PROJECT = Path(__file__).parent.parent
GENERATED = tuple(runpy.run_path(str(PROJECT / "protos" / "generate.py"))["TARGETS"])


def modules(root: Path) -> dict[str, str]:
    """Return the generated modules below `root` as path → syntax tree: the layout is the formatter's business."""
    files = [
        path
        for target in GENERATED
        for path in ([root / target] if target.endswith(".py") else (root / target).rglob("*.py"))
    ]
    return {str(path.relative_to(root)): ast.dump(ast.parse(path.read_text())) for path in files}


@pytest.fixture(scope="module")
def fresh_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate everything anew."""
    folder = tmp_path_factory.mktemp("generated")
    subprocess.run([sys.executable, PROJECT / "protos" / "generate.py", folder], check=True, timeout=100)
    return folder


@pytest.fixture(scope="module")
def fresh(fresh_folder: Path) -> dict[str, str]:
    """Return the modules of that."""
    return modules(fresh_folder)


def test_the_same_modules_are_committed(fresh: dict[str, str]) -> None:
    """None is missing, none is left over from a proto that is gone."""
    assert sorted(modules(PROJECT)) == sorted(fresh)
    assert len(fresh) > 5


@pytest.mark.parametrize("path", sorted(modules(PROJECT)))
def test_a_committed_module_has_not_drifted(path: str, fresh: dict[str, str]) -> None:
    """Generated code is not edited by hand; run `python protos/generate.py` after changing a .proto."""
    assert modules(PROJECT)[path] == fresh[path]


@pytest.mark.parametrize("path", sorted(modules(PROJECT)))
def test_generated_code_does_not_need_googles_runtime(path: str) -> None:
    """The library promises not to import google.protobuf."""
    tree = ast.parse((PROJECT / path).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert not [name for name in imported if name.startswith("google")]


@pytest.mark.parametrize("path", [str(path.relative_to(PROJECT)) for path in sorted(PROJECT.glob("src/**/*.binpb"))])
def test_descriptors_have_not_drifted(path: str, fresh_folder: Path) -> None:
    """They are of the same files as the code, apart from Google's own, which come with protoc."""

    def own(root: Path) -> list[bytes]:
        return [data for data in split_set((root / path).read_bytes()) if b"google/protobuf/" not in data[:40]]

    assert own(PROJECT) == own(fresh_folder)
