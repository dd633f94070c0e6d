"""Function graphs: bind and execute."""

from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.dag import InputNode, MultiOutputNode

from tests.conformance.systems import running_cluster


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with running_cluster():
        yield


@ray.remote(num_cpus=0)
def add(a: Any, b: Any = 0) -> Any:
    return a + b


@ray.remote(num_cpus=0)
class Counter:
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, n: int) -> int:
        self.value += n
        return self.value


def test_a_graph_of_functions() -> None:
    graph = add.bind(add.bind(1, 2), b=add.bind(3))
    assert ray.get(graph.execute()) == 6


def test_input() -> None:
    with InputNode() as given:
        graph = add.bind(given, 10)
    assert ray.get(graph.execute(1)) == 11
    assert ray.get(graph.execute(2)) == 12


def test_parts_of_the_input() -> None:
    with InputNode() as given:
        graph = add.bind(given[0], given.other)
    assert ray.get(graph.execute(1, other=5)) == 6
    with InputNode() as given:
        by_key = add.bind(given["a"], given["b"])
    assert ray.get(by_key.execute({"a": 1, "b": 2})) == 3


def test_several_outputs() -> None:
    with InputNode() as given:
        one = add.bind(given, 1)
        graph = MultiOutputNode([one, add.bind(one, 1)])
    assert ray.get(graph.execute(0)) == [1, 2]


def test_what_is_used_twice_runs_once() -> None:
    counter = Counter.bind(0)
    once = counter.add.bind(1)
    assert ray.get(add.bind(once, once).execute()) == 2


def test_actors_in_a_graph() -> None:
    counter = Counter.bind(10)
    graph = add.bind(counter.add.bind(1), 100)
    assert ray.get(graph.execute()) == 111


def test_methods_of_an_actor_that_is_there() -> None:
    counter = Counter.remote(5)
    with InputNode() as given:
        graph = counter.add.bind(given)
    assert ray.get(graph.execute(1)) == 6
    assert ray.get(graph.execute(1)) == 7


def test_options_of_a_step() -> None:
    @ray.remote(num_cpus=0)
    def own_name() -> Any:
        return ray.get_runtime_context().get_task_name()

    assert ray.get(own_name.options(name="step").bind().execute()) == "step"


def test_nested_arguments() -> None:
    @ray.remote(num_cpus=0)
    def total(parts: list[Any]) -> Any:
        return sum(ray.get([part for part in parts if isinstance(part, ray.ObjectRef)]))

    assert ray.get(total.bind([add.bind(1, 1), add.bind(2, 2)]).execute()) == 6


def test_steps_describe_themselves() -> None:
    graph = add.bind(1, b=2)
    assert graph.get_args() == (1,)
    assert graph.get_kwargs() == {"b": 2}


def test_an_error_in_a_step() -> None:
    with pytest.raises(TypeError):
        ray.get(add.bind(add.bind(1, "text"), 1).execute())
