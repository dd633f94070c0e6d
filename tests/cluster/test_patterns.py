"""Patterns that programs are made of, each as a user would write it, in one cluster."""

import itertools
import random
import threading
from collections.abc import Iterator
from typing import Any

import aktis as ray
import numpy as np
import pytest

from tests.support.clients import embedded


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=8, num_gpus=1, resources={"fast_disk": 2}):
        yield


@ray.remote
class Model:
    """Parameters that others read and improve."""

    def __init__(self, size: int) -> None:
        self.weights = np.zeros(size)

    def read(self) -> np.ndarray:
        return self.weights

    def improve(self, gradient: np.ndarray) -> None:
        self.weights = self.weights - 0.5 * gradient


@ray.remote
def train(model: Any, target: float, rounds: int) -> None:
    for _ in range(rounds):
        weights = ray.get(model.read.remote())
        model.improve.remote(weights - target)


@ray.remote
class Doubler:
    def work(self, value: int) -> int:
        return 2 * value


@ray.remote
class Foreman:
    """Has workers of its own, and hands out references to what they are about to make."""

    def __init__(self, count: int) -> None:
        self.workers = [Doubler.options(num_cpus=0.5).remote() for _ in range(count)]

    def deal(self, items: list[int]) -> list[Any]:
        return [self.workers[n % len(self.workers)].work.remote(item) for n, item in enumerate(items)]


@ray.remote
class Directory:
    """Knows services by name."""

    def __init__(self) -> None:
        self.services: dict[str, Any] = {}

    def add(self, name: str, service: Any) -> None:
        self.services[name] = service

    def find(self, name: str) -> Any:
        return self.services.get(name)


@ray.remote
class Orders:
    """Finds the service that it needs while it serves a call."""

    def __init__(self, directory: Any) -> None:
        self.directory = directory

    def price(self, count: int) -> int:
        doubler = ray.get(self.directory.find.remote("doubler"))
        price: int = ray.get(doubler.work.remote(count))
        return price


def test_a_parameter_server_is_improved_by_workers() -> None:
    model = Model.remote(4)
    ray.get([train.remote(model, 3.0, rounds=20) for _ in range(3)])
    assert np.allclose(ray.get(model.read.remote()), 3.0)


def test_a_tree_of_tasks_grows_as_it_runs() -> None:
    @ray.remote
    def leaves(depth: int) -> int:
        if depth == 0:
            return 1
        left, right = leaves.remote(depth - 1), leaves.remote(depth - 1)
        return ray.get(left) + ray.get(right)

    assert ray.get(leaves.remote(6)) == 64


def test_stages_of_a_pipeline_are_chained_by_references() -> None:
    extract = ray.remote(lambda source: list(range(source)))
    transform = ray.remote(lambda rows: [row * row for row in rows])
    load = ray.remote(lambda rows: sum(rows))
    extracted = [extract.remote(n) for n in range(1, 6)]
    loaded = [load.remote(transform.remote(rows)) for rows in extracted]
    del extracted  # intermediate results go when nobody needs them
    assert ray.get(loaded) == [sum(row * row for row in range(n)) for n in range(1, 6)]


def test_one_large_value_is_read_in_place_by_all_tasks() -> None:
    data = ray.put(np.ones(500_000))
    slices = ray.remote(lambda array, begin: float(array[begin : begin + 50_000].sum()))
    assert ray.get([slices.remote(data, n * 50_000) for n in range(10)]) == [50_000.0] * 10


def test_many_small_tasks_and_few_large_ones_give_the_same() -> None:
    small = ray.remote(lambda value: value + 1)
    batch = ray.remote(lambda values: [value + 1 for value in values])
    one_by_one = ray.get([small.remote(n) for n in range(1000)])
    batches = ray.get([batch.remote(range(n, n + 100)) for n in range(0, 1000, 100)])
    assert one_by_one == [value for values in batches for value in values]


def test_a_foreman_hands_out_results_that_are_not_there_yet() -> None:
    foreman = Foreman.remote(3)
    refs = ray.get(foreman.deal.remote(list(range(10))))
    assert ray.get(refs) == [2 * n for n in range(10)]


def test_services_find_one_another_through_an_actor() -> None:
    directory, doubler = Directory.remote(), Doubler.remote()
    directory.add.remote("doubler", doubler)
    orders = Orders.remote(directory)
    assert ray.get(orders.price.remote(21)) == 42


def test_an_actor_runs_a_simulation_of_tasks_step_by_step() -> None:
    @ray.remote
    def moved(points: list[float], step: float) -> list[float]:
        return [point + step for point in points]

    @ray.remote
    class Simulation:
        def __init__(self, points: list[float], parts: int) -> None:
            self.points, self.parts = points, parts

        def step(self, step: float) -> list[float]:
            chunks = [self.points[n :: self.parts] for n in range(self.parts)]
            chunks = ray.get([moved.remote(chunk, step) for chunk in chunks])
            self.points = sorted(itertools.chain.from_iterable(chunks))
            return self.points

    simulation = Simulation.remote([0.0, 1.0, 2.0, 3.0], parts=2)
    steps = [simulation.step.remote(0.5) for _ in range(4)]
    assert ray.get(steps[-1]) == [2.0, 3.0, 4.0, 5.0]


def test_a_flaky_task_is_retried_until_it_succeeds() -> None:
    @ray.remote
    class Luck:
        def __init__(self) -> None:
            self.failures = 2

        def draw(self) -> bool:
            self.failures -= 1
            return self.failures < 0

    @ray.remote(retry_exceptions=True, max_retries=3)
    def flaky(luck: Any) -> str:
        if not ray.get(luck.draw.remote()):
            raise OSError("no luck")
        return "success"

    assert ray.get(flaky.remote(Luck.remote())) == "success"


def test_endless_workers_share_a_list_of_work_until_they_are_cancelled() -> None:
    @ray.remote
    class Pages:
        def __init__(self, links: dict[str, list[str]]) -> None:
            self.links, self.waiting, self.seen = links, ["/"], {"/"}
            self.everything = threading.Event()

        def take(self) -> str | None:
            return self.waiting.pop() if self.waiting else None

        def visited(self, page: str) -> None:
            fresh = [link for link in self.links[page] if link not in self.seen]
            self.seen.update(fresh)
            self.waiting += fresh
            if len(self.seen) == len(self.links):
                self.everything.set()

        def all_seen(self) -> list[str]:
            assert self.everything.wait(30)
            return sorted(self.seen)

    @ray.remote
    def crawl(pages: Any) -> None:
        while True:
            if page := ray.get(pages.take.remote()):
                pages.visited.remote(page)

    links = {"/": ["/a", "/b"], "/a": ["/", "/c"], "/b": ["/c"], "/c": ["/a"]}
    pages = Pages.options(max_concurrency=2).remote(links)
    crawlers = [crawl.remote(pages) for _ in range(2)]
    assert ray.get(pages.all_seen.remote()) == sorted(links)
    for crawler in crawlers:
        ray.cancel(crawler)
    for crawler in crawlers:
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(crawler)


def test_what_a_task_needs_of_the_node_is_reserved_for_it() -> None:
    @ray.remote(num_cpus=2, num_gpus=1, memory=1 << 20, resources={"fast_disk": 1})
    def demanding() -> dict[str, float]:
        return ray.get_runtime_context().get_assigned_resources()

    held = ray.get(demanding.remote())
    assert held["CPU"] == 2
    assert held["GPU"] == 1
    assert held["fast_disk"] == 1


def test_estimates_of_independent_tasks_are_added_up() -> None:
    @ray.remote
    def hits(seed: int, samples: int) -> int:
        draw = random.Random(seed).random
        return sum(draw() ** 2 + draw() ** 2 <= 1 for _ in range(samples))

    found = sum(ray.get([hits.remote(seed, 10_000) for seed in range(8)]))
    assert abs(4 * found / 80_000 - 3.1416) < 0.05
