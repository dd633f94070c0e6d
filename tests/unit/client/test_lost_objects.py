"""Which error an object becomes that is lost for good."""

import pytest
from aktis._runtime.service import lost_object_error
from aktis.exceptions import (
    ObjectFreedError,
    ObjectLostError,
    ObjectReconstructionFailedError,
    OwnerDiedError,
)

RESULT = bytes(16) + b"\x01\0\0\0"
PUT = bytes(16) + b"\0\0\0\x80"


@pytest.mark.parametrize(
    ("object_id", "reason", "why_not", "kind"),
    [
        (RESULT, "gone", "no retries left", ObjectReconstructionFailedError),
        (PUT, "gone", "it was stored by put()", ObjectLostError),
        (RESULT, "owner died", "", OwnerDiedError),
        (RESULT, "freed by its owner", "", ObjectFreedError),
        (RESULT, "its owner does not have it any more", "", ObjectLostError),
    ],
)
def test_the_kind_of_error(object_id: bytes, reason: str, why_not: str, kind: type[ObjectLostError]) -> None:
    error = lost_object_error(object_id, reason, why_not)
    assert type(error) is kind
    assert error.object_ref_hex == object_id.hex()
    assert why_not in str(error)
