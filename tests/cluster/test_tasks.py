"""Tasks on a real cluster: arguments, results, nesting, retries."""

import itertools
import os
import time
from collections.abc import Iterator
from typing import Any

import aktis
import pytest

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("tasks")

NUM_CPUS = 3


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=NUM_CPUS, resources={"special": 1}):
        yield


@aktis.remote
def add(a: int, b: int = 2) -> int:
    return a + b


def test_a_task_returns_its_result() -> None:
    assert aktis.get(add.remote(1)) == 3
    assert aktis.get(add.remote(1, b=5)) == 6
    assert aktis.get([add.remote(n, n) for n in range(200)]) == [2 * n for n in range(200)]


def test_tasks_run_in_other_processes() -> None:
    @aktis.remote
    def pid() -> int:
        return os.getpid()

    assert aktis.get(pid.remote()) != os.getpid()


TREE_DEPTH = int(os.environ.get("AKTIS_TEST_TREE_DEPTH", "16"))
"""16: 3 193 tasks, of which 1 596 wait for others; 20: 21 891 and 10 945, too many for every run."""


@pytest.mark.timeout(60 if TREE_DEPTH <= 16 else 600)
def test_a_tree_of_tasks_runs_depth_first_on_few_workers() -> None:
    @aktis.remote
    def fibonacci(n: int) -> tuple[int, set[int]]:
        if n < 2:
            return n, set()
        left, right = aktis.get([fibonacci.remote(n - 1), fibonacci.remote(n - 2)])
        return left[0] + right[0], left[1] | right[1] | {os.getpid()}

    value, blocked_workers = aktis.get(fibonacci.remote(TREE_DEPTH))
    assert value == round(((1 + 5**0.5) / 2) ** TREE_DEPTH / 5**0.5)
    # A path of the tree for each CPU, and as many again for what comes and goes meanwhile. Breadth first
    # nearly every task that waits would need a process of its own.
    assert len(blocked_workers) <= 2 * NUM_CPUS * TREE_DEPTH


def test_top_level_references_are_resolved_and_nested_ones_are_not() -> None:
    @aktis.remote
    def look(direct: Any, nested: list[Any], *, named: Any) -> tuple[Any, bool, Any]:
        return direct, isinstance(nested[0], aktis.ObjectRef), named

    ref = aktis.put(7)
    assert aktis.get(look.remote(ref, [ref], named=ref)) == (7, True, 7)


def test_tasks_depend_on_tasks() -> None:
    total = add.remote(0, 0)
    for n in range(20):
        total = add.remote(total, n)
    assert aktis.get(total) == sum(range(20))


def test_several_returns_and_none() -> None:
    @aktis.remote(num_returns=3)
    def three() -> tuple[int, int, int]:
        return 1, 2, 3

    @aktis.remote(num_returns=0)
    def none() -> None: ...

    assert aktis.get(three.remote()) == [1, 2, 3]
    assert none.remote() is None
    assert aktis.get(add.options(num_returns=1).remote(1)) == 3


def test_a_wrong_number_of_returns_is_an_error() -> None:
    @aktis.remote(num_returns=3)
    def two() -> tuple[int, int]:
        return 1, 2

    with pytest.raises(ValueError, match=r"must return 3 values \(num_returns\), got 2"):
        aktis.get(two.remote()[0])


def test_tasks_submit_tasks() -> None:
    @aktis.remote
    def fib(n: int) -> int:
        return n if n < 2 else sum(aktis.get([fib.remote(n - 1), fib.remote(n - 2)]))

    assert aktis.get(fib.remote(7)) == 13


def test_a_reference_can_be_returned() -> None:
    @aktis.remote
    def make() -> list[aktis.ObjectRef[int]]:
        return [aktis.put(5), add.remote(1, 1)]

    assert aktis.get(aktis.get(make.remote())) == [5, 2]


def test_closures_lambdas_and_static_methods() -> None:
    factor = 3

    class Box:
        @staticmethod
        def double(x: int) -> int:
            return 2 * x

        @classmethod
        def name(cls) -> str:
            return cls.__name__

    assert aktis.get(aktis.remote(lambda x: x * factor).remote(2)) == 6
    assert aktis.get(aktis.remote(Box.double).remote(4)) == 8
    assert aktis.get(aktis.remote(Box.name).remote()) == "Box"


def test_a_function_defined_anew_is_another_function() -> None:
    def make(answer: int) -> Any:
        @aktis.remote
        def same_name() -> int:
            return answer

        return same_name

    assert [aktis.get(make(n).remote()) for n in (1, 2)] == [1, 2]


def test_large_arguments_and_results() -> None:
    @aktis.remote
    def double(data: bytes) -> bytes:
        return data + data

    assert aktis.get(double.remote(b"x" * 2_000_000)) == b"x" * 4_000_000


def test_a_worker_death_is_retried(tmp_path: Any) -> None:
    @aktis.remote(max_retries=2)
    def die_twice(folder: str) -> int:
        runs = len(os.listdir(folder))
        open(os.path.join(folder, str(runs)), "w").close()
        if runs < 2:
            os._exit(1)
        return runs

    assert aktis.get(die_twice.remote(str(tmp_path))) == 2


def test_application_errors_are_retried_only_when_asked(tmp_path: Any) -> None:
    def fail_once(folder: str) -> int:
        runs = len(os.listdir(folder))
        open(os.path.join(folder, str(runs)), "w").close()
        if runs == 0:
            raise KeyError("first")
        return runs

    for name in ("a", "b", "c", "d"):
        (tmp_path / name).mkdir()
    task = aktis.remote(fail_once)
    with pytest.raises(KeyError):
        aktis.get(task.remote(str(tmp_path / "a")))
    assert aktis.get(task.options(retry_exceptions=True).remote(str(tmp_path / "b"))) == 1
    assert aktis.get(task.options(retry_exceptions=[LookupError]).remote(str(tmp_path / "c"))) == 1
    with pytest.raises(KeyError):
        aktis.get(task.options(retry_exceptions=[OSError]).remote(str(tmp_path / "d")))


def test_environment_variables_of_a_task() -> None:
    @aktis.remote(runtime_env={"env_vars": {"AKTIS_TEST_VALUE": "7"}})
    def read() -> str | None:
        return os.environ.get("AKTIS_TEST_VALUE")

    @aktis.remote
    def plain() -> str | None:
        return os.environ.get("AKTIS_TEST_VALUE")

    assert aktis.get(read.remote()) == "7"
    assert aktis.get([plain.remote() for _ in range(4)]) == [None] * 4


def test_custom_resources_are_held_one_at_a_time() -> None:
    @aktis.remote(resources={"special": 1}, num_cpus=0)
    def span() -> tuple[float, float]:
        begin = time.monotonic()
        end = begin
        while end - begin < 0.05:
            end = time.monotonic()
        return begin, end

    spans = sorted(aktis.get([span.remote() for _ in range(3)]))
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(spans))


def test_blocked_tasks_lend_their_cpu() -> None:
    @aktis.remote
    def leaf() -> int:
        return 1

    @aktis.remote
    def tree(depth: int) -> int:
        if depth == 0:
            return aktis.get(leaf.remote())
        return sum(aktis.get([tree.remote(depth - 1) for _ in range(2)]))

    assert aktis.get(tree.remote(3)) == 8  # 15 tasks wait at once on 3 CPUs


def test_runtime_context_of_a_task() -> None:
    @aktis.remote(name="named")
    def who() -> dict[str, Any]:
        context = aktis.get_runtime_context()
        return {
            "task": context.get_task_id(),
            "name": context.get_task_name(),
            "job": context.get_job_id(),
            "actor": context.get_actor_id(),
            "cpus": context.get_assigned_resources().get("CPU"),
        }

    ref = who.remote()
    context = aktis.get_runtime_context()
    assert aktis.get(ref) == {
        "task": ref.task_id().hex(),
        "name": "named",
        "job": context.get_job_id(),
        "actor": None,
        "cpus": 1.0,
    }
    assert context.get_task_id() is None
