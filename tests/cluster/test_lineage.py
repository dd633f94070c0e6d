"""Objects that shared memory has lost: what is computed again, what is not, and what the error says."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aktis
import numpy as np
import pytest
from aktis import _core
from aktis._runtime import current
from aktis.exceptions import ObjectLostError, ObjectReconstructionFailedError

from tests.support.control_peer import ControlPeer
from tests.support.thief import LARGE, Thief, maker, noting, thieving

pytestmark = pytest.mark.xdist_group("lineage")
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Thief]:
    with thieving(tmp_path_factory.mktemp("runs"), num_cpus=2) as thief:
        yield thief


@aktis.remote
def total(array: Any) -> int:
    return int(array.sum())


@aktis.remote(num_cpus=0)
class Reader:
    """Never the process that made a value, which goes on having it although the store has lost it."""

    def total(self, array: Any) -> int:
        return int(array.sum())

    def total_of(self, refs: list[Any]) -> int:
        return sum(int(aktis.get(ref).sum()) for ref in refs)


@pytest.fixture(scope="module")
def reader(shared: Thief) -> Any:
    return Reader.remote()


def statistics() -> dict[str, int]:
    """Return the core's numbers, after it has taken in that references were dropped."""
    return current.require().core.statistics()


def test_a_lost_result_is_computed_again(shared: Thief) -> None:
    ref = maker(shared, "lost").remote(3)
    shared.steal(ref)
    assert aktis.get(ref, timeout=TIMEOUT_S).sum() == 3 * LARGE
    assert shared.runs("lost") == 2


def test_nothing_is_kept_that_nobody_needs(shared: Thief) -> None:
    before = statistics()
    make = maker(shared, "unneeded")
    first = make.remote(1)
    second = total.remote(first)
    third = make.remote(aktis.get(second, timeout=TIMEOUT_S) % 256)
    shared.steal(first, third)
    assert len(aktis.get([first, third], timeout=TIMEOUT_S)) == 2
    during = statistics()
    assert during["lineage_tasks"] == before["lineage_tasks"] + 2
    assert during["reconstructions"] == before["reconstructions"] + 2
    assert during["in_flight_bytes"] == 0
    del first, second, third
    after = statistics()
    for name in ("lineage_tasks", "lineage_bytes", "tasks", "objects", "references", "in_flight_bytes"):
        assert after[name] == before[name], name


def test_a_chain_is_computed_again_whose_links_were_freed(shared: Thief) -> None:
    note = noting(shared, "link")

    @aktis.remote
    def link(array: Any) -> Any:
        note()
        return array + 1

    first = maker(shared, "first").remote(1)
    second = link.remote(first)
    third = link.remote(second)
    aktis.wait([third], timeout=TIMEOUT_S, fetch_local=False)
    del first, second
    statistics()
    shared.steal(third)
    assert aktis.get(third, timeout=TIMEOUT_S).sum() == 3 * LARGE
    assert (shared.runs("first"), shared.runs("link")) == (2, 4)


def test_of_two_results_the_other_may_be_freed(shared: Thief) -> None:
    note = noting(shared, "two")

    @aktis.remote(num_returns=3)
    def two() -> tuple[Any, Any, str]:
        note()
        return np.ones(LARGE, np.uint8), np.full(LARGE, 2, np.uint8), "small"

    results: Any = two.remote()
    one, other, small = results
    del results
    aktis.wait([one, other], num_returns=2, timeout=TIMEOUT_S, fetch_local=False)
    del one, small
    statistics()
    shared.steal(other)
    assert aktis.get(other, timeout=TIMEOUT_S).sum() == 2 * LARGE
    assert shared.runs("two") == 2


def test_a_run_that_fails_takes_nothing_from_the_result_that_was_not_lost(shared: Thief) -> None:
    note, runs_dir = noting(shared, "flaky"), str(shared.runs_dir)

    @aktis.remote(num_returns=2)
    def flaky() -> tuple[Any, Any]:
        note()
        if len(list(Path(runs_dir).glob("flaky-*"))) > 1:
            raise ValueError("not again")
        return np.ones(LARGE, np.uint8), np.full(LARGE, 2, np.uint8)

    results: Any = flaky.remote()
    one, other = results
    shared.steal(one)
    with pytest.raises(ValueError, match="not again"):
        aktis.get(one, timeout=TIMEOUT_S)
    assert aktis.get(other, timeout=TIMEOUT_S).sum() == 2 * LARGE


def test_small_arguments_that_were_freed_are_kept_for_it(shared: Thief) -> None:
    note = noting(shared, "small")

    @aktis.remote
    def small(value: int) -> int:
        note()
        return value

    @aktis.remote
    def spread(value: int, box: Any, *, factor: Any, crates: Any) -> Any:
        (crate,) = aktis.get(crates)
        contents = aktis.get(box[0]) + aktis.get(crate[0])[0]
        return np.full(LARGE, value * factor * contents, np.uint8)

    value, factor, inner = small.remote(2), aktis.put(3), small.remote(5)
    large = maker(shared, "boxed").remote(1)
    box, crate = aktis.put([inner]), aktis.put([large])
    ref = spread.remote(value, box, factor=factor, crates=[crate])
    aktis.wait([ref], timeout=TIMEOUT_S, fetch_local=False)
    del value, factor, inner, large, box, crate
    statistics()
    shared.steal(ref)
    assert aktis.get(ref, timeout=TIMEOUT_S).sum() == 36 * LARGE
    assert (shared.runs("small"), shared.runs("boxed")) == (2, 2)


def test_who_still_reads_a_freed_object_can_make_it_again(shared: Thief) -> None:
    @aktis.remote(max_task_retries=1)
    class Keeper:
        def make(self) -> Any:
            return np.ones(LARGE, np.uint8)

        def keep(self, array: Any) -> None:
            self.kept = array

    @aktis.remote
    def add(array: Any) -> Any:
        return array + 1

    keeper = Keeper.remote()
    first = keeper.make.remote()
    aktis.get(keeper.keep.remote(first), timeout=TIMEOUT_S)
    second = add.remote(first)
    aktis.wait([second], timeout=TIMEOUT_S, fetch_local=False)
    del first
    statistics()
    shared.steal(second)
    assert aktis.get(second, timeout=TIMEOUT_S).sum() == 2 * LARGE


@pytest.mark.parametrize("way", ["argument", "get"])
def test_a_borrower_that_finds_the_loss_has_it_made_good(shared: Thief, reader: Any, way: str) -> None:
    ref = maker(shared, way).remote(2)
    shared.steal(ref)
    read = reader.total.remote(ref) if way == "argument" else reader.total_of.remote([ref])
    assert aktis.get(read, timeout=TIMEOUT_S) == 2 * LARGE
    assert shared.runs(way) == 2


def test_a_loss_that_several_find_costs_one_run(shared: Thief, reader: Any) -> None:
    ref = maker(shared, "several").remote(1)
    shared.steal(ref)
    totals = [reader.total.remote(ref), Reader.remote().total_of.remote([ref])]
    assert [aktis.get(ref, timeout=TIMEOUT_S).sum(), *aktis.get(totals, timeout=TIMEOUT_S)] == [LARGE] * 3
    assert shared.runs("several") == 2


OBJECT_VALUE, OBJECT_LOST = 38, 44  # of cpp/core/messages.h
IN_SHARED_MEMORY = 1


class Borrower:
    """A process that says to the driver that it misses objects."""

    def __init__(self, shared: Thief) -> None:
        address = current.require().address
        self.peer = ControlPeer(address, shared.token, role=_core.ROLE_WORKER)

    def misses(self, ref: Any, copy: int) -> int:
        """Report a copy; return which one there is afterwards."""
        self.peer.send_frame(OBJECT_LOST, ref.binary() + struct.pack("<I", copy))
        answer = self.peer.receive_frame(OBJECT_VALUE, TIMEOUT_S)
        object_id, state, _, found = struct.unpack("<20sBQI", answer)
        assert (object_id, state) == (ref.binary(), IN_SHARED_MEMORY)
        return int(found)


def test_a_late_report_about_an_older_copy_changes_nothing(shared: Thief) -> None:
    ref = maker(shared, "late").remote(1)
    shared.steal(ref)
    one, other = Borrower(shared), Borrower(shared)
    with one.peer, other.peer:
        assert one.misses(ref, copy=0) == 1
        assert other.misses(ref, copy=0) == 1
        assert shared.runs("late") == 2
        shared.steal(ref)
        assert other.misses(ref, copy=1) == 2
        assert shared.runs("late") == 3


def test_an_owner_in_a_worker_makes_it_good_for_the_driver(shared: Thief) -> None:
    make = maker(shared, "nested")

    @aktis.remote
    class Owner:
        def make(self) -> list[Any]:
            self.ref = make.remote(4)
            return [self.ref]

    owner = Owner.remote()
    (ref,) = aktis.get(owner.make.remote(), timeout=TIMEOUT_S)
    shared.steal(ref)
    assert aktis.get(ref, timeout=TIMEOUT_S).sum() == 4 * LARGE
    assert shared.runs("nested") == 2


def lost(ref: Any, *parts: str) -> ObjectLostError:
    """Expect that the object is lost, for a reason that says so."""
    with pytest.raises(ObjectLostError) as raised:
        aktis.get(ref, timeout=TIMEOUT_S)
    for part in parts:
        assert part in str(raised.value)
    return raised.value


def test_retries_bound_how_often_it_is_computed_again(shared: Thief, reader: Any) -> None:
    ref = maker(shared, "bounded", max_retries=1).remote(1)
    shared.steal(ref)
    assert aktis.get(reader.total.remote(ref), timeout=TIMEOUT_S) == LARGE
    shared.steal(ref)
    error = lost(ref, ref.hex(), "gone from the object store", "no retries left")
    assert type(error) is ObjectReconstructionFailedError
    assert shared.runs("bounded") == 2
    # Who depends on it fails with the same.
    assert "no retries left" in str(lost(total.remote(ref)))


def test_a_task_that_may_run_only_once_is_not_run_again(shared: Thief) -> None:
    ref = maker(shared, "once", max_retries=0).remote(1)
    shared.steal(ref)
    assert type(lost(ref, "max_retries=0")) is ObjectReconstructionFailedError
    assert shared.runs("once") == 1


def test_a_value_of_put_is_lost_but_not_where_it_is_mapped(shared: Thief) -> None:
    ref = aktis.put(np.ones(LARGE, np.uint8))
    shared.steal(ref)
    with pytest.raises(ObjectLostError, match=r"put\(\)") as raised:
        aktis.get(total.remote(ref), timeout=TIMEOUT_S)
    assert not isinstance(raised.value, ObjectReconstructionFailedError)
    assert aktis.get(ref, timeout=TIMEOUT_S).sum() == LARGE


def test_an_argument_of_put_that_was_freed_is_named(shared: Thief) -> None:
    argument = aktis.put(np.ones(LARGE, np.uint8))
    name = argument.hex()

    @aktis.remote
    def double(array: Any) -> Any:
        return array * 2

    ref = double.remote(argument)
    aktis.wait([ref], timeout=TIMEOUT_S, fetch_local=False)
    del argument
    statistics()
    shared.steal(ref)
    assert type(lost(ref, f"its argument {name} is gone", "put()")) is ObjectReconstructionFailedError


@pytest.mark.parametrize("retries", [0, 1])
def test_methods_of_actors_run_again_only_if_they_may(shared: Thief, retries: int) -> None:
    @aktis.remote(max_task_retries=retries)
    class Maker:
        def __init__(self) -> None:
            self.calls = 0

        def make(self) -> Any:
            self.calls += 1
            return np.full(LARGE, self.calls, np.uint8)

    actor = Maker.remote()
    ref = actor.make.remote()
    shared.steal(ref)
    if retries == 0:
        lost(ref, "max_task_retries=0")
        return
    assert aktis.get(ref, timeout=TIMEOUT_S).sum() == 2 * LARGE


def test_an_actor_that_waits_for_its_own_lost_result_gets_an_error(shared: Thief) -> None:
    @aktis.remote(max_task_retries=1)
    class Maker:
        def make(self) -> Any:
            return np.ones(LARGE, np.uint8)

        def total(self, array: Any) -> int:
            return int(array.sum())

        def fill(self) -> Any:
            return np.zeros(70 << 20, np.uint8)

    actor = Maker.remote()
    ref = actor.make.remote()
    shared.steal(ref)
    # An object this large is the end of what the actor has cached of those before.
    aktis.wait([actor.fill.remote()], timeout=TIMEOUT_S, fetch_local=False)
    with pytest.raises(ObjectLostError, match="is waiting for it"):
        aktis.get(actor.total.remote(ref), timeout=TIMEOUT_S)


def test_items_of_generators_are_not_computed_again(shared: Thief) -> None:
    @aktis.remote(num_returns="streaming")
    def items() -> Iterator[Any]:
        yield np.ones(LARGE, np.uint8)
        yield np.ones(LARGE, np.uint8)

    first, second = items.remote()
    shared.steal(first)
    assert type(lost(first, "item of a generator")) is ObjectReconstructionFailedError
    assert aktis.get(second, timeout=TIMEOUT_S).sum() == LARGE


def test_results_of_dead_actors_are_lost(shared: Thief) -> None:
    @aktis.remote(max_task_retries=1)
    class Maker:
        def make(self) -> Any:
            return np.ones(LARGE, np.uint8)

    actor = Maker.remote()
    ref, sign = actor.make.remote(), actor.make.remote()
    aktis.wait([ref, sign], num_returns=2, timeout=TIMEOUT_S, fetch_local=False)
    aktis.kill(actor)
    with pytest.raises(aktis.exceptions.ActorDiedError):
        aktis.get(actor.make.remote(), timeout=TIMEOUT_S)
    shared.steal(ref)
    lost(ref, "its actor is dead")
