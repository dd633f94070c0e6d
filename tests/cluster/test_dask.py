"""Dask's graphs on the cluster."""

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import add
from typing import Any

import aktis
import dask
import dask.array as dask_array
import pytest
from aktis.util.dask import AktisDaskCallback, RayDaskCallback, enable_dask_on_aktis
from aktis.util.queue import Queue
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
    from aktis.util.dask import disable_dask_on_aktis

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


class Recorder(AktisDaskCallback):
    """Keeps what it hears of here, and hands on what it hears of in workers."""

    def __init__(self, queue: Queue[Any]) -> None:
        super().__init__()
        self.heard: list[Any] = []
        self.queue = queue

    def __reduce__(self) -> Any:
        return type(self), (self.queue,)

    def _aktis_presubmit(self, task: Any, key: Any, deps: dict[Any, Any]) -> Any:
        self.heard.append(("presubmit", key, {name: type(ref) for name, ref in deps.items()}))
        return 100 if key == "given" else None

    def _aktis_postsubmit(self, task: Any, key: Any, deps: dict[Any, Any], object_ref: Any) -> None:
        self.heard.append(("postsubmit", key, sorted(deps), type(object_ref)))

    def _aktis_pretask(self, key: Any, object_refs: Any) -> Any:
        return aktis.get_runtime_context().get_worker_id(), [aktis.get(ref) for ref in object_refs]

    def _aktis_posttask(self, key: Any, result: Any, pre_state: Any) -> None:
        self.queue.put((key, result, pre_state))

    def _aktis_postsubmit_all(self, object_refs: Any, dsk: Any) -> None:
        self.heard.append(("all", [aktis.get(ref) for ref in object_refs], sorted(dsk)))

    def _aktis_finish(self, result: Any) -> None:
        self.heard.append(("finish", result))


def test_callbacks_of_the_cluster_hear_of_tasks_here_and_in_their_workers(get: Any) -> None:
    graph = {"a": 1, "b": (add, "a", 10), "given": (add, "b", 1), "d": (add, "given", "b"), "e": "d"}
    with Recorder(Queue()) as recorder:
        assert get(graph, ["e"]) == [111]
    assert get({"x": (add, 1, 1)}, "x") == 2  # nobody hears of it
    reference = aktis.ObjectRef
    assert recorder.heard == [
        ("presubmit", "b", {"a": reference}),
        ("postsubmit", "b", ["a"], reference),
        ("presubmit", "given", {"b": reference}),
        ("presubmit", "d", {"given": reference, "b": reference}),
        ("postsubmit", "d", ["b", "given"], reference),
        ("all", [111], sorted(graph)),
        ("finish", [111]),
    ]
    first, second = (recorder.queue.get(timeout=30) for _ in range(2))
    own = aktis.get_runtime_context().get_worker_id()
    assert (first[:2], first[2][1]) == (("b", 11), [1])
    assert second[:2] == ("d", 111)
    assert sorted(second[2][1]) == [11, 100]
    assert own not in {first[2][0], second[2][0]}
    assert recorder.queue.empty()


def test_hooks_are_functions_too_under_both_names_and_with_those_of_dask(get: Any) -> None:
    heard: list[Any] = []
    callback = RayDaskCallback(
        ray_presubmit=lambda task, key, deps: 7 if key == "b" else None,
        aktis_finish=heard.append,
        posttask=lambda key, value, dsk, state, worker_id: heard.append((key, value)),
    )
    graph = {"b": (add, 1, 1), "c": (add, "b", 1)}
    callback.register()
    try:
        assert get(graph, "c") == 8
    finally:
        callback.unregister()
    assert heard == [("b", 7), ("c", 8), 8]
    assert get(graph, "c") == 3
    assert get(graph, "c", ray_callbacks=[callback]) == 8
    assert get(graph, "c", aktis_callbacks=callback) == 8
    assert heard[3:] == [8, 8]
    with pytest.raises(TypeError, match="ray_nothing"):
        RayDaskCallback(ray_nothing=print)


def test_hooks_of_computations_that_overlap_in_other_threads_stay(get: Any) -> None:
    heard: list[Any] = []
    first_runs, second_ended = threading.Event(), threading.Event()

    def presubmit(task: Any, key: Any, deps: Any) -> None:
        heard.append(key)
        if key == "first":
            assert get({"inside": (add, 1, 1)}, "inside") == 2  # nobody hears of it
            first_runs.set()
            assert second_ended.wait(30)

    def second() -> None:
        assert first_runs.wait(30)
        try:
            with AktisDaskCallback(aktis_presubmit=lambda *_: heard.append("other")):
                get({"second": (add, 1, 1)}, "second")
        finally:
            second_ended.set()

    with AktisDaskCallback(aktis_presubmit=presubmit), ThreadPoolExecutor(1) as threads:
        other = threads.submit(second)
        get({"first": (add, 1, 1)}, "first")
        other.result()
        get({"last": (add, 1, 1)}, "last")
    assert heard == ["first", "second", "other", "last"]


@pytest.fixture(params=["aktis_dask_persist", "ray_dask_persist"])
def persist(request: pytest.FixtureRequest) -> Any:
    import aktis.util.dask

    return getattr(aktis.util.dask, request.param)


def test_persisted_values_stay_in_the_cluster_and_are_computed_once(persist: Any) -> None:
    runs: Queue[int] = Queue()

    @dask.delayed  # type: ignore[untyped-decorator]
    def count(value: int) -> int:
        runs.put(value)
        return value + 1

    (kept,) = persist(count(1))
    assert [type(value) for value in dict(kept.dask).values()] == [aktis.ObjectRef]
    with enable_dask_on_aktis():
        assert kept.compute() == 2
        assert dask.delayed(add)(kept, 1).compute() == 3
    assert runs.size() == 1


def test_persisted_blocks_are_found_in_nodes_that_were_fused(persist: Any) -> None:
    array = dask_array.arange(8, chunks=2) + 1
    (kept,) = persist(array)
    assert {type(value) for value in dict(kept.dask).values()} == {aktis.ObjectRef}
    with enable_dask_on_aktis():
        assert int(((kept + 1) * 2).sum().compute()) == 88
        (again,) = persist(kept * 2)
        assert again.compute().tolist() == [2, 4, 6, 8, 10, 12, 14, 16]


def test_a_reference_in_a_node_is_its_value_there(get: Any) -> None:
    reference = aktis.put(5)
    graph = {"a": reference, "b": (add, reference, 1), "c": (sum, ["a", "b", reference])}
    assert get(graph, ["a", "b", "c"]) == [5, 6, 16]


def test_what_fails_while_it_is_persisted_fails_for_who_needs_it(persist: Any) -> None:
    @dask.delayed  # type: ignore[untyped-decorator]
    def fail(value: int) -> None:
        raise KeyError(value)

    (kept,) = persist(fail(1))
    with enable_dask_on_aktis(), pytest.raises(KeyError):
        kept.compute()
