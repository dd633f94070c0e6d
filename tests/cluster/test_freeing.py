"""aktis.free: a value goes although there are references to it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aktis
import numpy as np
import pytest
from aktis.exceptions import ObjectFreedError

from tests.support.clients import embedded
from tests.support.gates import Gate
from tests.support.keepers import (
    LARGE,
    SMALL,
    STORE_BYTES,
    TIMEOUT_S,
    Keeper,
    assert_room_in_store,
    call,
    make,
)

pytestmark = pytest.mark.xdist_group("freeing")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2, object_store_memory=STORE_BYTES):
        yield


@pytest.fixture(params=[SMALL, LARGE], ids=["inline", "stored"])
def size(request: pytest.FixtureRequest) -> int:
    size: int = request.param
    return size


@aktis.remote
def make_at(gate: Gate | None, size: int) -> Any:
    if gate is not None:
        gate.enter()
    return make(size)


@aktis.remote
def length(value: Any) -> int:
    return len(value)


def assert_freed(ref: Any) -> None:
    with pytest.raises(ObjectFreedError, match=f"Object {ref.hex()} was freed explicitly by process"):
        aktis.get(ref, timeout=TIMEOUT_S)


def test_a_value_of_put_and_a_result(size: int) -> None:
    refs = [aktis.put(make(size)), aktis.put(1)]
    aktis.free(refs)
    assert_freed(refs[0])
    assert_freed(refs[1])
    result = make_at.remote(None, size)
    aktis.wait([result], fetch_local=False)
    aktis.free(result, local_only=True)
    assert_freed(result)
    aktis.free(result)
    assert_freed(result)
    assert_room_in_store()


def test_what_is_not_there_yet_is_freed_when_it_comes(tmp_path: Path, size: int) -> None:
    with Gate(tmp_path) as gate:
        result = make_at.remote(gate, size)
        gate.wait_entered()
        aktis.free([result])
        assert not aktis.wait([result], timeout=0)[0]
        gate.open()
        assert_freed(result)
    assert_room_in_store()


def test_a_task_that_needs_it_fails(size: int) -> None:
    ref = aktis.put(make(size))
    aktis.free([ref])
    with pytest.raises(ObjectFreedError):
        aktis.get(length.remote(ref), timeout=TIMEOUT_S)


def test_by_a_borrower_and_for_a_borrower(size: int) -> None:
    keeper = Keeper.remote()
    (ref,) = call(keeper.make, size)
    assert len(aktis.get(ref)) == size
    aktis.free([ref])
    assert_freed(ref)  # here, where it was mapped
    with pytest.raises(ObjectFreedError):
        call(keeper.read, size)  # at its owner
    del ref
    own = aktis.put(make(size))
    call(keeper.keep, [own])
    aktis.free([own])
    other = Keeper.remote()
    call(other.keep, [own])
    with pytest.raises(ObjectFreedError):
        call(other.read, size)  # at who never had it
    del own
    aktis.kill(keeper)
    aktis.kill(other)
    assert_room_in_store()


def test_who_reads_it_reads_on() -> None:
    ref = aktis.put(make(LARGE))
    array = aktis.get(ref)
    aktis.free([ref])
    assert array.sum() == LARGE * 7
    del array
    assert_room_in_store()


def test_an_error_stays_what_it_is() -> None:
    @aktis.remote
    def fail() -> None:
        raise KeyError("mine")

    ref = fail.remote()
    aktis.wait([ref])
    aktis.free([ref])
    with pytest.raises(KeyError, match="mine"):
        aktis.get(ref, timeout=TIMEOUT_S)


def test_only_references_can_be_freed() -> None:
    for wrong in (3, [3], None, "ref"):
        with pytest.raises(TypeError, match=r"free\(\) takes"):
            aktis.free(wrong)  # type: ignore[arg-type]
    aktis.free([])


def test_it_is_not_computed_again() -> None:
    """Its lineage is there, and the store has lost it, but nobody wants that."""
    ref = make_at.remote(None, LARGE)
    aktis.wait([ref], fetch_local=False)
    aktis.free([ref])
    assert_freed(ref)
    assert aktis.get(make_at.remote(None, SMALL)).tolist() == [7] * SMALL
    assert_freed(ref)
    assert np.ones(1).sum() == 1
