"""Ids have the lengths of the native module and are parsed strictly."""

import pytest
from aktis._common import ids


def test_random_ids_differ_and_have_their_lengths() -> None:
    makers = {
        ids.random_worker_id: ids.WORKER_ID_BYTES,
        ids.random_node_id: ids.NODE_ID_BYTES,
        ids.random_job_id: ids.JOB_ID_BYTES,
        ids.random_actor_id: ids.ACTOR_ID_BYTES,
        ids.random_cluster_id: ids.CLUSTER_ID_BYTES,
    }
    for make, length_bytes in makers.items():
        first, second = make(), make()
        assert len(first) == len(second) == length_bytes
        assert first != second


def test_parse_hex_returns_the_bytes() -> None:
    assert ids.parse_hex("0a0B0c0d", ids.JOB_ID_BYTES, "job id") == b"\x0a\x0b\x0c\x0d"


@pytest.mark.parametrize("text", ["", "0a", "0a0b0c0d0e", "zzzzzzzz"])
def test_parse_hex_names_what_is_wrong(text: str) -> None:
    with pytest.raises(ValueError, match=r"job id must (be 8|have 4)"):
        ids.parse_hex(text, ids.JOB_ID_BYTES, "job id")


def test_short_is_eight_digits() -> None:
    assert ids.short(bytes(range(16))) == "00010203"
