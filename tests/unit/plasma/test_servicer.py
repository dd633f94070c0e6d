"""What the control service refuses before it asks the store."""

import pytest
from aktisd.plasma.servicer import MAX_OWNERS_PER_CALL, check_owners


def test_owners_must_be_worker_ids() -> None:
    check_owners([b"w" * 16])
    with pytest.raises(ValueError, match="worker_id must have 16 bytes, got 5"):
        check_owners([b"w" * 16, b"short"])


def test_owners_per_call_are_limited() -> None:
    with pytest.raises(ValueError, match="at most"):
        check_owners([b"w" * 16] * (MAX_OWNERS_PER_CALL + 1))
