"""The key/value plugin of go-plugin's example, in Python."""

from grpclib import GRPCError, Status
from interop_serving import serve_as_asked
from kv_proto import Empty, GetRequest, GetResponse, KvBase, PutRequest


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


if __name__ == "__main__":
    serve_as_asked(Kv())
