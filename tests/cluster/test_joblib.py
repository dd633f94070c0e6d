"""joblib, and what is built on it, in a pool of actors."""

import os
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import aktis
import joblib
import numpy as np
import pytest
from aktis.util.joblib import register_aktis, register_ray
from aktis.util.joblib.backend import SHARED_MIN_BYTES

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("joblib")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


def square(number: int) -> int:
    return number * number


def refuse_two(number: int) -> int:
    if number == 2:
        raise ValueError(f"no {number}")
    return number


@pytest.mark.parametrize("backend", ["aktis", "ray"])
def test_joblib_runs_in_other_processes(backend: str) -> None:
    register_ray()
    with joblib.parallel_backend(backend, n_jobs=2):
        pids = joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(10))
        assert joblib.Parallel()(joblib.delayed(square)(n) for n in range(100)) == [n * n for n in range(100)]
    assert os.getpid() not in pids


def test_joblib_counts_the_cpus_of_the_cluster() -> None:
    register_aktis()
    with joblib.parallel_backend("aktis"):
        assert joblib.effective_n_jobs(-1) == 2
        assert joblib.effective_n_jobs(1) == 1
        assert joblib.effective_n_jobs(None) == 2


def test_joblib_takes_the_options_of_its_actors_by_one_name() -> None:
    register_aktis()
    both = {"remote_args": {"num_cpus": 0}, "ray_remote_args": {"num_cpus": 1}}
    with joblib.parallel_backend("aktis", n_jobs=2, **both), pytest.raises(TypeError, match="two names"):
        joblib.Parallel()(joblib.delayed(square)(n) for n in range(5))


def test_joblib_raises_what_a_task_raises() -> None:
    register_aktis()
    with joblib.parallel_backend("aktis", n_jobs=2), pytest.raises(ValueError, match="no 2"):
        joblib.Parallel()(joblib.delayed(refuse_two)(n) for n in range(5))


def test_a_large_argument_of_many_tasks_is_stored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    register_aktis()
    array = np.ones(SHARED_MIN_BYTES, dtype=np.uint8)
    stored = []
    put = aktis.put

    def counted(value: Any) -> Any:
        stored.append(value)
        return put(value)

    monkeypatch.setattr(aktis, "put", counted)
    with joblib.parallel_backend("aktis", n_jobs=2):
        sums = joblib.Parallel()(joblib.delayed(np.sum)(array) for _ in range(20))
    assert sums == [SHARED_MIN_BYTES] * 20
    assert [value is array for value in stored] == [True]


def test_a_large_argument_may_change_between_calls() -> None:
    register_aktis()
    array = np.ones(SHARED_MIN_BYTES, dtype=np.uint8)

    def last(items: np.ndarray[Any, Any]) -> int:
        return int(items[-1])

    with joblib.parallel_backend("aktis", n_jobs=2), joblib.Parallel() as parallel:
        for value in range(20):
            array[-1] = value
            assert parallel(joblib.delayed(last)(array) for _ in range(3)) == [value] * 3


def test_a_large_argument_goes_when_its_tasks_are_done() -> None:
    register_aktis()
    gone = threading.Event()
    with joblib.parallel_backend("aktis", n_jobs=2), joblib.Parallel(batch_size=1) as parallel:

        def arrays() -> Iterator[np.ndarray[Any, Any]]:
            first = np.ones(SHARED_MIN_BYTES, dtype=np.uint8)
            weakref.finalize(first, gone.set)
            yield first
            del first
            for _ in range(20):
                yield np.ones(SHARED_MIN_BYTES, dtype=np.uint8)

        assert parallel(joblib.delayed(np.sum)(array) for array in arrays()) == [SHARED_MIN_BYTES] * 21
        assert gone.wait(10)


def test_scikit_learn_searches_a_grid() -> None:
    from sklearn.datasets import make_classification
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    register_ray()
    samples, labels = make_classification(n_samples=200, random_state=0)
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=3)
    with joblib.parallel_backend("ray", n_jobs=2):
        search.fit(samples, labels)
    assert search.best_score_ > 0.7
