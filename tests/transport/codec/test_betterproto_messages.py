"""Values that fit their fields or do not, and what a decoded message can do."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from types import ModuleType

import betterproto
import pytest

from supervisor.errors import DecodeError, EncodeError, TransportError
from supervisor.transport.codec import decode, encode
from supervisor.transport.codec.wire import encode_varint

# --- values that do not fit ------------------------------------------------------------------------------------------

MISFITS: dict[str, tuple[str, str, object, str]] = {
    "str for int32": ("Scalars", "f_int32", "5", "str"),
    "empty str for int32": ("Scalars", "f_int32", "", "str"),
    "float for int32": ("Scalars", "f_int32", 5.5, "float"),
    "small float for int32": ("Scalars", "f_int32", 5.0, "float"),
    "int32 too large": ("Scalars", "f_int32", 2**31, "int"),
    "int32 too small": ("Scalars", "f_int32", -(2**31) - 1, "int"),
    "uint32 below zero": ("Scalars", "f_uint32", -1, "int"),
    "uint64 too large": ("Scalars", "f_uint64", 2**64, "int"),
    "sint32 too large": ("Scalars", "f_sint32", 2**31, "int"),
    "fixed32 too large": ("Scalars", "f_fixed32", 2**32, "int"),
    "sfixed64 too large": ("Scalars", "f_sfixed64", 2**63, "int"),
    "str for double": ("Scalars", "f_double", "x", "str"),
    "float too large": ("Scalars", "f_float", 1e300, "float"),
    "str for bool": ("Scalars", "f_bool", "yes", "str"),
    "int for str": ("Scalars", "f_string", 5, "int"),
    "bytes for str": ("Scalars", "f_string", b"x", "bytes"),
    "lone surrogate": ("Scalars", "f_string", "\ud800", "str"),
    "str for bytes": ("Scalars", "f_bytes", "x", "str"),
    "int for bytes": ("Scalars", "f_bytes", 5, "int"),
    "str for enum": ("Scalars", "f_color", "RED", "str"),
    "str for optional int32": ("Optionals", "f_int32", "5", "str"),
    "str for a list": ("Repeateds", "f_string", "abc", "str"),
    "int for a list": ("Repeateds", "f_int32", 5, "int"),
    "str in a list of numbers": ("Repeateds", "f_int32", [1, "x"], "list"),
    "None in a list of strings": ("Repeateds", "f_string", ["a", None], "NoneType"),
    "int in a list of strings": ("Repeateds", "f_string", ["a", 5], "int"),
    "too large in a list": ("Repeateds", "f_int32", [1, 2**31], "list"),
    "str in a list of doubles": ("Repeateds", "f_double", ["x"], "list"),
    "2 in a list of bools": ("Repeateds", "f_bool", [2], "list"),
    "list for a map": ("Maps", "by_string", [("a", "b")], "list"),
    "int as a map value": ("Maps", "by_string", {"a": 5}, "int"),
    "None as a map message": ("Maps", "to_inner", {"a": None}, "NoneType"),
    "str for a message": ("Nests", "inner", "x", "str"),
    "int in a list of messages": ("Repeateds", "f_inner", [5], "int"),
    "int for a wrapped str": ("Wrappers", "w_string", 5, "int"),
    "naive datetime": ("Times", "at", datetime(2026, 1, 1), "datetime"),  # noqa: DTZ001 - on purpose
    "timedelta for a timestamp": ("Times", "at", timedelta(1), "timedelta"),
    "datetime for a duration": ("Times", "lasting", datetime(2026, 1, 1, tzinfo=UTC), "datetime"),
    "str for a oneof number": ("Oneofs", "number", "5", "str"),
}


@pytest.mark.parametrize(("name", "field", "value", "found"), MISFITS.values(), ids=MISFITS)
def test_a_value_that_does_not_fit_is_named(name: str, field: str, value: object, found: str, bp: ModuleType) -> None:
    """The error is a `ValueError` that says which message, which field, and what was found there."""
    message = getattr(bp, name)(**{field: value})
    with pytest.raises(EncodeError, match=f"^{name}.{field}: ") as caught:
        encode(message)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, TransportError)
    assert (caught.value.message_type, caught.value.field, caught.value.value_type) == (name, field, found)


def test_a_misfit_deep_inside_is_named_by_its_own_message(bp: ModuleType) -> None:
    """The innermost message and field are at fault, not the ones around them."""
    with pytest.raises(EncodeError) as caught:
        encode(bp.Nests(inner=bp.Inner(deeper=bp.Inner(count="x"))))
    assert (caught.value.message_type, caught.value.field) == ("Inner", "count")


def test_a_message_of_another_class_is_refused(bp: ModuleType) -> None:
    """Fields with the same names do not make it the right class; a subclass does."""

    class Special(bp.Inner):  # type: ignore[misc, name-defined] # the class is made at run time
        # betterproto looks its field types up in the module of the class.
        __module__ = bp.Inner.__module__

    assert encode(bp.Nests(inner=Special(name="a"))) == encode(bp.Nests(inner=bp.Inner(name="a")))
    with pytest.raises(EncodeError, match="expected a Inner") as caught:
        encode(bp.Nests(inner=bp.NewerInner(name="a")))
    assert (caught.value.field, caught.value.value_type) == ("inner", "NewerInner")


def test_none_means_unset(bp: ModuleType) -> None:
    """A None where a value could be is not sent, as betterproto has it."""
    assert encode(bp.Scalars(f_int32=None, f_string=None, f_bool=None, f_double=None)) == b""
    assert encode(bp.Nests(inner=None)) == b""


def test_bytes_like_values_are_sent(bp: ModuleType) -> None:
    """A memoryview is sent whole, although its length does not count bytes."""
    four = memoryview(bytes(range(8))).cast("H")
    assert decode(bp.Scalars, encode(bp.Scalars(f_bytes=four))).f_bytes == bytes(range(8))
    assert decode(bp.Scalars, encode(bp.Scalars(f_bytes=bytearray(b"ab")))).f_bytes == b"ab"


def test_a_map_of_number_wrappers_is_refused(bp: ModuleType) -> None:
    """Betterproto does not keep which wrapper it was, and guessing would change numbers."""
    with pytest.raises(EncodeError, match="map of number wrappers"):
        encode(bp.NumberWrapperMap(values={"a": 1}))
    with pytest.raises(DecodeError, match="map of number wrappers"):
        decode(bp.NumberWrapperMap, b"")


def test_betterproto_itself_is_never_asked(bp: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither parser nor serialiser of betterproto runs, so neither can be the slow or the unsafe part."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("betterproto's own codec was called")

    for name in ("parse", "load", "dump", "FromString", "SerializeToString", "__bytes__", "__len__"):
        monkeypatch.setattr(betterproto.Message, name, refuse)
    message = bp.Everything(nests=bp.Nests(inner=bp.Inner(name="a")), maps=bp.Maps(to_inner={"k": bp.Inner(count=1)}))
    message.tree.children.append(bp.Tree(value=1))
    assert decode(bp.Everything, encode(message)) == message


# --- decoded messages behave like betterproto's own ------------------------------------------------------------------


@pytest.fixture
def raw(pb: ModuleType) -> bytes:
    """A message with a value of every sort."""
    encoded: bytes = pb.Everything(
        scalars=pb.Scalars(f_int32=-3, f_string="ä", f_color=1, f_double=0.5),
        optionals=pb.Optionals(f_int32=0, f_string=""),
        repeateds=pb.Repeateds(f_int32=[1, 2], f_inner=[pb.Inner(name="a"), pb.Inner()]),
        maps=pb.Maps(by_string={"a": "b"}, to_inner={"k": pb.Inner(count=1)}, to_color={"c": 1}),
        oneofs=pb.Oneofs(inner=pb.Inner(name="chosen"), left=0),
        nests=pb.Nests(inner=pb.Inner(deeper=pb.Inner(items=[300]))),
    ).SerializeToString()
    return encoded


def test_it_equals_what_betterproto_parses(raw: bytes, bp: ModuleType) -> None:
    """Same value, same dict and JSON, same repr, same presence."""
    ours, theirs = decode(bp.Everything, raw), bp.Everything().parse(raw)
    assert ours == theirs
    assert ours.to_dict() == theirs.to_dict()
    assert ours.to_json() == theirs.to_json()
    assert repr(ours) == repr(theirs)
    assert ours.__dict__.keys() == theirs.__dict__.keys()
    for name in ("scalars", "optionals", "tree"):
        assert betterproto.serialized_on_wire(getattr(ours, name)) == betterproto.serialized_on_wire(
            getattr(theirs, name)
        )
        assert ours.is_set(name) is True


def test_betterproto_writes_what_was_decoded(raw: bytes, bp: ModuleType, pb: ModuleType) -> None:
    """`bytes(message)`, pickling included, still works and says the same."""
    message = decode(bp.Everything, raw)
    assert pb.Everything.FromString(bytes(message)) == pb.Everything.FromString(raw)
    assert copy.deepcopy(message) == copy.copy(message) == message


def test_unset_fields_are_what_betterproto_says(bp: ModuleType) -> None:
    """Defaults, None for optionals, and an error for a member of a oneof that is not chosen."""
    assert decode(bp.Scalars, b"").f_int32 == 0
    assert decode(bp.Optionals, b"").f_int32 is None
    assert decode(bp.Repeateds, b"").f_int32 == []
    assert decode(bp.Nests, b"").inner == bp.Inner()
    oneofs = decode(bp.Oneofs, b"\x1a\x01a")
    assert betterproto.which_one_of(oneofs, "choice") == ("text", "a")
    assert betterproto.which_one_of(oneofs, "second") == ("", None)
    with pytest.raises(AttributeError):
        _ = oneofs.number


def test_it_can_be_changed_and_sent(raw: bytes, bp: ModuleType, pb: ModuleType) -> None:
    """Assignments, appends, oneof switches and assignments through unset sub-messages all arrive."""
    message = decode(bp.Everything, raw)
    message.scalars.f_int32 = 7
    message.repeateds.f_int32.append(3)
    message.maps.by_string["c"] = "d"
    message.oneofs.text = ""
    message.tree.value = 0  # through a sub-message that was unset: setting a field of it sets it
    message.optionals.f_string = None
    changed = pb.Everything.FromString(encode(message))
    assert changed.scalars.f_int32 == 7
    assert list(changed.repeateds.f_int32) == [1, 2, 3]
    assert dict(changed.maps.by_string) == {"a": "b", "c": "d"}
    assert changed.oneofs.WhichOneof("choice") == "text"
    assert changed.HasField("tree")
    assert not changed.optionals.HasField("f_string")


def test_decoded_messages_share_nothing(bp: ModuleType) -> None:
    """What happens to one message does not happen to the next."""
    one, other = decode(bp.Oneofs, b"\x10\x01"), decode(bp.Oneofs, b"\x10\x01")
    one.text = "a"
    assert betterproto.which_one_of(other, "choice") == ("number", 1)
    one, other = decode(bp.Repeateds, b""), decode(bp.Repeateds, b"")
    one.f_int32.append(1)
    assert other.f_int32 == []


def test_enums_stay_enums(bp: ModuleType) -> None:
    """A known number is its member, an unknown one keeps its value and has no name."""
    message = decode(bp.Repeateds, b"\x82\x01\x0c\x01\x63" + encode_varint(2**64 - 5))
    assert message.f_color == [bp.Color.RED, 99, bp.Color.NEGATIVE]
    assert message.f_color[0] is bp.Color.RED
    assert type(message.f_color[1]) is bp.Color
    assert message.f_color[1].name is None
