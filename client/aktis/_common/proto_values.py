"""Values of protobuf fields that other processes fill in: any that the wire format can carry."""

from typing import Final

from google.protobuf.descriptor import EnumDescriptor

UINT64_MAX: Final = 2**64 - 1


def enum_name(enum: EnumDescriptor, number: int) -> str:
    """Return the name of an enum's value.

    >>> from aktis._proto import common_pb2
    >>> kinds = common_pb2.DeathCause.Kind.DESCRIPTOR
    >>> enum_name(kinds, 1), enum_name(kinds, 1_000)
    ('EXITED', 'UNKNOWN')
    """
    value = enum.values_by_number.get(number)
    return value.name if value is not None else "UNKNOWN"


def as_uint64(count: int) -> int:
    """Return a count as far as a field can say it: sums of what others have counted may be larger.

    >>> as_uint64(3), as_uint64(2**64) == UINT64_MAX
    (3, True)
    """
    return min(count, UINT64_MAX)
