"""Generate the committed betterproto code from the .proto files, which are beside this script or beside an example.

    pip install '.[dev]'
    python protos/generate.py

protoc and the betterproto compiler are development dependencies; nothing generated here imports google.protobuf.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from supervisor.codegen import compile_protos

PROJECT = Path(__file__).parent.parent

TARGETS = {
    "src/supervisor/_proto": ("protos", "plugin/*.proto", "grpc/**/*.proto", "supervisor/**/*.proto"),
    "examples/kv/kv_proto.py": ("protos", "kv.proto"),
    "examples/go_plugin/kv_proto.py": ("protos", "kv.proto"),
    "examples/bidirectional/counter_proto.py": ("examples/bidirectional", "counter.proto"),
    "examples/htmlize/htmlize_proto.py": ("examples/htmlize", "htmlize.proto"),
    "tests/interop/interop_proto.py": ("tests/interop/go/proto", "interop.proto"),
}
"""What is generated → a folder and the files in it that it comes from. A target that ends in .py takes a single proto
package; its descriptors lie beside it."""


def generate(folder: Path, patterns: tuple[str, ...], target: Path) -> None:
    """Compile the files that match `patterns`, relative to `folder`, into the package or module `target`."""
    sources = sorted(str(path.relative_to(folder)) for pattern in patterns for path in folder.glob(pattern))
    with tempfile.TemporaryDirectory() as scratch:
        modules = compile_protos(sources, include=folder, output=Path(scratch))
        if target.suffix == ".py":
            (module,) = modules
            shutil.copyfile(module, target)
            shutil.copyfile(module.parent / f"{module.parent.name}.binpb", target.with_suffix(".binpb"))
            return
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(scratch, target)
        target.chmod(0o755)  # a temporary folder is for its owner only
        (target / "__init__.py").touch()


def main() -> None:
    """Generate every target in place, or below the folder given as the only argument."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT
    for target, (folder, *patterns) in TARGETS.items():
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        generate(PROJECT / folder, tuple(patterns), root / target)


if __name__ == "__main__":
    main()
