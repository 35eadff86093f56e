"""Descriptor sets, as protoc writes them, by name."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.services.descriptors import Descriptors, join_files, split_set

EXTENDED = """
syntax = "proto2";
package extended;
import "shapes.proto";
message Open { extensions 100 to 199; }
extend Open { optional string text = 101; }
message Scope { extend Open { optional shapes.Shape shape = 100; } }
"""
SHAPES = """
syntax = "proto3";
package shapes;
import "google/protobuf/empty.proto";
message Shape {
  message Side { int32 length = 1; }
  enum Kind { ROUND = 0; SQUARE = 1; }
  oneof what { Side side = 1; Kind kind = 2; }
}
service Drawing { rpc Draw(Shape) returns (google.protobuf.Empty); }
"""


@pytest.fixture(scope="module")
def descriptor_set(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Compile the two files above."""
    folder = tmp_path_factory.mktemp("protos")
    (folder / "extended.proto").write_text(EXTENDED)
    (folder / "shapes.proto").write_text(SHAPES)
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", "--include_imports"]
    subprocess.run([*protoc, f"--descriptor_set_out={folder}/set", "extended.proto"], check=True, timeout=60)
    return Path(folder, "set").read_bytes()


@pytest.fixture
def descriptors(descriptor_set: bytes) -> Descriptors:
    """Return the index over them."""
    index = Descriptors()
    for data in split_set(descriptor_set):
        index.add(data)
    return index


def test_the_bytes_are_protocs(descriptor_set: bytes) -> None:
    """A set that is split and joined again is the same, byte for byte, what this library does not know included."""
    assert join_files(split_set(descriptor_set)) == descriptor_set
    assert len(split_set(descriptor_set)) == 3


@pytest.mark.parametrize(
    "symbol",
    [
        "shapes.Shape", "shapes.Shape.side", "shapes.Shape.what", "shapes.Shape.Side", "shapes.Shape.Side.length",
        "shapes.Shape.Kind", "shapes.Shape.SQUARE", "shapes.Drawing", "shapes.Drawing.Draw",
    ],
)  # fmt: skip
def test_every_kind_of_symbol_is_found(descriptors: Descriptors, symbol: str) -> None:
    """Services, methods, messages, fields, oneofs, enums and their values, nested or not."""
    assert descriptors.file_of(symbol) == "shapes.proto"
    assert descriptors.file_of(f"{symbol}.Nothing") is None


def test_a_file_comes_with_what_it_imports(descriptors: Descriptors) -> None:
    """Itself first, then everything below it, each once."""
    imports = descriptors.with_imports("extended.proto")

    assert imports == ["extended.proto", "shapes.proto", "google/protobuf/empty.proto"]
    assert descriptors.with_imports("nothing.proto") == []
    assert descriptors.package("shapes.proto") == "shapes"


def test_extensions_are_found_by_number(descriptors: Descriptors) -> None:
    """Wherever they are declared; a message without any is told from one that is unknown."""
    assert descriptors.extensions_of("extended.Open") == {100: "extended.proto", 101: "extended.proto"}
    assert descriptors.extensions_of("shapes.Shape") == {}
    assert descriptors.extensions_of("shapes.Nothing") is None


def test_a_file_is_known_once(descriptors: Descriptors, descriptor_set: bytes) -> None:
    """Sets overlap: each brings what it imports."""
    for data in split_set(descriptor_set):
        descriptors.add(data)

    assert len(descriptors.with_imports("extended.proto")) == 3


def test_googles_runtime_reads_the_same(descriptors: Descriptors) -> None:
    """What a client gets is a FileDescriptorProto to the reference implementation."""
    assert importlib.util.find_spec("google.protobuf") is not None
    code = "import sys; from google.protobuf import descriptor_pb2 as d; print(d.FileDescriptorProto.FromString(sys.stdin.buffer.read()).name)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=descriptors.data("shapes.proto"),
        capture_output=True,
        check=True,
        timeout=60,
    )

    assert done.stdout == b"shapes.proto\n"
