"""The lease policy: what is asked for, given back, and said."""

import pytest
from aktis._runtime.leases import LeasePolicy, Request, Return, SchedulingClass, Warn

CLASS = SchedulingClass(7, "f", (("CPU", 10_000),))


class Core:
    """Leases that have a task cannot be dropped."""

    def __init__(self) -> None:
        self.busy: set[int] = set()

    def drop(self, lease_id: int) -> bool:
        return lease_id not in self.busy


@pytest.fixture
def core() -> Core:
    return Core()


@pytest.fixture
def policy(core: Core) -> LeasePolicy:
    made = LeasePolicy(core.drop)
    made.add_class(CLASS)
    return made


def test_what_the_core_could_use_is_asked_for(policy: LeasePolicy) -> None:
    assert policy.needed(7, 3, 100) == [Request(CLASS, 3, 100)]
    assert policy.needed(7, 0, 0) == [Request(CLASS, 0, 0)]


def test_a_lease_that_the_core_returned_is_held_no_more(policy: LeasePolicy) -> None:
    policy.granted(7, 1)
    assert policy.held(7) == 1
    assert policy.gone(1)
    assert policy.held(7) == 0
    assert policy.reclaim([1]) == []


def test_reclaim_takes_every_idle_lease_at_once(policy: LeasePolicy, core: Core) -> None:
    for lease in (1, 2, 3):
        policy.granted(7, lease)
    core.busy.add(2)
    assert policy.reclaim([1, 2, 3]) == [Return((1, 3))]
    assert policy.held(7) == 1


def test_a_broken_lease_is_returned_as_failing(policy: LeasePolicy) -> None:
    policy.granted(7, 1)
    assert policy.broken(1) == [Return((1,), failing=True)]
    assert policy.broken(1) == []


def test_a_lease_that_the_raylet_took_is_not_returned(policy: LeasePolicy) -> None:
    policy.granted(7, 1)
    assert policy.gone(1)
    assert not policy.gone(1)
    assert policy.broken(1) == []


def test_what_can_never_run_is_said_once_with_what_is_missing(policy: LeasePolicy) -> None:
    (warning,) = policy.pending(7, True, "no node has 1 special")
    assert isinstance(warning, Warn)
    assert "Tasks of f" in warning.message
    assert "no node has 1 special" in warning.message
    assert policy.pending(7, True, "no node has 1 special") == []
    assert len(policy.pending(7, True, "no node has 2 special")) == 1


def test_what_only_has_to_wait_is_not_worth_a_warning(policy: LeasePolicy) -> None:
    assert policy.pending(7, False, "all 2 CPU are in use") == []


def test_a_warning_comes_again_after_it_was_solved(policy: LeasePolicy) -> None:
    assert policy.pending(7, True, "x")
    policy.granted(7, 1)
    assert policy.pending(7, True, "x")


def test_blocked_workers_are_warned_of_once(policy: LeasePolicy) -> None:
    policy.needed(7, 1, 1)
    (warning,) = policy.pending(7, False, "all 2 workers wait", stuck=True)
    assert isinstance(warning, Warn)
    assert "Tasks of f do not start: all 2 workers wait" in warning.message
    assert policy.pending(7, False, "all 2 workers wait", stuck=True) == []


def test_a_class_that_ended_is_forgotten_with_its_last_lease(policy: LeasePolicy) -> None:
    policy.needed(7, 3, 3)
    assert policy.granted(7, 1)
    assert policy.end_class(7) == [Request(CLASS, 0, 0)]
    assert not policy.knows(7)
    assert not policy.granted(7, 2), "it crossed the withdrawal"
    assert policy.class_keys() == [7]
    assert policy.gone(1)
    assert policy.class_keys() == []
    assert policy.end_class(7) == []


def test_a_class_without_leases_and_wishes_ends_quietly(policy: LeasePolicy) -> None:
    assert policy.end_class(7) == []
    assert policy.class_keys() == []
