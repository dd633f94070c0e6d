"""The small tools: completion, serializers, inspection, named actors."""

import io
import threading
from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import aktis
import pytest
from aktis.util import (
    as_completed,
    debug,
    deregister_serializer,
    get_node_ip_address,
    inspect_serializability,
    list_named_actors,
    map_unordered,
    register_serializer,
)

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("util")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2, namespace="tests"):
        yield


@aktis.remote(num_cpus=0)
class Gate:
    def __init__(self) -> None:
        self.opened = __import__("asyncio").Event()

    async def open(self) -> None:
        self.opened.set()

    async def wait(self, value: Any) -> Any:
        await self.opened.wait()
        return value

    async def echo(self, value: Any) -> Any:
        return value


@aktis.remote
def square(value: int) -> int:
    return value * value


@aktis.remote
def fail() -> None:
    raise KeyError("gone")


def test_what_is_ready_first_comes_first_and_at_once() -> None:
    gate = Gate.remote()
    slow = [gate.wait.remote("slow") for _ in range(3)]
    results = as_completed([*slow, gate.echo.remote("fast")])
    assert next(results) == "fast"
    aktis.get(gate.open.remote())
    assert list(results) == ["slow"] * 3


def test_references_instead_of_values() -> None:
    refs = [square.remote(n) for n in range(3)]
    assert set(as_completed(refs, yield_obj_refs=True)) == set(refs)
    assert list(as_completed([])) == []


def test_as_completed_raises_what_a_task_raised() -> None:
    with pytest.raises(KeyError):
        list(as_completed([fail.remote()]))


@pytest.mark.parametrize("kwargs", [{"chunk_size": 0}, {"num_returns": 2}])
def test_bad_arguments_are_refused_before_the_first_result(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="chunk_size"):
        as_completed([], **kwargs)
    with pytest.raises(ValueError, match="chunk_size"):
        map_unordered(square, [], **kwargs)
    with pytest.raises(ValueError, match="backpressure_size"):
        map_unordered(square, [], backpressure_size=0)


@pytest.mark.parametrize("limit", [1, 7, None])
def test_map_unordered_returns_every_result(limit: int | None) -> None:
    results = map_unordered(square, range(25), backpressure_size=limit, chunk_size=3)
    assert sorted(results) == [n * n for n in range(25)]


def test_map_unordered_takes_no_more_items_than_are_under_way() -> None:
    taken = count()
    results = map_unordered(square, iter(taken.__next__, -1), backpressure_size=4)
    assert len(list(islice(results, 10))) == 10
    assert next(taken) <= 10 + 2 * 4


def test_map_unordered_takes_methods_of_actors() -> None:
    gate = Gate.remote()
    assert sorted(map_unordered(gate.echo, "abc")) == ["a", "b", "c"]


class Guarded:
    def __init__(self, value: int) -> None:
        self.value = value
        self.lock = threading.Lock()


class Special(Guarded):
    pass


@aktis.remote
def value_of(guarded: Any) -> int:
    return int(guarded.value)


def test_a_registered_serializer_is_used_until_it_is_taken_back() -> None:
    with pytest.raises(TypeError):
        aktis.put(Guarded(1))
    register_serializer(Guarded, serializer=lambda it: it.value, deserializer=lambda v: Guarded(v * 10))
    try:
        assert aktis.get(aktis.put(Guarded(1))).value == 10
        assert aktis.get(value_of.remote(Guarded(2))) == 20
        assert aktis.get(aktis.put({"nested": [Guarded(3)]}))["nested"][0].value == 30
        with pytest.raises(TypeError):
            aktis.put(Special(1))
    finally:
        deregister_serializer(Guarded)
    deregister_serializer(Guarded)
    with pytest.raises(TypeError):
        aktis.put(Guarded(1))


def test_serializers_must_be_callable() -> None:
    with pytest.raises(TypeError, match="serializer must be callable"):
        register_serializer(Guarded, serializer=3, deserializer=Guarded)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a class"):
        register_serializer(3, serializer=str, deserializer=str)  # type: ignore[arg-type]


def test_inspection_finds_every_member_at_fault() -> None:
    lock = threading.Lock()

    def closes_over() -> Any:
        return lock

    guarded = Guarded(1)
    value = {"fine": 1, "list": [lock], "function": closes_over, "guarded": guarded}
    report = io.StringIO()
    serializable, failures = inspect_serializability(value, name="value", print_file=report)
    assert not serializable
    assert {id(failure.obj) for failure in failures} == {id(lock), id(guarded.lock)}
    assert ("value", "['guarded']", ".lock") in {failure.path for failure in failures}
    assert {failure.parent for failure in failures if failure.name == ".lock"} == {guarded}
    assert "is at fault" in report.getvalue()


def test_inspection_stops_at_its_depth() -> None:
    deep = [[[[threading.Lock()]]]]
    (failure,) = inspect_serializability(deep, depth=1, print_file=io.StringIO())[1]
    assert failure.obj is deep[0]


def test_inspection_of_what_is_fine() -> None:
    report = io.StringIO()
    assert inspect_serializability(4, print_file=report) == (True, set())
    assert report.getvalue() == "int can be serialized\n"


def test_named_actors_by_namespace() -> None:
    ours = Gate.options(name="ours").remote()
    theirs = Gate.options(name="theirs", namespace="another").remote()
    unnamed = Gate.remote()
    aktis.get([actor.echo.remote(1) for actor in (ours, theirs, unnamed)])
    assert list_named_actors() == ["ours"]
    assert list_named_actors(all_namespaces=True) == [
        {"name": "theirs", "namespace": "another"},
        {"name": "ours", "namespace": "tests"},
    ]
    aktis.kill(ours)
    assert list_named_actors() == []


def test_the_address_of_the_node_is_that_of_the_cluster() -> None:
    assert get_node_ip_address() == aktis.nodes()[0]["NodeManagerAddress"]


def test_log_once_can_be_silenced_and_made_periodic(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_last_logged_s", {}), ("_disabled", False), ("_periodic", False)):
        monkeypatch.setattr(debug, name, value)
    now_s = 1000.0
    monkeypatch.setattr(debug.time, "monotonic", lambda: now_s)
    assert [debug.log_once("a"), debug.log_once("a"), debug.log_once("b")] == [True, False, True]
    debug.disable_log_once_globally()
    assert not debug.log_once("c")
    debug.enable_periodic_logging()
    assert debug.log_once("c")
    assert not debug.log_once("c")
    now_s += 61
    assert debug.log_once("c")
