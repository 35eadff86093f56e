"""The plugin: a key/value store that keeps each value in a file of its own."""

import os
from pathlib import Path

import structlog
from grpclib import GRPCError, Status
from supervisor.sdk import serve

from kv_proto import Empty, GetRequest, GetResponse, KvBase, PutRequest

log = structlog.get_logger("kv.store")


class Kv(KvBase):
    """Values are files in a folder, so that they outlive the process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)

    def _file(self, key: str) -> Path:
        # A key is anybody's text and a file name is not: its bytes in hexadecimal are safe.
        return self.folder / key.encode().hex()

    async def get(self, message: GetRequest) -> GetResponse:
        """Return the value of a key."""
        try:
            value = self._file(message.key).read_bytes()
        except FileNotFoundError:
            raise GRPCError(Status.NOT_FOUND, f"no key {message.key!r}") from None
        log.info("get", key=message.key, size=len(value))
        return GetResponse(value=value)

    async def put(self, message: PutRequest) -> Empty:
        """Set the value of a key; a reader sees the old value or the new one, never half of it."""
        file = self._file(message.key)
        half = file.with_suffix(".tmp")
        half.write_bytes(message.value)
        half.replace(file)
        log.info("put", key=message.key, size=len(message.value))
        return Empty()


if __name__ == "__main__":
    serve(Kv(Path(os.environ["KV_FOLDER"])))
