"""The reflection service, over a connection in memory."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from betterproto import which_one_of
from google.protobuf import empty_pb2  # the messages of those who use Google's runtime
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from kv_proto import KvBase

from supervisor._proto.grpc.reflection.v1 import (
    ExtensionRequest,
    ServerReflectionRequest,
    ServerReflectionResponse,
)
from supervisor.errors import ConfigurationError
from supervisor.services.descriptors import Descriptors, split_set
from supervisor.services.health import HealthService
from supervisor.services.reflection import ReflectionService, load_descriptors
from supervisor.transport.channel import Channel

Connect = Callable[..., Awaitable[Channel]]


async def ask(
    channel: Channel, *requests: ServerReflectionRequest, version: str = "v1"
) -> list[ServerReflectionResponse]:
    """Ask on one stream and return the answers."""
    stream: Any
    async with channel.request(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        Cardinality.STREAM_STREAM,
        ServerReflectionRequest,
        ServerReflectionResponse,
        timeout=20,
    ) as stream:
        for request in requests:
            await stream.send_message(request)
        await stream.end()
        return [answer async for answer in stream]


def files_in(answer: ServerReflectionResponse) -> list[str]:
    """Return the names of the files in an answer."""
    index = Descriptors()
    names = []
    for data in answer.file_descriptor_response.file_descriptor_proto:
        index.add(data)
        names.append(next(name for name in index._files if index.data(name) == data))
    return names


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_it_lists_what_it_was_given_and_itself(connect: Connect, version: str) -> None:
    """In the order of the alphabet, in both versions, which are the same on the wire."""
    service = ReflectionService([KvBase(), HealthService()])
    (answer,) = await ask(await connect(service), ServerReflectionRequest(host="h", list_services=""), version=version)

    assert [found.name for found in answer.list_services_response.service] == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "proto.KV",
    ]
    assert answer.valid_host == "h"
    assert answer.original_request.host == "h"


async def test_files_are_sent_with_their_imports_and_once(connect: Connect) -> None:
    """The file that was asked for always comes; what it imports does when it is not there yet."""
    service = ReflectionService([KvBase(), HealthService()])
    answers = await ask(
        await connect(service),
        ServerReflectionRequest(file_containing_symbol="proto.KV.Get"),
        ServerReflectionRequest(file_by_filename="kv.proto"),
        ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health"),
        ServerReflectionRequest(file_containing_symbol="grpc.reflection.v1alpha.ErrorResponse"),
    )

    assert [files_in(answer) for answer in answers] == [
        ["kv.proto"],
        ["kv.proto"],
        ["grpc/health/v1/health.proto"],
        ["grpc/reflection/v1alpha/reflection.proto"],
    ]


@pytest.mark.parametrize(
    "request_",
    [
        ServerReflectionRequest(file_containing_symbol="nobody.Knows"),
        ServerReflectionRequest(file_by_filename="nobody.proto"),
        ServerReflectionRequest(file_containing_extension=ExtensionRequest("nobody.Knows", 1)),
        ServerReflectionRequest(all_extension_numbers_of_type="nobody.Knows"),
    ],
)
async def test_what_is_unknown_is_an_answer(connect: Connect, request_: ServerReflectionRequest) -> None:
    """NOT_FOUND inside an answer, so that the stream goes on."""
    service = ReflectionService([KvBase()])
    unknown, known = await ask(await connect(service), request_, ServerReflectionRequest(file_by_filename="kv.proto"))

    assert which_one_of(unknown, "message_response")[0] == "error_response"
    assert unknown.error_response.error_code == Status.NOT_FOUND.value
    assert "nobody" in unknown.error_response.error_message
    assert files_in(known) == ["kv.proto"]


async def test_a_message_without_extensions_has_none(connect: Connect) -> None:
    """Which is not the same as a message that is unknown."""
    (answer,) = await ask(
        await connect(ReflectionService([KvBase()])),
        ServerReflectionRequest(all_extension_numbers_of_type="proto.GetRequest"),
    )

    assert which_one_of(answer, "message_response")[0] == "all_extension_numbers_response"
    assert answer.all_extension_numbers_response.base_type_name == "proto.GetRequest"


async def test_a_request_for_nothing_is_refused(connect: Connect) -> None:
    """INVALID_ARGUMENT, as by grpc-go."""
    with pytest.raises(GRPCError) as refused:
        await ask(await connect(ReflectionService([KvBase()])), ServerReflectionRequest(host="h"))
    assert refused.value.status is Status.INVALID_ARGUMENT


class ByGoogle:
    """A servicer whose messages are of Google's runtime."""

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/by.Google/Call": Handler(None, Cardinality.UNARY_UNARY, empty_pb2.Empty, empty_pb2.Empty)
        }  # nobody calls it


def test_googles_messages_bring_their_own_descriptors() -> None:
    """Who compiled by protoc's own generator needs no file beside the code."""
    assert load_descriptors([ByGoogle()]).file_of("google.protobuf.Empty") == "google/protobuf/empty.proto"


def test_a_file_that_is_no_descriptor_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever put it there is told which it is."""
    module = ModuleType("odd_contract")
    module.__file__ = str(tmp_path / "odd_contract.py")
    monkeypatch.setitem(sys.modules, "odd_contract", module)
    (tmp_path / "odd.binpb").write_bytes(b"\xff" * 20)
    odd = type("Odd", (ByGoogle,), {"__module__": "odd_contract"})

    with pytest.raises(ConfigurationError, match=r"odd\.binpb is no descriptor set"):
        load_descriptors([odd()])


def test_each_committed_descriptor_set_is_one() -> None:
    """Those of the framework's own services, and of the examples' contracts."""
    project = Path(__file__).parents[2]
    sets = [*project.glob("src/**/*.binpb"), *project.glob("examples/*/*.binpb")]

    assert len(sets) > 6
    assert all(split_set(path.read_bytes()) for path in sets)
