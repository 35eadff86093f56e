"""`plugin-supervisor compile`: contracts for plugins and hosts, with their descriptors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.__main__ import main
from supervisor.codegen import compile_protos
from supervisor.errors import ConfigurationError
from supervisor.services.descriptors import Descriptors, split_set

GREETING = """
syntax = "proto3";
package demo.greeting;
import "google/protobuf/empty.proto";
message Name { string name = 1; }
service Greeter { rpc Greet(Name) returns (google.protobuf.Empty); }
"""


@pytest.fixture
def include(tmp_path: Path) -> Path:
    """Return a folder with a file of a nested package."""
    folder = tmp_path / "protos"
    folder.mkdir()
    (folder / "greeting.proto").write_text(GREETING)
    return folder


def test_a_package_and_its_descriptors(include: Path, tmp_path: Path) -> None:
    """Package `a.b` can be imported as `a.b`, and its descriptors lie beside it with all that it imports."""
    (module,) = compile_protos(["greeting.proto"], include=include, output=tmp_path)

    assert module == tmp_path / "demo" / "greeting" / "__init__.py"
    code = "from demo.greeting import GreeterBase, GreeterStub, Name"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
    index = Descriptors()
    for data in split_set((module.parent / "greeting.binpb").read_bytes()):
        index.add(data)
    assert index.with_imports("greeting.proto") == ["greeting.proto", "google/protobuf/empty.proto"]


def test_what_was_there_is_kept(include: Path, tmp_path: Path) -> None:
    """A package around the generated one may be the author's own, and the folder itself becomes no package."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "__init__.py").write_text("MINE = True\n")
    compile_protos(["greeting.proto"], include=include, output=tmp_path)

    assert (tmp_path / "demo" / "__init__.py").read_text() == "MINE = True\n"
    assert not (tmp_path / "__init__.py").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('syntax = "proto3"; message {', r"protoc refused: .*bad\.proto"),
        ('syntax = "proto3"; message Name {}', "no package; it names the module"),
    ],
)
def test_a_file_that_cannot_be_compiled(include: Path, tmp_path: Path, text: str, said: str) -> None:
    """The error says why, and nothing is written."""
    (include / "bad.proto").write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        compile_protos(["bad.proto"], include=include, output=tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["protos"]


def test_the_command(include: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints what it wrote, and exits with 1 and one line when it cannot."""
    assert main(["compile", "-I", str(include), "-o", str(tmp_path), "greeting.proto"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/demo/greeting/__init__.py\n"

    assert main(["compile", "-I", str(include), "nothing.proto"]) == 1
    assert "nothing.proto" in capsys.readouterr().err
