"""Collective operations between actors, in shared memory and over TCP."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import aktis
import numpy as np
import pytest
from aktis.util import collective
from aktis.util.collective import CollectiveError, CollectiveTimeoutError, ReduceOp

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("collective")

TYPES = ("bool", "int8", "uint8", "int16", "int32", "int64", "uint64", "float16", "float32", "float64")
LARGE = 300_001  # several chunks, no whole number of them


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


@aktis.remote(num_cpus=0, max_concurrency=2)
class Member:
    """Does in its process what it is told."""

    def do(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def pid(self) -> int:
        return os.getpid()


def make(size: int, backend: str, name: str, timeout_ms: int = 30_000) -> list[Any]:
    members = [Member.remote() for _ in range(size)]
    collective.create_collective_group(members, size, list(range(size)), backend, name, timeout_ms)
    return members


def together(members: list[Any], function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What a function returns in all members at the same time."""
    return aktis.get([member.do.remote(function, *arguments) for member in members], timeout=50)


@pytest.fixture(scope="module", params=[("shm", 2), ("shm", 4), ("tcp", 3)], ids=lambda p: f"{p[0]}-{p[1]}")
def group(request: pytest.FixtureRequest, cluster: None) -> Iterator[tuple[str, list[Any]]]:
    """A group that the tests leave as they have found it: its name and members."""
    backend, size = request.param
    name = f"{backend}-{size}"
    members = make(size, backend, name)
    yield name, members
    together(members, collective.destroy_collective_group, name)


def values(rank: int, count: int, dtype: str, seed: int = 0) -> Any:
    """Small whole numbers, so that every order of adding gives the same."""
    generator = np.random.default_rng([seed, rank])
    return generator.integers(0, 2 if dtype == "bool" else 4, count).astype(dtype)


def reduced(size: int, count: int, dtype: str, op: ReduceOp) -> Any:
    functions: dict[ReduceOp, Any] = {
        ReduceOp.SUM: np.add,
        ReduceOp.PRODUCT: np.multiply,
        ReduceOp.MIN: np.minimum,
        ReduceOp.MAX: np.maximum,
    }
    result = values(0, count, dtype)
    for rank in range(1, size):
        result = functions[op](result, values(rank, count, dtype))
    return result


def test_all_have_the_reduction_of_all(group: tuple[str, list[Any]]) -> None:
    name, members = group

    def run() -> list[Any]:
        results = []
        for dtype in TYPES:
            for op in ReduceOp:
                array = values(collective.get_rank(name), 7, dtype)
                collective.allreduce(array, name, op)
                results.append(array)
        return results

    expected = [reduced(len(members), 7, dtype, op) for dtype in TYPES for op in ReduceOp]
    for results in together(members, run):
        for result, right in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result, right)
            assert result.dtype == right.dtype


def test_large_arrays_and_those_that_are_not_in_one_piece(group: tuple[str, list[Any]]) -> None:
    name, members = group

    def run() -> bool:
        rank, size = collective.get_rank(name), collective.get_collective_group_size(name)
        array = values(rank, LARGE, "float32")
        collective.allreduce(array, name)
        right = reduced(size, LARGE, "float32", ReduceOp.SUM)
        table = np.zeros((100, 7), "int64")
        table[:, ::3] = values(rank, 300, "int64").reshape(100, 3)
        collective.allreduce(table[:, ::3], name)
        columns = reduced(size, 300, "int64", ReduceOp.SUM).reshape(100, 3)
        empty = np.zeros(0)
        collective.allreduce(empty, name)
        return bool((array == right).all() and (table[:, ::3] == columns).all() and table[:, 1].sum() == 0)

    assert all(together(members, run))


def test_one_has_the_reduction_or_gives_its_array(group: tuple[str, list[Any]]) -> None:
    name, members = group

    def run() -> bool:
        rank, size = collective.get_rank(name), collective.get_collective_group_size(name)
        right = True
        for count in (3, LARGE):
            for root in range(size):
                array = values(rank, count, "int32")
                collective.reduce(array, root, name)
                mine = (
                    reduced(size, count, "int32", ReduceOp.SUM)
                    if rank == root
                    else values(rank, count, "int32")
                )
                right &= bool((array == mine).all())
                array = values(rank, count, "int32")
                array.flags.writeable = rank != root  # it is only read there
                collective.broadcast(array, root, name)
                right &= bool((array == values(root, count, "int32")).all())
        return right

    assert all(together(members, run))


def test_arrays_are_gathered_and_scattered(group: tuple[str, list[Any]]) -> None:
    name, members = group

    def run() -> bool:
        rank, size = collective.get_rank(name), collective.get_collective_group_size(name)
        right = True
        for count in (3, LARGE):
            gathered = [np.zeros(count, "uint16") for _ in range(size)]
            collective.allgather(gathered, values(rank, count, "uint16"), name)
            right &= all((one == values(r, count, "uint16")).all() for r, one in enumerate(gathered))
            mine = np.zeros(count)
            parts = [values(rank, count, "float64") + part for part in range(size)]
            collective.reducescatter(mine, parts, name)
            right &= bool((mine == reduced(size, count, "float64", ReduceOp.SUM) + size * rank).all())
        return right

    assert all(together(members, run))


def test_messages_go_between_two(group: tuple[str, list[Any]]) -> None:
    name, members = group

    def run() -> bool:
        rank, size = collective.get_rank(name), collective.get_collective_group_size(name)
        right = True
        for count in (1, LARGE):
            arrived = np.zeros(count)
            sender = threading.Thread(
                target=collective.send, args=(values(rank, count, "float64"), (rank + 1) % size, name)
            )
            sender.start()
            collective.recv(arrived, (rank - 1) % size, name)
            sender.join()
            right &= bool((arrived == values((rank - 1) % size, count, "float64")).all())
        collective.barrier(name)
        return right

    assert all(together(members, run))


def message_of(function: Callable[..., Any], *arguments: Any) -> str:
    try:
        function(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def test_members_that_call_different_things_all_learn_of_it_and_go_on(group: tuple[str, list[Any]]) -> None:
    name, members = group

    def run(message_of: Any) -> tuple[list[str], float]:
        rank = collective.get_rank(name)
        texts = [
            message_of(collective.allreduce, np.zeros(3 + (rank == 0)), name),
            message_of(collective.allreduce, np.zeros(3, "int32" if rank == 0 else "float32"), name),
            message_of(collective.broadcast, np.zeros(3), int(rank == 0), name),
        ]
        texts.append(
            message_of(collective.barrier, name)
            if rank == 0
            else message_of(collective.allreduce, np.zeros(1), name)
        )
        if rank < 2:
            send, recv = collective.send, collective.recv
            texts.append(
                message_of(send, np.zeros(5), 1, name)
                if rank == 0
                else message_of(recv, np.zeros(4), 0, name)
            )
        array = np.ones(2)
        collective.allreduce(array, name)
        return texts, float(array[0])

    answers = together(members, run, message_of)
    for rank, (texts, sum_of_ones) in enumerate(answers):
        assert sum_of_ones == len(members)
        for text in texts[:4]:
            assert text.startswith("ValueError: ")
            assert "call different things" in text
        assert "4 float64" in texts[0]
        assert "int32" in texts[1]
        assert "float32" in texts[1]
        assert "from rank 1" in texts[2]
        assert "barrier" in texts[3]
        if rank == 1:
            assert "has sent 5 float64, rank 1 receives 4 float64" in texts[4]


@pytest.mark.parametrize("backend", ["shm", "tcp"])
def test_the_death_of_a_member_ends_the_waiting_of_the_others(backend: str) -> None:
    name = f"death-{backend}"
    members = make(3, backend, name)
    pid = aktis.get(members[2].pid.remote())
    waiting = [member.do.remote(collective.barrier, name) for member in members[:2]]
    os.kill(pid, signal.SIGKILL)
    for call in waiting:
        with pytest.raises(CollectiveError, match=r"rank \d.*(died|gone|left)"):
            aktis.get(call, timeout=20)
    with pytest.raises(CollectiveError):
        aktis.get(members[0].do.remote(collective.barrier, name), timeout=20)
    again = [*members[:2], Member.remote()]
    together(members[:2], collective.destroy_collective_group, name)
    collective.create_collective_group(again, 3, [2, 1, 0], backend, name)
    assert together(again, collective.get_rank, name) == [2, 1, 0]
    together(again, collective.barrier, name)


@pytest.mark.parametrize("backend", ["shm", "tcp"])
def test_a_member_that_does_not_come_is_waited_for_until_the_timeout(backend: str) -> None:
    name = f"late-{backend}"
    members = make(2, backend, name, timeout_ms=300)
    with pytest.raises(CollectiveTimeoutError, match="waited in vain for rank 1"):
        aktis.get(members[0].do.remote(collective.barrier, name))

    def meet_twice() -> None:
        collective.barrier(name)  # over TCP the other one's greeting is here already
        collective.barrier(name)

    with pytest.raises(CollectiveError, match=r"waited in vain|died or left"):
        aktis.get(members[1].do.remote(meet_twice))


@pytest.mark.parametrize("backend", ["shm", "tcp"])
def test_who_leaves_is_missed(backend: str) -> None:
    name = f"leave-{backend}"
    members = make(2, backend, name)
    aktis.get(members[1].do.remote(collective.destroy_collective_group, name))
    with pytest.raises(CollectiveError, match=r"rank 1.*left"):
        aktis.get(members[0].do.remote(collective.barrier, name))
    assert aktis.get(members[1].do.remote(collective.get_rank, name)) == -1
    with pytest.raises(RuntimeError, match="not a member"):
        aktis.get(members[1].do.remote(collective.barrier, name))


def test_a_group_that_is_not_complete_names_who_is_missing() -> None:
    with pytest.raises(CollectiveTimeoutError, match="missing ranks: 0, 2"):
        collective.init_collective_group(3, 1, "auto", "incomplete", gloo_timeout=200)
    assert not collective.is_group_initialized("incomplete")


def test_members_must_agree_about_the_group() -> None:
    members = [Member.remote(), Member.remote()]
    calls = [
        member.do.remote(collective.init_collective_group, 2, rank, backend, "disagree")
        for rank, (member, backend) in enumerate(zip(members, ["shm", "tcp"], strict=True))
    ]
    for call in calls:
        with pytest.raises(CollectiveError, match="rank 0 shm, rank 1 tcp"):
            aktis.get(call)


def test_drivers_are_members_as_well() -> None:
    member = Member.remote()
    call = member.do.remote(collective.init_collective_group, 2, 1, "gloo", "mixed")
    collective.init_collective_group(2, 0, "gloo", "mixed")
    aktis.get(call)
    with pytest.raises(RuntimeError, match="already"):
        collective.init_collective_group(2, 0, "gloo", "mixed")
    sent = member.do.remote(collective.send, np.arange(3), 0, "mixed")
    array = np.zeros(3, dtype=np.arange(3).dtype)
    collective.recv(array, 1, "mixed")
    assert list(array) == [0, 1, 2]
    aktis.get(sent)
    collective.destroy_collective_group("mixed")
    collective.destroy_collective_group("mixed")
    assert collective.get_collective_group_size("mixed") == -1


def test_no_memory_and_no_connection_outlives_a_group() -> None:
    def descriptors() -> list[str]:
        links = []
        for name in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{name}"))
            except FileNotFoundError:  # the one by which the directory was listed
                continue
        return [link for link in links if "aktis-collective" in link]

    members = make(2, "shm", "short")
    assert [len(links) for links in together(members, descriptors)] == [1, 1]
    together(members, collective.destroy_collective_group, "short")
    assert together(members, descriptors) == [[], []]


def test_what_is_wrong_with_arguments_is_said() -> None:
    with pytest.raises(ValueError, match="GPUs"):
        collective.init_collective_group(1, 0, "nccl", "wrong")
    with pytest.raises(ValueError, match="there are auto, gloo, shm, tcp"):
        collective.init_collective_group(1, 0, "mpi", "wrong")
    with pytest.raises(ValueError, match="rank must be 0 to 1"):
        collective.init_collective_group(2, 2, "auto", "wrong")
    with pytest.raises(ValueError, match="their ranks 0 to 1"):
        collective.create_collective_group([Member.remote()], 2, [0], "auto", "wrong")
    collective.init_collective_group(1, 0, "auto", "single")
    with pytest.raises(TypeError, match="NumPy array"):
        collective.allreduce([1, 2], "single")
    with pytest.raises(TypeError, match="the type object"):
        collective.allreduce(np.array([None]), "single")
    with pytest.raises(ValueError, match="read-only"):
        collective.allreduce(aktis.get(aktis.put(np.zeros(100_000))), "single")
    with pytest.raises(ValueError, match="no order"):
        collective.allreduce(np.zeros(2, complex), "single", ReduceOp.MIN)
    with pytest.raises(ValueError, match="itself"):
        collective.send(np.zeros(2), 0, "single")
    with pytest.raises(ValueError, match="1 arrays, one per member"):
        collective.allgather([], np.zeros(2), "single")
    array = np.array([1 + 2j])
    collective.allreduce(array, "single")
    assert array[0] == 1 + 2j
    collective.destroy_collective_group("single")
