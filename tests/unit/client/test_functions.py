"""Functions by the hash of their pickle."""

import threading
from typing import Any

import pytest
from aktis._runtime.advice import Advice
from aktis._runtime.functions import Exported, FunctionStore
from aktis.exceptions import AktisError


class Store:
    """The cluster's key-value store."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, bytes], bytes] = {}
        self.jobs: set[bytes] = set()
        self.gets = 0

    def kv_put(self, namespace: str, key: bytes, value: bytes, *, overwrite: bool, job_id: bytes) -> bool:
        self.values[namespace, key] = value
        self.jobs.add(job_id)
        return True

    def kv_get(self, namespace: str, key: bytes) -> bytes | None:
        self.gets += 1
        return self.values.get((namespace, key))


@pytest.fixture(autouse=True)
def without_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting references takes a running core; there are none in these functions."""
    monkeypatch.setattr("aktis._runtime.functions.collect_references", lambda function: (function(), []))


def make(store: Store, log: list[str] | None = None) -> FunctionStore:
    noted = log if log is not None else []
    control: Any = store
    return FunctionStore(control, Advice(), lambda: noted.append("first"), lambda: b"job!")


def adder(amount: int) -> Any:
    return lambda x: x + amount


def test_a_function_is_exported_once_and_loaded_once() -> None:
    store, log = Store(), ["made"]
    driver, worker = make(store, log), make(store)
    exported = Exported(adder(2))
    function_id = driver.export(exported, "f")
    assert driver.export(exported, "f") == function_id
    assert len(function_id) == 16
    assert log == ["made", "first"]
    assert worker.load(function_id).value(1) == 3
    assert worker.load(function_id).value(1) == 3
    assert store.gets == 1
    assert store.jobs == {b"job!"}


def test_another_body_is_another_function() -> None:
    store = make(Store())
    assert store.export(Exported(adder(1)), "f") != store.export(Exported(adder(2)), "f")


def test_options_that_the_executor_needs_come_along() -> None:
    store = Store()
    function_id = make(store).export(Exported(adder(1), max_calls=3), "f")
    assert make(store).load(function_id).max_calls == 3


def test_what_cannot_be_pickled_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"the function f.*variable 'lock'"):
        make(Store()).export(Exported(lambda: lock), "the function f")


def test_a_function_that_is_too_large_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aktis._runtime.functions.MAX_SIZE_BYTES", 1 << 20)
    data = b"x" * (2 << 20)
    with pytest.raises(ValueError, match=r"the function f is 2 MiB.*put\(\)"):
        make(Store()).export(Exported(lambda: data), "the function f")


def test_a_function_that_the_cluster_does_not_have() -> None:
    with pytest.raises(AktisError, match="does not have the function"):
        make(Store()).load(b"x" * 16)
