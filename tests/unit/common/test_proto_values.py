"""What other processes fill into a message."""

from aktis._common.proto_values import UINT64_MAX, as_uint64, enum_name
from aktis._proto import common_pb2

KIND = common_pb2.DeathCause.Kind


def test_every_value_of_an_enum_has_a_name() -> None:
    assert {enum_name(KIND.DESCRIPTOR, number) for number in KIND.values()} == set(KIND.keys())
    assert {enum_name(KIND.DESCRIPTOR, number) for number in (-1, 99, 2**31 - 1)} == {"UNKNOWN"}


def test_a_count_fits_its_field() -> None:
    for count in (0, 1, UINT64_MAX, UINT64_MAX + 1, 3 * 2**64):
        batch = common_pb2.TaskEventBatch(dropped=as_uint64(count))
        assert batch.dropped == min(count, UINT64_MAX)
