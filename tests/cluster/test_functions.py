"""Functions as code: redefined ones, and what they close over."""

from collections.abc import Iterator
from typing import Any

import aktis
import pytest
from aktis._runtime import current

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("functions")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


def define(source: str) -> Any:
    """Define f as a cell of a notebook does."""
    names: dict[str, Any] = {"__name__": "__main__", "aktis": aktis}
    exec(source, names)
    return names["f"]


def test_a_function_that_is_redefined_is_another_one() -> None:
    first = define("@aktis.remote\ndef f(): return 1")
    assert aktis.get(first.remote()) == 1
    second = define("@aktis.remote\ndef f(): return 2")
    assert aktis.get([second.remote(), first.remote(), second.options(num_cpus=0.5).remote()]) == [2, 1, 2]


def test_classes_that_are_redefined() -> None:
    first = define("@aktis.remote\nclass f:\n def get(self): return 1")
    second = define("@aktis.remote\nclass f:\n def get(self): return 2")
    assert aktis.get([second.remote().get.remote(), first.remote().get.remote()]) == [2, 1]


class Counted:
    """Large, and counts how often it is pickled."""

    pickled = 0

    def __reduce__(self) -> Any:
        Counted.pickled += 1
        return (len, (b"x" * 300_000,))


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What functions have been sent to the cluster."""
    control = current.require().control
    put, functions = control.kv_put, list[bytes]()

    def spy(namespace: str, key: bytes, value: bytes, **options: Any) -> bool:
        if namespace == "functions":
            functions.append(key)
        return put(namespace, key, value, **options)

    monkeypatch.setattr(control, "kv_put", spy)
    return functions


def test_a_large_value_in_a_closure_is_sent_once(stored: list[bytes]) -> None:
    large = Counted()
    Counted.pickled = 0

    @aktis.remote
    def f(i: int) -> Any:
        return (large, i)

    assert aktis.get([f.remote(i) for i in range(20)]) == [(300_000, i) for i in range(20)]
    others = [f.options(num_cpus=0.5), f.options(max_retries=0), f.options(name="g"), f.options()]
    assert aktis.get([other.remote(1) for other in others]) == [(300_000, 1)] * 4
    assert Counted.pickled == 1
    assert len(stored) == 1


def test_equal_functions_share_one_export(stored: list[bytes]) -> None:
    def make() -> Any:
        return aktis.remote(lambda: "same")

    assert aktis.get([make().remote() for _ in range(3)]) == ["same"] * 3
    assert len(stored) == 1


@aktis.remote(num_cpus=0)
def count_down(steps: int, result: str = "done", *, suffix: str = "!") -> str:
    return aktis.get(count_down.remote(steps - 1)) if steps else result + suffix


@aktis.remote(num_cpus=0)
class Nested:
    """One inside of another, down to a depth."""

    def __init__(self, depth: int = 0) -> None:
        self.inner: Any = Nested.remote(depth - 1) if depth else None

    def depth(self) -> int:
        return 1 + aktis.get(self.inner.depth.remote()) if self.inner else 0


@aktis.remote(num_cpus=0)
def names_and_steps(steps: int = 1) -> Any:
    """Say what the function itself is like where it runs."""
    bound = names_and_steps.bind()
    return names_and_steps.__name__, names_and_steps.__doc__, bound is not None


def test_functions_that_call_themselves_have_their_defaults_in_workers() -> None:
    assert aktis.get(count_down.remote(2), timeout=30) == "done!"
    name, doc, can_be_bound = aktis.get(names_and_steps.remote(), timeout=30)
    assert (name, can_be_bound) == ("names_and_steps", True)
    assert "Say what" in doc


def test_classes_that_make_actors_of_themselves_have_their_constructor_and_methods() -> None:
    assert aktis.get(Nested.remote(2).depth.remote(), timeout=30) == 2
