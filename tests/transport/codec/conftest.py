"""`everything.proto`, compiled for three libraries when the session starts, so that nothing committed can drift from it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

PROTOS = Path(__file__).parents[2] / "protos"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavours:
    """The same messages in three libraries."""

    betterproto: ModuleType
    betterproto2: ModuleType
    google: ModuleType


@pytest.fixture(scope="session")
def flavours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flavours]:
    """Compile the proto file and import what comes out, each library's under a package of its own."""
    root = tmp_path_factory.mktemp("flavours")
    for name in ("flavour_betterproto", "flavour_betterproto2", "flavour_google"):
        (root / name).mkdir()
    # protoc finds its plugins on PATH; they are installed beside the interpreter.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{PROTOS}",
            f"--python_betterproto_out={root / 'flavour_betterproto'}",
            f"--python_betterproto2_out={root / 'flavour_betterproto2'}",
            "--python_betterproto2_opt=client_generation=async,server_generation=async",
            f"--python_out={root / 'flavour_google'}",
            "everything.proto",
        ],
        env=environment,
        check=True,
        capture_output=True,
        timeout=60,
    )
    sys.path.insert(0, str(root))
    try:
        yield Flavours(
            betterproto=importlib.import_module("flavour_betterproto.everything"),
            betterproto2=importlib.import_module("flavour_betterproto2.everything"),
            google=importlib.import_module("flavour_google.everything_pb2"),
        )
    finally:
        sys.path.remove(str(root))


@pytest.fixture(scope="session")
def bp(flavours: Flavours) -> ModuleType:
    """The messages as betterproto's classes."""
    return flavours.betterproto


@pytest.fixture(scope="session")
def pb(flavours: Flavours) -> ModuleType:
    """The messages as google.protobuf's classes, the judge in these tests."""
    return flavours.google
