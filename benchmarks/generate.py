"""Generate code from `protos/load.proto` and `kv.proto`: betterproto's, which is committed, and Google's, which is not.

python -m benchmarks.generate
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

__all__ = ["LOAD_PROTO", "generate_google_kv", "generate_load"]

HERE = Path(__file__).parent
LOAD_PROTO = HERE / "load_proto.py"


def run_protoc(protos: Path, name: str, *outputs: str) -> None:
    """Run the compiler that comes with grpcio-tools, with betterproto's plugin on its path."""
    path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ.get('PATH', '')}"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}", *outputs, name]
    subprocess.run(command, check=True, env={**os.environ, "PATH": path}, stderr=subprocess.PIPE)


def generate_load(target: Path) -> None:
    """Write betterproto's code for `load.proto`, one module."""
    with tempfile.TemporaryDirectory() as folder:
        run_protoc(HERE / "protos", "load.proto", f"--python_betterproto_out={folder}")
        shutil.copyfile(Path(folder) / "load" / "__init__.py", target)


def generate_google_kv(folder: Path) -> None:
    """Write google.protobuf's and grpcio's code for `kv.proto`, as `kv_pb2` and `kv_pb2_grpc`."""
    run_protoc(HERE.parent / "protos", "kv.proto", f"--python_out={folder}", f"--grpc_python_out={folder}")


if __name__ == "__main__":
    generate_load(LOAD_PROTO)
