"""Header blocks both ways: HPACK (RFC 7541) done once per block, not once per call.

gRPC repeats its headers. What a block means depends on the dynamic table only, and the table changes only when an entry
is added or its size is set, so that a block that was seen before means the same while the table's *version* is the same.
Both directions keep such blocks; `hpack` sees each the first time. Fields that differ from call to call are sent as
literals that leave the table alone (RFC 7541, section 6.2.2).
"""

from __future__ import annotations

import re
import sys
from typing import Any, Final

from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable, table_entry_size

from supervisor.transport.engine.faults import HeaderCompressionError, HeaderListTooLargeError

__all__ = [
    "USUAL_END", "USUAL_HEAD", "BlockDecoder", "BlockEncoder", "Fields", "HeaderBlock", "Repeated", "list_size", "literal",
    "read_literals",
]  # fmt: skip

USUAL_HEAD: Final = 1
USUAL_END: Final = 2

Fields = tuple[tuple[bytes, bytes], ...]

_MOST_BLOCKS: Final = 512
_LONGEST_KEY: Final = 512
_SHORT: Final = 127  # lengths below it take one byte (RFC 7541, section 5.1)
_INDEXED: Final = re.compile(rb"[\x81-\xfe]*").match
"""The leading fields that are an index of one byte each (RFC 7541, section 6.1)."""
_NOT_UNINDEXED: Final = 0xEF
"""What is 0 in the first byte of a literal with a literal name that leaves the table alone (sections 6.2.2 and 6.2.3)."""
_TIMEOUT: Final = b"\0\x0cgrpc-timeout"
"""How a deadline begins that is sent as a literal."""
_FIELDS_UNCHECKED: Final = 15
"""So many fields out of a table of 4 KiB are within any limit on a header list."""


class HeaderBlock:
    """A decoded block; the same object each time the same block arrives, if it may come again.

    Attributes:
        view: what its reader has made of the fields, kept with the block so that it is made once.
        usual: `USUAL_HEAD` or `USUAL_END` once its reader has found nothing in it but what nearly all responses say there.
        base: the block without `extra`, which is the same object for all calls of a method with the same timeout.
        extra: the fields at the end that are not in any table: the deadline, or metadata.
    """

    __slots__ = ("_fields", "base", "extra", "usual", "view")

    def __init__(self, fields: Fields, base: HeaderBlock | None = None, extra: Fields = ()) -> None:
        self._fields = fields
        self.view: Any = None
        self.usual = 0
        self.base = base
        self.extra = extra

    @property
    def fields(self) -> Fields:
        """Names and values, in order."""
        return self._fields if self.base is None else self.base.fields + self.extra

    @property
    def is_interim(self) -> bool:
        """Whether it is a response's that precedes the response (RFC 9110, section 15.2)."""
        return bool(self.fields) and self.fields[0][0] == b":status" and self.fields[0][1][:1] == b"1"


class _VersionedTable(HeaderTable):
    """A dynamic table that counts its changes."""

    version = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.version += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        return self._maxsize

    @maxsize.setter
    def maxsize(self, size: int) -> None:
        self.version += 1
        HeaderTable.maxsize.fset(self, size)  # type: ignore[attr-defined] # a property has one

    def has_room_for(self, name: bytes, value: bytes) -> bool:
        """Whether an entry fits without pushing another out."""
        return bool(self._current_size + table_entry_size(name, value) <= self._maxsize)


class BlockDecoder:
    """What the peer's blocks mean.

    Attributes:
        seen: blocks that mean the same as long as the table does not change; `decode` keeps it so.
    """

    def __init__(self, *, table_size: int, list_size: int) -> None:
        self._hpack = Decoder(max_header_list_size=list_size)
        self._table = self._hpack.header_table = _VersionedTable()
        self._hpack.max_allowed_table_size = self._hpack.header_table_size = table_size
        self._list_size = list_size
        self.seen: dict[bytes, HeaderBlock] = {}

    def decode(self, block: bytes) -> HeaderBlock:
        """Return the fields of a block.

        Raises:
            HeaderCompressionError: it is not HPACK.
            HeaderListTooLargeError: decoded, it is larger than the limit.
        """
        found = self.seen.get(block) or self._decode_plain(block)
        if found is not None:
            return found
        version = self._table.version
        decoded = HeaderBlock(self._decode_any(block))
        if self._table.version != version:
            self.seen.clear()
        elif len(block) <= _LONGEST_KEY:
            self._keep(block, decoded)
        return decoded

    def _keep(self, block: bytes, decoded: HeaderBlock) -> None:
        if len(self.seen) >= _MOST_BLOCKS:
            self.seen.clear()
        self.seen[block] = decoded

    def _decode_any(self, block: bytes) -> Fields:
        try:
            return tuple(self._hpack.decode(block, raw=True))
        except OversizedHeaderListError:
            raise HeaderListTooLargeError(
                f"a header list is larger than {self._list_size} bytes", limit=self._list_size
            ) from None
        except (HPACKError, IndexError, ValueError) as error:
            raise HeaderCompressionError(f"a header block cannot be read: {error or type(error).__name__}") from error

    def _decode_plain(self, block: bytes) -> HeaderBlock | None:
        """Return a block of indexed fields and then short literals, as ours are; None for `hpack` to look.

        The indexed fields are those of every call of a method and are read once, with a deadline that follows them. What
        comes behind is what an application says of one call, and is not kept.
        """
        size = len(block)
        if size > _LONGEST_KEY:
            return None
        indexed = _INDEXED(block)
        assert indexed is not None
        at, behind = indexed.end(), size
        base = self.seen.get(block[:at]) or self._decode_indexed(block[:at])
        if base is None or at == size:
            return base
        try:
            if block.startswith(_TIMEOUT, at):
                behind = at + len(_TIMEOUT) + 1 + block[at + len(_TIMEOUT)]
                timed = self.seen.get(block[:behind]) if behind < size else None
                if timed is not None:
                    base, at = timed, behind
            extra = _read_literals(block, at)
        except IndexError:
            return None
        decoded = HeaderBlock((), base, extra)
        if not extra or (
            len(base.fields) + len(extra) > _FIELDS_UNCHECKED and list_size(decoded.fields) > self._list_size
        ):
            return None
        if extra[0][0] == b"grpc-timeout":
            if len(extra) == 1:
                self._keep(block, decoded)
            elif behind < size:
                self._decode_plain(block[:behind])  # for the next call, which has the same timeout
        return decoded

    def _decode_indexed(self, block: bytes) -> HeaderBlock | None:
        """Return a block that consists of indices of one byte each; None when it has one that the table has not."""
        try:
            fields = tuple([self._table.get_by_index(byte & 0x7F) for byte in block])
        except HPACKError:
            return None
        if list_size(fields) > self._list_size:
            return None
        found = HeaderBlock(fields)
        self._keep(block, found)
        return found


def _read_literals(block: bytes, at: int) -> Fields:
    """Return the short literals that follow one another from `at` to the end; nothing when there is something else.

    Raises:
        IndexError: the block ends within one.
    """
    fields, size = [], len(block)
    while at < size:
        name_at = at + 2
        value_at = name_at + block[at + 1]
        value_size = block[value_at]
        if block[at] & _NOT_UNINDEXED or value_at - name_at >= _SHORT or value_size >= _SHORT:
            return ()
        at = value_at + 1 + value_size
        fields.append((block[name_at:value_at], block[value_at + 1 : at]))
    return tuple(fields) if at == size else ()


def list_size(fields: Fields) -> int:
    """Return the size of a header list, as section 10.5.1 counts it."""
    return sum(len(name) + len(value) + 32 for name, value in fields)


class Repeated:
    """Fields that are sent again and again on one connection, and the block that they make at the moment."""

    __slots__ = ("block", "fields", "version")

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self.block = b""
        self.version = -1


class BlockEncoder:
    """Blocks for the peer. They are to be sent in the order in which they are made."""

    def __init__(self) -> None:
        self._hpack = Encoder()
        self._table = self._hpack.header_table = _VersionedTable()
        self._most = self._table.maxsize

    def limit_table(self, size: int) -> None:
        """Use no more than `size` bytes of the peer's table; the next block says so (RFC 7541, section 4.2)."""
        size = min(size, self._most)
        if size != self._table.maxsize:  # setting the same again would make hpack forget what it still has to say
            self._hpack.header_table_size = size
            changes = self._hpack.table_size_changes
            if len(changes) > 2:  # noqa: PLR2004 - the smallest and the last are all that has to be said
                changes[:] = min(changes), size

    def encode(self, repeated: Repeated) -> bytes:
        """Return the block for fields that repeat."""
        table = self._table
        if repeated.version == table.version:
            return repeated.block
        version, settled = table.version, not table.resized
        block = self._hpack.encode(()) + b"".join([self._encode_field(name, value) for name, value in repeated.fields])
        if settled and table.version == version:  # else it says what is to be said once
            repeated.block, repeated.version = block, version
        return block

    def _encode_field(self, name: bytes, value: bytes) -> bytes:
        # What the table has no room for stays out of it: else two sets of headers would push each other out forever.
        found = self._table.search(name, value)
        if (found is None or found[2] is None) and not self._table.has_room_for(name, value):
            return literal(name, value)
        return self._hpack.encode(((name, value),))


def literal(name: bytes, value: bytes) -> bytes:
    """Return one field that leaves the table alone, without Huffman coding (RFC 7541, section 6.2.2)."""
    if len(name) < _SHORT and len(value) < _SHORT:
        return b"\0%c%b%c%b" % (len(name), name, len(value), value)
    return b"".join((b"\0", _length(len(name)), name, _length(len(value)), value))


def read_literals(block: bytes) -> Fields:
    """Return the fields of which `literal` has made a block."""
    return tuple(Decoder(max_header_list_size=sys.maxsize).decode(block, raw=True))


def _length(size: int) -> bytes:
    if size < _SHORT:
        return bytes((size,))
    encoded = bytearray((_SHORT,))
    size -= _SHORT
    while size >= 0x80:  # noqa: PLR2004 - seven bits in each byte
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    encoded.append(size)
    return bytes(encoded)
