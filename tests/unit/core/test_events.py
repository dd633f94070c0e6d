"""Events of the core as Python gets them."""

import pytest
from aktis import _core


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (b"freed", "freed"),
        ("größer".encode(), "größer"),
        (b"cut \xc3", "cut \ufffd"),
        (b"\xff\0", "\ufffd\0"),
    ],
)
def test_what_another_process_gives_as_a_reason_may_be_any_bytes(reason: bytes, text: str) -> None:
    ((kind, _, said),) = _core.testing.object_lost_event(reason)
    assert (kind, said) == (_core.EVENT_OBJECT_LOST, text)
