"""Numbers for scheduling classes."""

from aktis._common.resources import ResourceSet
from aktis._runtime.leases import LeasePolicy
from aktis._runtime.scheduling_classes import SchedulingClasses
from aktis._runtime.strategies import Strategy


def number(classes: SchedulingClasses, policy: LeasePolicy, function_id: bytes = b"f") -> int:
    return classes.key(policy, function_id, "f", ResourceSet.of({"CPU": 1}), Strategy())


def test_the_same_has_the_same_number_until_it_is_forgotten() -> None:
    classes, policy = SchedulingClasses(), LeasePolicy(lambda _: True)
    first = number(classes, policy)
    assert number(classes, policy) == first
    other = number(classes, policy, b"g")
    assert policy.class_keys() == [first, other]
    classes.forget(first)
    classes.forget(first)
    assert number(classes, policy) not in (first, other)
    assert number(classes, policy, b"g") == other
