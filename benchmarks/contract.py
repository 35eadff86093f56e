"""What the systems serve: `proto.KV` of `protos/kv.proto`, a Get of 100 bytes each way."""

from __future__ import annotations

import sys
from pathlib import Path

PROJECT = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT / "examples" / "kv"))  # betterproto's code for it, committed there

from kv_proto import GetRequest, GetResponse, KvBase, KvStub  # noqa: E402  # after the path to it

__all__ = ["KEY", "PROJECT", "VALUE", "GetRequest", "GetResponse", "Kv", "KvStub"]

KEY = "k" * 100
VALUE = b"v" * 100


class Kv(KvBase):
    """One value, in memory: the call is measured and not the store."""

    async def get(self, message: GetRequest) -> GetResponse:  # noqa: ARG002  # every key has this value
        """Return the value."""
        return GetResponse(value=VALUE)
