"""Function graphs: what runs, how often, in which order, with which input."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import aktis
import pytest
from aktis.dag import ClassMethodNode, ClassNode, FunctionNode, InputNode, MultiOutputNode

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("util")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


@aktis.remote
def add(a: Any, b: Any = 0) -> Any:
    return a + b


@aktis.remote(num_returns=2)
def both(a: int) -> tuple[int, int]:
    return a, a + 1


@aktis.remote
def types_of(items: Any) -> list[str]:
    return [type(item).__name__ for item in (items.values() if isinstance(items, dict) else items)]


@aktis.remote(num_cpus=0)
class Counter:
    def __init__(self, value: int = 0) -> None:
        self.value = value

    def inc(self, by: int) -> int:
        self.value += by
        return self.value


def test_tasks_of_tasks() -> None:
    graph = add.bind(add.bind(1, 2), b=3)
    assert isinstance(graph, FunctionNode)
    assert aktis.get(graph.execute()) == 6
    assert aktis.get(graph.execute()) == 6
    assert aktis.get(add.options(name="sum").bind(1, 1).execute()) == 2


def test_a_step_that_several_need_runs_once() -> None:
    shared = add.bind(1, 1)
    first, second = MultiOutputNode([shared, shared]).execute()
    assert first == second


def test_what_is_bound_can_be_looked_at() -> None:
    inner = add.bind(1)
    node = add.options(name="x").bind(inner, b=2)
    assert node.get_args() == (inner,)
    assert node.get_kwargs() == {"b": 2}
    assert node.get_options() == {"name": "x"}


def test_results_keep_their_form() -> None:
    assert aktis.get(both.bind(1).execute()) == [1, 2]
    assert aktis.get(MultiOutputNode((add.bind(1, 1), add.bind(2, 2))).execute()) == [2, 4]
    handle = Counter.bind(3).execute()
    assert aktis.get(handle.inc.remote(1)) == 4


def test_nodes_inside_of_containers_arrive_as_references() -> None:
    step = add.bind(1)
    assert aktis.get(types_of.bind([step, (step,), 3]).execute()) == ["ObjectRef", "tuple", "int"]
    assert aktis.get(types_of.bind({"a": step}).execute()) == ["ObjectRef"]


def test_the_only_input_is_the_value_itself() -> None:
    with InputNode() as value:
        graph = add.bind(value, 1)
        inside = add.bind([value], [0])
    assert aktis.get(graph.execute(5)) == 6
    assert aktis.get(graph.execute(aktis.put(7))) == 8
    assert aktis.get(inside.execute(4)) == [4, 0]
    assert value.execute(3) == 3


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((5,), {"b": 6}), (({0: 5, "b": 6},), {})],
)
def test_parts_of_the_input_by_key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with InputNode() as inp:
        graph = add.bind(inp[0], inp["b"])
    assert aktis.get(graph.execute(*args, **kwargs)) == 11


def test_parts_of_the_input_by_position_and_attribute() -> None:
    with InputNode() as inp:
        positions, attributes = add.bind(inp[0], inp[1]), add.bind(inp.a, inp.b)
    assert aktis.get(positions.execute(1, 2)) == 3
    assert aktis.get(positions.execute([1, 2])) == 3
    assert aktis.get(attributes.execute(a=1, b=2)) == 3
    assert aktis.get(attributes.execute(SimpleNamespace(a=1, b=2))) == 3


def test_an_input_that_is_missing_is_named() -> None:
    with InputNode() as inp:
        graph = add.bind(inp.first, inp.second)
    with pytest.raises(ValueError, match=r"'second'.*\['first', 'other'\]"):
        graph.execute(first=1, other=2)


def test_every_run_has_an_actor_of_its_own() -> None:
    counter = Counter.bind(10)
    call = counter.inc.bind(1)
    assert isinstance(counter, ClassNode)
    assert isinstance(call, ClassMethodNode)
    assert [aktis.get(call.execute()) for _ in range(2)] == [11, 11]


def test_the_calls_of_one_actor_run_in_the_order_in_which_they_were_bound() -> None:
    counter = Counter.bind(10)
    counter.inc.bind(100)
    graph = add.bind(b=counter.inc.bind(1), a=counter.inc.options(name="named").bind(2))
    assert aktis.get(graph.execute()) == 111 + 113


def test_calls_of_an_actor_that_exists_go_to_it() -> None:
    call = Counter.remote(100).inc.bind(5)
    assert [aktis.get(call.execute()) for _ in range(2)] == [105, 110]


def test_a_graph_may_be_deep() -> None:
    node: Any = 0
    for _ in range(2000):
        node = add.bind(node, 1)
    assert aktis.get(node.execute()) == 2000


def test_wrong_graphs_are_refused_where_they_are_written() -> None:
    with pytest.raises(TypeError, match="add"):
        add.bind()
    with pytest.raises(TypeError, match="add"):
        add.bind(1, c=2)
    counter = Counter.bind()
    with pytest.raises(TypeError, match="inc"):
        Counter.remote().inc.bind()
    with pytest.raises(AttributeError, match="no method 'missing'"):
        counter.missing.bind()
    with pytest.raises(AttributeError, match="bind"):
        counter.inc.remote(1)
    with InputNode() as value, pytest.raises(ValueError, match="input"):
        Counter.bind(add.bind(value))
    with pytest.raises(ValueError, match="list"):
        MultiOutputNode(add.bind(1))  # type: ignore[arg-type]
