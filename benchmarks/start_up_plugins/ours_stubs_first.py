"""A plugin made with this library, which imports its stubs before it: betterproto comes with all that it has no use for."""

from kv_proto import GetRequest, GetResponse, KvBase

from supervisor.sdk import serve


class Kv(KvBase):
    """One value, in memory."""

    async def get(self, message: GetRequest) -> GetResponse:  # noqa: ARG002  # every key has this value
        """Return the value."""
        return GetResponse(value=b"v" * 100)


serve(Kv())
