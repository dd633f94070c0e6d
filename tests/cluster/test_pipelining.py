"""Tasks that are queued on a worker behind others: given back, lost, cancelled, stolen."""

import os
import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest
from aktis._runtime import current
from aktis.exceptions import TaskCancelledError, WorkerCrashedError

from tests.support.clients import embedded
from tests.support.gates import Gate

pytestmark = pytest.mark.xdist_group("pipelining")
TIMEOUT_S = 30.0
CPUS = 2


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=CPUS):
        yield


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with Gate(tmp_path) as gate:
        yield gate


class Log:
    """Who ran how often: each execution is a line."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log"
        self.path.touch()

    def write(self, name: object) -> None:
        with open(self.path, "a", buffering=1) as file:
            file.write(f"{name} {os.getpid()}\n")

    def runs(self) -> Counter[str]:
        return Counter(line.split()[0] for line in self.path.read_text().splitlines())

    def pids(self) -> dict[str, int]:
        return {name: int(pid) for name, pid in (line.split() for line in self.path.read_text().splitlines())}


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def step(log: Log | None, name: object, gate: Gate | None = None, end: str = "") -> object:
    """Say that it runs, wait at the gate, perhaps end the process, or get what a file refers to."""
    if log is None:
        return name
    log.write(name)
    if gate is not None:
        gate.enter()
    if end == "exit":
        os._exit(1)
    if end:
        return aktis.get(pickle.loads(Path(end).read_bytes()))
    return name


def make_task(num_cpus: int, **options: Any) -> Any:
    return aktis.remote(step).options(num_cpus=num_cpus, **options)


def learn_that_it_is_short(task: Any) -> None:
    """Let Aktis see that many runs of the task fit behind one another."""
    aktis.get([task.remote(None, "short") for _ in range(300)], timeout=TIMEOUT_S)


def worker_of(ref: Any) -> bytes | None:
    holders = current.require().core.workers_of(ref.task_id().binary())
    return holders[0][0] if holders else None


def behind(
    task: Any, log: Log, gate: Gate, names: list[str], ends: dict[str, str] | None = None
) -> list[Any]:
    """Tasks on one worker: the first waits at the gate, the others are queued behind it."""
    for _ in range(20):
        learn_that_it_is_short(task)
        refs = [task.remote(log, "first", gate)]
        refs += [task.remote(log, name, None, (ends or {}).get(name, "")) for name in names]
        gate.wait_entered()
        if len({worker_of(ref) for ref in refs}) == 1:
            return refs
        # The machine was so busy that a run looked long, and less than all of them fit. Once more, from
        # nothing: some may run before they hear that they are cancelled.
        for ref in refs[1:]:
            aktis.cancel(ref)
        gate.open()
        aktis.wait(refs, num_returns=len(refs), timeout=TIMEOUT_S)
        log.path.write_text("")
    raise AssertionError("they are not queued on one worker")


def test_a_task_may_wait_for_one_that_is_queued_behind_it(gate: Gate, log: Log, tmp_path: Path) -> None:
    task = make_task(CPUS)
    path = tmp_path / "reference"
    first, waits, behind_it = behind(task, log, gate, ["waits", "behind"], {"waits": str(path)})
    path.write_bytes(pickle.dumps(behind_it))
    gate.open()
    assert aktis.get([first, waits, behind_it], timeout=TIMEOUT_S) == ["first", "behind", "behind"]
    runs = log.runs()
    assert (runs["waits"], runs["behind"]) == (1, 1)


def test_a_worker_that_dies_with_ten_tasks_takes_one_along(gate: Gate, log: Log) -> None:
    task = make_task(CPUS, max_retries=0)
    names = [f"t{number}" for number in range(10)]
    first, *refs = behind(task, log, gate, names, {"t3": "exit"})
    gate.open()
    with pytest.raises(WorkerCrashedError):
        aktis.get(refs[3], timeout=TIMEOUT_S)
    others = [first, *refs[:3], *refs[4:]]
    assert aktis.get(others, timeout=TIMEOUT_S) == ["first", *names[:3], *names[4:]]
    runs, pids = log.runs(), log.pids()
    assert {name: runs[name] for name in names} == dict.fromkeys(names, 1)
    assert {pids[name] for name in names[:4]} == {pids["first"]}
    assert pids["first"] not in {pids[name] for name in names[4:]}


def test_what_is_queued_behind_a_task_is_cancelled_at_once(gate: Gate, log: Log) -> None:
    task = make_task(CPUS)
    first, *refs = behind(task, log, gate, ["a", "b", "c"])
    aktis.cancel(refs[1])
    with pytest.raises(TaskCancelledError):
        aktis.get(refs[1], timeout=TIMEOUT_S)
    assert aktis.wait([first, refs[0], refs[2]], num_returns=3, timeout=0)[0] == []
    gate.open()
    assert aktis.get([first, refs[0], refs[2]], timeout=TIMEOUT_S) == ["first", "a", "c"]
    runs = log.runs()
    assert (runs["a"], runs["b"], runs["c"]) == (1, 0, 1)


@pytest.mark.parametrize("queued", [1, 40])
def test_what_is_queued_behind_a_long_task_is_stolen(gate: Gate, log: Log, queued: int) -> None:
    task = make_task(1, max_retries=0)
    learn_that_it_is_short(task)
    names = [f"t{number}" for number in range(queued)]
    first = task.remote(log, "first", gate)
    refs = [task.remote(log, name) for name in names]
    gate.wait_entered()
    assert aktis.get(refs, timeout=TIMEOUT_S) == names
    later = [task.remote(log, "later") for _ in range(5)]  # does not queue behind it
    assert aktis.get(later, timeout=TIMEOUT_S) == ["later"] * 5
    gate.open()
    assert aktis.get(first, timeout=TIMEOUT_S) == "first"
    runs, pids = log.runs(), log.pids()
    assert {name: runs[name] for name in names} == dict.fromkeys(names, 1)
    assert pids["first"] not in {pids[name] for name in names}


def test_what_is_stolen_may_be_cancelled(gate: Gate, log: Log) -> None:
    task = make_task(1)
    learn_that_it_is_short(task)
    first = task.remote(log, "first", gate)
    refs = [task.remote(log, f"t{number}") for number in range(100)]
    for ref in refs[::2]:
        aktis.cancel(ref)
    assert aktis.get(refs[1::2], timeout=TIMEOUT_S) == [f"t{number}" for number in range(1, 100, 2)]
    for ref in refs[::2]:  # either it was over before, or it never runs
        try:
            aktis.get(ref, timeout=TIMEOUT_S)
        except TaskCancelledError:
            continue
    gate.open()
    assert aktis.get(first, timeout=TIMEOUT_S) == "first"
    runs = log.runs()
    assert all(runs[f"t{number}"] == 1 for number in range(1, 100, 2))
    assert all(runs[f"t{number}"] <= 1 for number in range(0, 100, 2))
