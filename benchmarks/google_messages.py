"""`protos/kv.proto` as google.protobuf's and grpcio's generated code, made at import by grpcio-tools."""

from __future__ import annotations

import sys
from typing import Any

import grpc  # type: ignore[import-untyped]  # grpcio has no types of its own

from benchmarks.contract import PROJECT

__all__ = ["messages", "services"]

sys.path.insert(0, str(PROJECT / "protos"))  # where grpcio looks for it
messages: Any
services: Any
messages, services = grpc.protos_and_services("kv.proto")
