"""Hypothesis strategies for protobuf messages with anything in them that a peer could have written."""

from collections.abc import Mapping
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

MAX_DEPTH: Final = 4
MAX_FIELDS: Final = 6
MAX_ITEMS: Final = 3

Known = Mapping[str, st.SearchStrategy[Any]]
"""By the name of a field: what it often is, so that messages are about something that exists."""

_F = FieldDescriptor


def _whole(low: int, high: int) -> st.SearchStrategy[int]:
    edges = st.sampled_from([low, high, 0, 1, min(high, 2**31)])
    return st.one_of(edges, st.integers(max(low, -5), 10), st.integers(low, high))


_BYTES: Final = st.one_of(
    st.sampled_from([b"", bytes(4), bytes(16), b"\0\0\0\1", b"x" * 15, b"x" * 16, b"x" * 17, b"x" * 20]),
    st.binary(max_size=24),
)
_SCALARS: Final[dict[int, st.SearchStrategy[Any]]] = {
    _F.CPPTYPE_INT32: _whole(-(2**31), 2**31 - 1),
    _F.CPPTYPE_INT64: _whole(-(2**63), 2**63 - 1),
    _F.CPPTYPE_UINT32: _whole(0, 2**32 - 1),
    _F.CPPTYPE_UINT64: _whole(0, 2**64 - 1),
    _F.CPPTYPE_DOUBLE: st.floats(),
    _F.CPPTYPE_FLOAT: st.floats(width=32),
    _F.CPPTYPE_BOOL: st.booleans(),
    _F.CPPTYPE_ENUM: st.one_of(st.integers(0, 8), st.sampled_from([99, 2**31 - 1, -1])),
}
_TEXTS: Final = st.one_of(
    st.sampled_from(["", "CPU", "GPU", "a\0b", "!" * 2_000, "x" * 600]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)


def messages_of(kind: type[Message], known: Known) -> st.SearchStrategy[Any]:
    """Messages of a kind, with some of their fields set."""
    return _messages(cast(Descriptor, kind.DESCRIPTOR), known, 0)


def message_with(kind: type[Message], body: str, known: Known) -> st.SearchStrategy[Any]:
    """Messages of a kind with one field, a message, set to anything; and ``request_id``, if there is one."""
    field = kind.DESCRIPTOR.fields_by_name[body]
    values = {body: _messages(cast(Descriptor, field.message_type), known, 1)}
    if "request_id" in kind.DESCRIPTOR.fields_by_name:
        values["request_id"] = st.integers(0, 3)
    return st.fixed_dictionaries(values).map(lambda chosen: kind(**chosen))


def _messages(descriptor: Descriptor, known: Known, depth: int) -> st.SearchStrategy[Any]:
    kind = GetMessageClass(descriptor)
    fields = list(descriptor.fields)
    if depth >= MAX_DEPTH or not fields:
        return st.builds(kind)

    @st.composite
    def build(draw: st.DrawFn) -> Message:
        chosen = draw(st.lists(st.sampled_from(fields), unique_by=lambda f: f.name, max_size=MAX_FIELDS))
        return kind(**{field.name: draw(_values(field, known, depth)) for field in chosen})

    return build()


def _values(field: FieldDescriptor, known: Known, depth: int) -> st.SearchStrategy[Any]:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        key, value = inner.fields_by_name["key"], inner.fields_by_name["value"]
        return st.dictionaries(_one(key, known, depth), _one(value, known, depth), max_size=MAX_ITEMS)
    one = _one(field, known, depth)
    return st.lists(one, max_size=MAX_ITEMS) if cast(Any, field).label == _F.LABEL_REPEATED else one


def _one(field: FieldDescriptor, known: Known, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return _messages(field.message_type, known, depth + 1)
    if field.cpp_type == _F.CPPTYPE_STRING:
        anything: st.SearchStrategy[Any] = _BYTES if field.type == _F.TYPE_BYTES else _TEXTS
    else:
        anything = _SCALARS[field.cpp_type]
    # Twice: what is known more often than not.
    return st.one_of(known[field.name], known[field.name], anything) if field.name in known else anything
