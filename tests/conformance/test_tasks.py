"""Tasks: arguments, results, errors, retries, generators."""

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.conformance.parts import Gate, echo, fail
from tests.conformance.systems import running_cluster

DEADLINE_S = 30


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with running_cluster():
        yield


@ray.remote(num_cpus=0)
def collect(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


# ---- arguments ----


def test_defaults_and_keyword_arguments() -> None:
    @ray.remote
    def f(a: int, b: int = 2, *rest: int, c: int, d: int = 4, **more: int) -> Any:
        return a, b, rest, c, d, more

    assert ray.get(f.remote(1, c=3)) == (1, 2, (), 3, 4, {})
    assert ray.get(f.remote(1, 5, 6, 7, c=3, e=8)) == (1, 5, (6, 7), 3, 4, {"e": 8})


def test_a_call_that_does_not_fit_the_signature_fails_at_once() -> None:
    @ray.remote
    def f(a: int, b: int = 2) -> None: ...

    with pytest.raises(TypeError):
        f.remote()
    with pytest.raises(TypeError):
        f.remote(1, 2, 3)
    with pytest.raises(TypeError):
        f.remote(1, c=3)


def test_references_as_arguments_are_resolved_at_the_top_level_only() -> None:
    ref = ray.put("value")
    (args, kwargs) = ray.get(collect.remote(ref, [ref], key=ref, nested={"key": ref}))
    assert args == ("value", [ref])
    assert kwargs == {"key": "value", "nested": {"key": ref}}


def test_a_task_with_a_failed_argument_fails_with_its_error() -> None:
    with pytest.raises(ValueError, match="upstream"):
        ray.get(echo.remote(fail.remote("upstream")))


def test_a_task_waits_for_its_arguments() -> None:
    gate = Gate.remote()
    last = functools.reduce(lambda ref, _: echo.remote(ref), range(5), gate.wait.remote("through"))
    ray.get(gate.open.remote())
    assert ray.get(last) == "through"


def test_large_arguments_and_results() -> None:
    data = os.urandom(3_000_000)
    assert ray.get(echo.remote(data)) == data
    assert ray.get(echo.remote(ray.put(data))) == data


def test_arguments_are_copies() -> None:
    value = [1]
    ref = echo.remote(value)
    value.append(2)
    assert ray.get(ref) == [1]


# ---- what can be a task ----


class Tools:
    factor = 3

    @staticmethod
    def double(x: int) -> int:
        return 2 * x

    @classmethod
    def times(cls, x: int) -> int:
        return cls.factor * x


def test_lambdas_closures_and_static_methods() -> None:
    captured = 10
    assert ray.get(ray.remote(lambda x: x + captured).remote(1)) == 11
    assert ray.get(ray.remote(Tools.double).remote(2)) == 4


@pytest.mark.differs("any-callable")
@pytest.mark.parametrize(
    ("function", "argument", "result"),
    [(sorted, [2, 1], [1, 2]), (functools.partial(pow, 2), 3, 8), (Tools.times, 2, 6)],
    ids=["builtin", "partial", "class method"],
)
def test_any_callable_can_be_a_task(function: Any, argument: Any, result: Any) -> None:
    assert ray.get(ray.remote(function).remote(argument)) == result


@pytest.mark.parametrize("target", [1, "text", None], ids=repr)
def test_what_is_not_callable_cannot_be_remote(target: object) -> None:
    with pytest.raises((AssertionError, TypeError)):
        ray.remote(target)


def test_a_function_that_is_defined_again() -> None:
    results = []
    for version in (1, 2):

        @ray.remote
        def f(version: int = version) -> int:
            return version

        results.append(ray.get(f.remote()))
    assert results == [1, 2]


def test_a_recursive_task() -> None:
    @ray.remote
    def factorial(n: int) -> int:
        return n * ray.get(factorial.remote(n - 1)) if n > 1 else 1

    assert ray.get(factorial.remote(5)) == 120


def test_a_remote_function_as_an_argument() -> None:
    @ray.remote
    def call(function: Any) -> Any:
        return ray.get(function.remote("passed"))

    assert ray.get(call.remote(echo)) == "passed"


def test_a_task_may_return_references() -> None:
    @ray.remote
    def make() -> Any:
        return [ray.put(1), echo.remote(2)]

    assert ray.get(ray.get(make.remote())) == [1, 2]


def test_direct_calls_are_refused() -> None:
    with pytest.raises(TypeError, match=r"\.remote\(\)"):
        echo(1)


@pytest.mark.differs("names-and-docstrings-are-kept")
def test_attributes_of_the_function_are_kept() -> None:
    @ray.remote
    def documented() -> None:
        """What it does."""

    assert documented.__name__ == "documented"
    assert documented.__doc__ == "What it does."


# ---- results ----


def test_several_results() -> None:
    @ray.remote(num_returns=3)
    def three() -> Any:
        return 1, 2, 3

    refs = three.remote()
    assert isinstance(refs, list)
    assert ray.get(refs) == [1, 2, 3]
    assert ray.get(three.options(num_returns=1).remote()) == (1, 2, 3)


def test_no_result() -> None:
    @ray.remote(num_returns=0)
    def nothing() -> None: ...

    assert nothing.remote() is None


def test_a_wrong_number_of_results_is_an_error() -> None:
    @ray.remote(num_returns=2)
    def three() -> Any:
        return 1, 2, 3

    for ref in three.remote():
        with pytest.raises(ValueError):
            ray.get(ref)


def test_an_error_is_in_every_result() -> None:
    refs = fail.options(num_returns=2).remote("both")
    for ref in refs:
        with pytest.raises(ValueError, match="both"):
            ray.get(ref)


def test_a_result_that_cannot_be_pickled_is_an_error() -> None:
    @ray.remote
    def lock() -> Any:
        import threading

        return threading.Lock()

    with pytest.raises(TypeError):
        ray.get(lock.remote())


# ---- errors and retries ----


def test_an_error_is_of_the_users_type_too() -> None:
    with pytest.raises(ray.exceptions.RayTaskError) as caught:
        ray.get(fail.remote("typed"))
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value.cause, ValueError)
    assert caught.value.cause.args == ("typed",)
    assert "in fail" in str(caught.value)


class FieldsError(Exception):
    def __init__(self, code: int, hint: str) -> None:
        super().__init__(code, hint)
        self.code = code
        self.hint = hint


def test_fields_of_an_error_are_there() -> None:
    @ray.remote
    def f() -> None:
        raise FieldsError(7, "seven")

    with pytest.raises(FieldsError) as caught:
        ray.get(f.remote())
    assert (caught.value.code, caught.value.hint) == (7, "seven")


def test_errors_of_nested_tasks() -> None:
    @ray.remote
    def outer() -> None:
        ray.get(fail.remote("inner"))

    with pytest.raises(ValueError, match="inner"):
        ray.get(outer.remote())


def attempts(folder: Path) -> int:
    """Count this attempt, and all before."""
    (folder / f"attempt-{os.urandom(8).hex()}").touch()
    return len(list(folder.iterdir()))


def test_exceptions_are_not_retried_unless_asked_for(tmp_path: Path) -> None:
    @ray.remote
    def f() -> None:
        raise ValueError(attempts(tmp_path))

    with pytest.raises(ValueError, match="1"):
        ray.get(f.remote())
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("retry", [True, [KeyError, ValueError]], ids=["all", "listed"])
def test_exceptions_that_are_retried(tmp_path: Path, retry: Any) -> None:
    @ray.remote(max_retries=2, retry_exceptions=retry)
    def f() -> int:
        if (count := attempts(tmp_path)) < 3:
            raise ValueError(count)
        return count

    assert ray.get(f.remote()) == 3


def test_exceptions_that_are_not_listed_are_not_retried(tmp_path: Path) -> None:
    @ray.remote(max_retries=2, retry_exceptions=[KeyError])
    def f() -> None:
        raise ValueError(attempts(tmp_path))

    with pytest.raises(ValueError):
        ray.get(f.remote())
    assert len(list(tmp_path.iterdir())) == 1


def test_a_task_whose_worker_dies_is_run_again(tmp_path: Path) -> None:
    @ray.remote(max_retries=1)
    def f() -> int:
        if attempts(tmp_path) < 2:
            os._exit(1)
        return len(list(tmp_path.iterdir()))

    assert ray.get(f.remote()) == 2


def test_a_task_whose_worker_dies_without_retries_left() -> None:
    @ray.remote(max_retries=0)
    def f() -> None:
        os._exit(1)

    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(f.remote())


def test_max_calls_ends_the_worker() -> None:
    @ray.remote(max_calls=1)
    def pid() -> int:
        return os.getpid()

    assert len({ray.get(pid.remote()) for _ in range(3)}) == 3


# ---- generators ----


@ray.remote(num_cpus=0)
def count(n: int, error_at: int = -1) -> Iterator[int]:
    for index in range(n):
        if index == error_at:
            raise KeyError(index)
        yield index


def test_a_generator_streams() -> None:
    generator = count.remote(3)
    assert isinstance(generator, ray.ObjectRefGenerator)
    refs = list(generator)
    assert all(isinstance(ref, ray.ObjectRef) for ref in refs)
    assert ray.get(refs) == [0, 1, 2]
    with pytest.raises(StopIteration):
        next(generator)


def test_an_empty_generator() -> None:
    assert list(count.remote(0)) == []


def test_items_come_before_the_generator_ends() -> None:
    gate = Gate.remote()

    @ray.remote
    def two() -> Iterator[str]:
        yield "first"
        ray.get(gate.wait.remote())
        yield "second"

    generator = two.remote()
    assert ray.get(next(generator)) == "first"
    assert not generator.is_finished()
    gate.open.remote()
    assert ray.get(next(generator)) == "second"


def test_an_error_is_the_last_item_of_a_generator() -> None:
    refs = list(count.remote(3, error_at=1))
    assert ray.get(refs[0]) == 0
    with pytest.raises(KeyError):
        ray.get(refs[1])
    assert len(refs) == 2


def test_async_iteration_over_a_generator() -> None:
    async def main() -> list[int]:
        return [await ref async for ref in count.remote(3)]

    assert asyncio.run(main()) == [0, 1, 2]


def test_an_async_generator_of_an_actor() -> None:
    @ray.remote
    class Streams:
        async def count(self, n: int) -> AsyncIterator[int]:
            for index in range(n):
                yield index

    streams = Streams.remote()
    assert [ray.get(ref) for ref in streams.count.remote(3)] == [0, 1, 2]


def test_a_generator_can_be_waited_for() -> None:
    gate = Gate.remote()

    @ray.remote(num_cpus=0)
    def one() -> Iterator[Any]:
        yield ray.get(gate.wait.remote("item"))

    slow, fast = one.remote(), count.remote(1)
    assert ray.wait([slow, fast], timeout=DEADLINE_S) == ([fast], [slow])
    gate.open.remote()
    assert ray.get(next(slow)) == "item"


def test_completed_is_the_task_as_a_whole() -> None:
    generator = count.remote(2)
    ray.get(generator.completed(), timeout=DEADLINE_S)
    assert ray.get(list(generator)) == [0, 1]
    assert generator.is_finished()


@pytest.mark.differs("completed-has-the-error")
def test_completed_raises_the_error_of_the_generator() -> None:
    generator = count.remote(2, error_at=1)
    with pytest.raises(KeyError):
        ray.get(generator.completed(), timeout=DEADLINE_S)


def test_backpressure(tmp_path: Path) -> None:
    @ray.remote(num_cpus=0, _generator_backpressure_num_objects=1)
    def lazy() -> Iterator[int]:
        for index in range(3):
            (tmp_path / str(index)).touch()
            yield index

    generator = lazy.remote()
    assert ray.get(next(generator)) == 0
    assert not (tmp_path / "2").exists()
    assert ray.get(list(generator)) == [1, 2]


def test_dynamic_returns() -> None:
    ref = count.options(num_returns="dynamic").remote(3)
    assert isinstance(ref, ray.ObjectRef)
    refs = ray.get(ref)
    assert ray.get(list(refs)) == [0, 1, 2]


def test_a_fixed_number_of_results_from_a_generator() -> None:
    assert ray.get(count.options(num_returns=2).remote(2)) == [0, 1]


def test_a_generator_is_no_value() -> None:
    generator = count.remote(1)
    assert ray.get(generator) is generator
    with pytest.raises(TypeError):
        ray.get([generator])
    with pytest.raises(TypeError):
        ray.put([generator])
    with pytest.raises(TypeError):
        echo.remote(generator)


@pytest.mark.differs("backpressure-is-public")
def test_the_option_of_backpressure_has_a_public_name() -> None:
    assert ray.get(list(count.options(generator_backpressure_num_objects=1).remote(3))) == [0, 1, 2]
