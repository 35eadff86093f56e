"""The key/value plugin of go-plugin's example, in Python; it listens where INTEROP_NETWORK says."""

import os

from grpclib import GRPCError, Status
from kv_proto import Empty, GetRequest, GetResponse, KvBase, PutRequest

from supervisor.sdk import serve
from supervisor.spec import MagicCookie


class Kv(KvBase):
    """Values in memory."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    async def get(self, get_request: GetRequest) -> GetResponse:
        """Return a value."""
        try:
            return GetResponse(value=self._values[get_request.key])
        except KeyError:
            raise GRPCError(Status.NOT_FOUND, get_request.key) from None

    async def put(self, put_request: PutRequest) -> Empty:
        """Keep a value."""
        self._values[put_request.key] = put_request.value
        return Empty()


serve(Kv(), cookie=MagicCookie(key="BASIC_PLUGIN", value="hello"), network=os.environ.get("INTEROP_NETWORK", "unix"))
