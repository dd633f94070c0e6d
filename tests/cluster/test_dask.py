"""Dask's graphs on the cluster."""

import io
from collections.abc import Iterator
from operator import add
from typing import Any

import aktis
import dask
import pytest
from dask.callbacks import Callback
from dask.diagnostics import ProgressBar

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("dask")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


@pytest.fixture(params=["aktis_dask_get", "ray_dask_get"])
def get(request: pytest.FixtureRequest) -> Any:
    import aktis.util.dask

    return getattr(aktis.util.dask, request.param)


def test_a_graph_is_computed_and_the_result_has_the_shape_of_the_keys(get: Any) -> None:
    graph = {"a": 1, "b": (add, "a", 10), ("c", 0): (sum, ["a", "b", "b"]), "d": "b"}
    assert get(graph, "b") == 11
    assert get(graph, [["a", ("c", 0)], ["d"], []]) == [[1, 23], [11], []]


def test_nodes_run_in_workers_as_tasks_with_options(get: Any) -> None:
    def resources(_: object) -> dict[str, float]:
        return aktis.get_runtime_context().get_assigned_resources()

    assert get({"x": (resources, 0)}, "x", remote_args={"num_cpus": 0.5}) == {"CPU": 0.5}
    assert get({"x": (resources, 0)}, "x", ray_remote_args={"num_cpus": 2}) == {"CPU": 2}
    with pytest.raises(TypeError, match="two names"):
        get({"x": (resources, 0)}, "x", remote_args={"num_cpus": 1}, ray_remote_args={"num_cpus": 2})


def test_an_error_keeps_its_type(get: Any) -> None:
    def fail(value: int) -> None:
        raise KeyError(value)

    with pytest.raises(KeyError):
        get({"a": (fail, 1), "b": (add, "a", 1)}, "b")


def test_collections_use_it_while_it_is_enabled() -> None:
    from aktis.util.dask import disable_dask_on_aktis, enable_dask_on_aktis

    @dask.delayed  # type: ignore[untyped-decorator]
    def worker_id(value: int) -> str:
        return aktis.get_runtime_context().get_worker_id()

    own = aktis.get_runtime_context().get_worker_id()
    with enable_dask_on_aktis():
        assert worker_id(1).compute() != own
        total = dask.delayed(sum)([dask.delayed(add)(n, 1) for n in range(20)])
        assert total.compute() == 210
    assert worker_id(1).compute(scheduler="sync") == own
    enable_dask_on_aktis()
    assert worker_id(1).compute() != own
    disable_dask_on_aktis()
    assert dask.config.get("scheduler") is None


def test_callbacks_hear_of_every_node(get: Any) -> None:
    heard: list[Any] = []

    def posttask(key: Any, value: Any, dsk: Any, state: Any, worker_id: str) -> None:
        heard.append((key, value, sorted(state["finished"]), worker_id != own))

    own = aktis.get_runtime_context().get_worker_id()
    callback = Callback(
        start=lambda dsk: heard.append(sorted(dsk)),
        start_state=lambda dsk, state: heard.append(sorted(state["waiting"])),
        pretask=lambda key, dsk, state: heard.append((key, sorted(state["running"]))),
        posttask=posttask,
        finish=lambda dsk, state, failed: heard.append((failed, len(state["running"]))),
    )
    with callback:
        assert get({"a": 1, "b": (add, "a", 10), "c": (add, "b", 1), "d": "c"}, ["d"]) == [12]
    assert heard[:4] == [["a", "b", "c", "d"], ["b", "c"], ("b", ["b"]), ("c", ["b", "c"])]
    assert heard[4:] == [("b", 11, ["b"], True), ("c", 12, ["b", "c"], True), (False, 0)]
    assert get({"b": (add, 1, 10)}, "b") == 11
    assert len(heard) == 7


def test_callbacks_hear_that_a_graph_failed(get: Any) -> None:
    failures: list[tuple[bool, list[str]]] = []

    def fail(value: int) -> None:
        raise KeyError(value)

    callback = Callback(
        finish=lambda dsk, state, failed: failures.append((failed, sorted(state["finished"])))
    )
    with callback, pytest.raises(KeyError):
        get({"a": (add, 1, 1), "b": (fail, "a"), "c": (add, "b", 1)}, "c")
    assert failures == [(True, ["a"])]


def test_a_progress_bar_ends_when_all_has_ended(get: Any) -> None:
    out = io.StringIO()
    with ProgressBar(out=out):
        assert get({"a": (add, 1, 1), "b": (add, "a", 1)}, "b") == 3
    assert "100% Completed" in out.getvalue()


def test_a_callback_may_have_values_already(get: Any) -> None:
    with Callback(start=lambda dsk: dsk.update(a=5)):
        assert get(graph := {"a": (add, 1, 1), "b": (add, "a", 1)}, "b") == 6
    assert graph["a"] == (add, 1, 1)
