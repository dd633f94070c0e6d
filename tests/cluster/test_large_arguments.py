"""Arguments that are too large for one message go through the store, or are fetched from their owner."""

from collections.abc import Iterator
from typing import Any

import aktis
import numpy as np
import pytest

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("large_arguments")
SMALL = 60_000
"""Bytes: travels in messages."""


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


def total(*values: Any, **named: Any) -> tuple[int, int]:
    """How many values came and how many bytes they have together."""
    everything = [*values, *named.values()]
    return len(everything), sum(len(value) for value in everything)


class Adder:
    """The same in an actor; it may count what its constructor got as well."""

    def __init__(self, *values: Any) -> None:
        self.size = total(*values)

    def of_constructor(self) -> tuple[int, int]:
        return self.size

    def total(self, *values: Any) -> tuple[int, int]:
        return total(*values)


class AsyncAdder:
    """And as a coroutine."""

    async def total(self, *values: Any) -> tuple[int, int]:
        return total(*values)


@pytest.fixture(scope="module")
def many(cluster: None) -> Iterator[list[Any]]:
    """References to small values that are 72 MB together, more than fits in one frame."""
    refs = [aktis.put(bytes([i % 256]) * SMALL) for i in range(1200)]
    yield refs
    refs.clear()


def test_many_small_values_by_reference(many: list[Any]) -> None:
    expected = (1200, 1200 * SMALL)
    task = aktis.remote(max_retries=0)(total)
    assert aktis.get(task.remote(*many), timeout=60) == expected
    named = {f"n{i}": ref for i, ref in enumerate(many[:800])}
    assert aktis.get(task.remote(*many[800:], **named), timeout=60) == expected
    for cls in (Adder, AsyncAdder):
        assert aktis.get(aktis.remote(cls).remote().total.remote(*many), timeout=60) == expected


def test_to_a_constructor(many: list[Any]) -> None:
    assert aktis.get(aktis.remote(Adder).remote(*many).of_constructor.remote(), timeout=60) == (
        1200,
        1200 * SMALL,
    )


def test_many_small_values() -> None:
    """Together more than one call may carry: the larger ones of them are stored."""
    values = [bytes([i]) * SMALL for i in range(100)]
    task = aktis.remote(max_retries=0)(total)
    assert aktis.get(task.remote(*values), timeout=60) == (100, 100 * SMALL)
    actor = aktis.remote(Adder).remote(*values)
    assert aktis.get(actor.of_constructor.remote(), timeout=60) == (100, 100 * SMALL)


def test_one_large_value() -> None:
    array = np.ones(100_000_000, np.uint8)
    assert aktis.get(aktis.remote(max_retries=0)(total).remote(array), timeout=60) == (1, 100_000_000)


def test_far_too_many_tiny_ones_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"arguments of .* put\(\) them together"):
        aktis.remote(total).remote(*[b"%900d" % i for i in range(5000)])
