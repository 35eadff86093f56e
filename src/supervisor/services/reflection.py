"""gRPC's server reflection, v1 and v1alpha: what a plugin serves, for tools such as grpcurl.

The two differ in their package only, so that one set of messages speaks both.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import betterproto
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from supervisor.errors import ConfigurationError

if TYPE_CHECKING:
    from grpclib.server import Stream

    from supervisor._proto.grpc.reflection.v1 import ServerReflectionRequest, ServerReflectionResponse
    from supervisor.services.descriptors import Descriptors

__all__ = ["ReflectionService", "load_descriptors"]

_SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


class _Servicer(Protocol):
    def __mapping__(self) -> Mapping[str, Handler]: ...


class _Message(bytes):
    """A message that is not looked into before somebody calls, so that no plugin waits for the code which could."""

    __slots__ = ()

    def SerializeToString(self) -> bytes:  # noqa: N802  # the name by which codecs know a message
        return self

    @classmethod
    def FromString(cls, data: bytes) -> _Message:  # noqa: N802
        return cls(data)


class ReflectionService:
    """The plugin's side. Nothing is read before the first request.

    Args:
        servicers: what is to be shown; this service shows itself, too.
    """

    def __init__(self, servicers: Sequence[_Servicer]) -> None:
        self._servicers = servicers
        self._loading: asyncio.Future[Descriptors] | None = None

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return the routes that this service answers."""
        handler = Handler(self._answer_all, Cardinality.STREAM_STREAM, _Message, _Message)
        return {f"/{service}/ServerReflectionInfo": handler for service in _SERVICES}

    async def _answer_all(self, stream: Stream[_Message, _Message]) -> None:
        from supervisor._proto.grpc.reflection.v1 import ServerReflectionRequest  # noqa: PLC0415  # see _Message

        sent: set[str] = set()
        while (data := await stream.recv_message()) is not None:
            answer = _answer(ServerReflectionRequest().parse(data), self._names(), await self._load(), sent)
            await stream.send_message(_Message(bytes(answer)))

    def _names(self) -> list[str]:
        routes = [route for servicer in (*self._servicers, self) for route in servicer.__mapping__()]
        return sorted({route.split("/")[1] for route in routes})

    async def _load(self) -> Descriptors:
        if self._loading is None:
            # In a thread: large descriptors take a while, and calls are to be answered meanwhile.
            self._loading = asyncio.ensure_future(asyncio.to_thread(load_descriptors, self._servicers))
        return await asyncio.shield(self._loading)


def _answer(
    request: ServerReflectionRequest, services: Iterable[str], descriptors: Descriptors, sent: set[str]
) -> ServerReflectionResponse:
    """Answer a request.

    Args:
        request: what is asked.
        services: the names of what is served.
        descriptors: what is known of it.
        sent: the names of the files that were sent on this stream, which are not sent again; those of this answer are
            added.
    """
    from supervisor._proto.grpc.reflection.v1 import (  # noqa: PLC0415  # see _Message
        ErrorResponse,
        ExtensionNumberResponse,
        FileDescriptorResponse,
        ListServiceResponse,
        ServerReflectionResponse,
        ServiceResponse,
    )

    answer = ServerReflectionResponse(valid_host=request.host, original_request=request)
    file: str | None = None
    match betterproto.which_one_of(request, "message_request"):
        case "list_services", _:
            answer.list_services_response = ListServiceResponse(service=[ServiceResponse(name) for name in services])
            return answer
        case "all_extension_numbers_of_type" as kind, str() as asked:
            if (extensions := descriptors.extensions_of(asked)) is not None:
                answer.all_extension_numbers_response = ExtensionNumberResponse(asked, sorted(extensions))
                return answer
        case "file_by_filename" as kind, str() as asked:
            file = asked
        case "file_containing_symbol" as kind, str() as asked:
            file = descriptors.file_of(asked)
        case "file_containing_extension" as kind, _:
            extension = request.file_containing_extension
            asked = f"{extension.containing_type} {extension.extension_number}"
            file = (descriptors.extensions_of(extension.containing_type) or {}).get(extension.extension_number)
        case _:
            raise GRPCError(Status.INVALID_ARGUMENT, "the request asks for nothing")
    names = descriptors.with_imports(file) if file is not None else []
    if names:
        data = [descriptors.data(name) for name in names if name == file or name not in sent]
        sent.update(names)
        answer.file_descriptor_response = FileDescriptorResponse(data)
    else:
        answer.error_response = ErrorResponse(Status.NOT_FOUND.value, f"{kind}: {asked} is not known here")
    return answer


def load_descriptors(servicers: Iterable[_Servicer]) -> Descriptors:
    """Return what is known of servicers and of this service: what lies beside the modules of their classes and messages.

    `plugin-supervisor compile` puts descriptor sets there, `*.binpb`; and google.protobuf's messages know their own.

    Raises:
        ConfigurationError: a file is no descriptor set.
    """
    from pathlib import Path  # noqa: PLC0415  # see _Message

    from supervisor._proto.grpc.health import v1 as health  # noqa: PLC0415
    from supervisor._proto.grpc.reflection import v1, v1alpha  # noqa: PLC0415
    from supervisor.services.descriptors import Descriptors, split_set  # noqa: PLC0415

    descriptors = Descriptors()
    kinds = [kind for servicer in servicers for kind in _kinds_of(servicer)]
    modules = {getattr(sys.modules.get(kind.__module__), "__file__", None) for kind in kinds}
    folders = {Path(file).parent for file in (*modules, health.__file__, v1.__file__, v1alpha.__file__) if file}
    for path in sorted(path for folder in folders for path in folder.glob("*.binpb")):
        try:
            for data in split_set(path.read_bytes()):
                descriptors.add(data)
        except Exception as error:
            raise ConfigurationError(
                f"{path} is no descriptor set: {error}", hint="write it by protoc's --descriptor_set_out"
            ) from error
    for kind in kinds:
        for data in _own_files(getattr(getattr(kind, "DESCRIPTOR", None), "file", None)):
            descriptors.add(data)
    return descriptors


def _kinds_of(servicer: _Servicer) -> Iterator[type]:
    yield from type(servicer).__mro__
    for handler in servicer.__mapping__().values():
        yield from (handler.request_type, handler.reply_type)


def _own_files(file: Any) -> Iterator[bytes]:
    """Yield the descriptors that a message of google.protobuf carries."""
    if isinstance(data := getattr(file, "serialized_pb", None), bytes):
        yield data
        for imported in file.dependencies:
            yield from _own_files(imported)
