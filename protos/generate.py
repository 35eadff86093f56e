"""Generate the committed betterproto code from the .proto files beside this script.

    pip install '.[dev]'
    python protos/generate.py

protoc and the betterproto compiler are development dependencies; nothing generated here imports google.protobuf.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

PROTOS = Path(__file__).parent
PROJECT = PROTOS.parent

TARGETS = {
    "src/supervisor/_proto": ("plugin/*.proto", "grpc/**/*.proto", "supervisor/**/*.proto"),
    "examples/kv/kv_proto.py": ("kv.proto",),
}
"""What is generated → the files it comes from. A target that ends in .py takes a single proto package."""


def generate(patterns: tuple[str, ...], target: Path) -> None:
    """Compile the files that match `patterns`, relative to this folder, into the package or module `target`."""
    sources = sorted(str(path.relative_to(PROTOS)) for pattern in patterns for path in PROTOS.glob(pattern))
    scripts = sysconfig.get_path("scripts")
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"}
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(  # noqa: S603
            [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"--python_betterproto_out={scratch}", *sources],
            check=True,
            env=environment,
            stderr=subprocess.PIPE,
        )
        if target.suffix == ".py":
            (module,) = (path for path in Path(scratch).glob("*/__init__.py"))
            shutil.copyfile(module, target)
            return
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(scratch, target)


def main() -> None:
    """Generate every target in place, or below the folder given as the only argument."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT
    for target, patterns in TARGETS.items():
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        generate(patterns, root / target)


if __name__ == "__main__":
    main()
