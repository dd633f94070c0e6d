"""max_calls: workers end after so many runs of a function, and nothing is lost or run twice by that."""

import os
from collections.abc import Iterator
from pathlib import Path

import aktis
import pytest

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("max_calls")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


def note(directory: str, number: int) -> int:
    """Run once: a second run for the same number raises FileExistsError."""
    os.close(os.open(f"{directory}/{number}", os.O_CREAT | os.O_EXCL))
    return os.getpid()


@pytest.mark.parametrize("max_retries", [0, 3])
@pytest.mark.parametrize("max_calls", [1, 3])
def test_many_tasks_run_once_each(tmp_path: Path, max_calls: int, max_retries: int) -> None:
    task = aktis.remote(max_calls=max_calls, max_retries=max_retries)(note)
    pids = aktis.get([task.remote(str(tmp_path), number) for number in range(40)], timeout=60)
    assert max(pids.count(pid) for pid in pids) == max_calls


def test_results_with_references_outlast_their_worker() -> None:
    """Such a reply waits until its references are registered; the worker waits for that as well."""

    @aktis.remote(max_calls=1, max_retries=0)
    def pass_on(box: list[aktis.ObjectRef[str]]) -> list[aktis.ObjectRef[str]]:
        return box

    values = [aktis.put(f"value {i}") for i in range(12)]
    boxes = aktis.get([pass_on.remote([value]) for value in values], timeout=60)
    assert aktis.get([box[0] for box in boxes]) == [f"value {i}" for i in range(12)]


def test_large_results_outlast_their_worker() -> None:
    @aktis.remote(max_calls=1, max_retries=0)
    def make(i: int) -> bytes:
        return bytes([i]) * 200_000

    values = aktis.get([make.remote(i) for i in range(12)], timeout=60)
    assert [value[0] for value in values] == list(range(12))
