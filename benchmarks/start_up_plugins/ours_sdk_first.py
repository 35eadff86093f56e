"""A plugin made with this library, which it imports before its stubs: betterproto then comes without what it has no use for."""

from supervisor.sdk import serve  # isort: skip
from kv_proto import GetRequest, GetResponse, KvBase


class Kv(KvBase):
    """One value, in memory."""

    async def get(self, message: GetRequest) -> GetResponse:  # noqa: ARG002  # every key has this value
        """Return the value."""
        return GetResponse(value=b"v" * 100)


serve(Kv())
