"""Descriptors of .proto files: what is in them, by name, with their bytes left as protoc wrote them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import betterproto
from betterproto.lib.google.protobuf import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

__all__ = ["Descriptors", "join_files", "split_set"]


@dataclass
class _FileDescriptorSet(betterproto.Message):
    """google.protobuf.FileDescriptorSet, whose messages are bytes to whoever takes them for bytes."""

    file: list[bytes] = betterproto.bytes_field(1)  # noqa: RUF009  # how betterproto declares one


def split_set(data: bytes) -> list[bytes]:
    """Return the serialized FileDescriptorProtos of a serialized FileDescriptorSet.

    Raises:
        Exception: `data` is something else; betterproto raises a zoo.
    """
    return list(_FileDescriptorSet().parse(data).file)


def join_files(files: Iterable[bytes]) -> bytes:
    """Return a serialized FileDescriptorSet of serialized FileDescriptorProtos."""
    return bytes(_FileDescriptorSet(file=list(files)))


class Descriptors:
    """An index over files; each is known by its name, and one that comes twice is known once."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._imports: dict[str, tuple[str, ...]] = {}
        self._packages: dict[str, str] = {}
        self._symbols: dict[str, str] = {}
        self._extensions: dict[str, dict[int, str]] = {}

    def add(self, data: bytes) -> None:
        """Add a serialized FileDescriptorProto.

        Raises:
            Exception: it is something else; betterproto raises a zoo.
        """
        file = FileDescriptorProto().parse(data)
        if file.name in self._files:
            return
        self._files[file.name] = data
        self._imports[file.name] = tuple(file.dependency)
        self._packages[file.name] = file.package
        for symbol in _symbols_of(file):
            self._symbols[symbol] = file.name
        for extension in _extensions_of(file):
            self._extensions.setdefault(extension.extendee.lstrip("."), {})[extension.number] = file.name

    def data(self, name: str) -> bytes:
        """Return the serialized file of this name; KeyError if there is none."""
        return self._files[name]

    def package(self, name: str) -> str:
        """Return the package of the file of this name; KeyError if there is none."""
        return self._packages[name]

    def with_imports(self, name: str) -> list[str]:
        """Return the names of a file and of all that it imports, itself first, as far as they are known."""
        found = [name] if name in self._files else []
        for known in found:
            found += [other for other in self._imports[known] if other in self._files and other not in found]
        return found

    def file_of(self, symbol: str) -> str | None:
        """Return the name of the file that declares a service, method, message, field, enum or one of its values."""
        return self._symbols.get(symbol)

    def extensions_of(self, message: str) -> dict[int, str] | None:
        """Return the extensions of a message, as number → name of the file that declares it; None if it is unknown."""
        return self._extensions.get(message, {} if message in self._symbols else None)


def _symbols_of(file: FileDescriptorProto) -> Iterator[str]:
    scope = f"{file.package}." if file.package else ""
    for service in file.service:
        yield scope + service.name
        yield from (f"{scope}{service.name}.{method.name}" for method in service.method)
    yield from (scope + extension.name for extension in file.extension)
    for enum in file.enum_type:
        yield from _symbols_of_enum(enum, scope)
    for message in file.message_type:
        yield from _symbols_of_message(message, scope)


def _symbols_of_message(message: DescriptorProto, scope: str) -> Iterator[str]:
    name = scope + message.name
    yield name
    yield from (f"{name}.{field.name}" for field in (*message.field, *message.extension))
    yield from (f"{name}.{oneof.name}" for oneof in message.oneof_decl)
    for enum in message.enum_type:
        yield from _symbols_of_enum(enum, f"{name}.")
    for nested in message.nested_type:
        yield from _symbols_of_message(nested, f"{name}.")


def _symbols_of_enum(enum: EnumDescriptorProto, scope: str) -> Iterator[str]:
    yield scope + enum.name
    yield from (scope + value.name for value in enum.value)  # beside their enum and not in it, as in C++


def _extensions_of(scope: FileDescriptorProto | DescriptorProto) -> Iterator[FieldDescriptorProto]:
    yield from scope.extension
    for message in scope.message_type if isinstance(scope, FileDescriptorProto) else scope.nested_type:
        yield from _extensions_of(message)
