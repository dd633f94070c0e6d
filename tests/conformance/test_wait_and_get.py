"""get and wait, in each case."""

from collections.abc import Iterator

import pytest
import ray

from tests.conformance.systems import running_cluster


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with running_cluster():
        yield


@ray.remote
def echo(value: object) -> object:
    return value


def test_get_of_one_and_of_a_list() -> None:
    assert ray.get(echo.remote(1)) == 1
    assert ray.get([echo.remote(1), echo.remote(2)]) == [1, 2]
    assert ray.get([]) == []
