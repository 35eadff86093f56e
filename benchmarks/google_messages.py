"""`kv.proto` and `load.proto` as google.protobuf's and grpcio's generated code, made at import by grpcio-tools."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]  # grpcio has no types of its own

from benchmarks.contract import PROJECT

__all__ = ["kv", "kv_services", "load", "load_services"]

sys.path[:0] = [str(PROJECT / "protos"), str(Path(__file__).parent / "protos")]  # where grpcio looks for them
kv: Any
kv_services: Any
load: Any
load_services: Any
kv, kv_services = grpc.protos_and_services("kv.proto")
load, load_services = grpc.protos_and_services("load.proto")
