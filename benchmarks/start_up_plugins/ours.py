"""A plugin made with this library. What is installed is imported before what is the program's own, as sorted imports are."""

from supervisor.sdk import serve

# isort: split
from kv_proto import GetRequest, GetResponse, KvBase


class Kv(KvBase):
    """One value, in memory."""

    async def get(self, message: GetRequest) -> GetResponse:  # noqa: ARG002  # every key has this value
        """Return the value."""
        return GetResponse(value=b"v" * 100)


serve(Kv())
