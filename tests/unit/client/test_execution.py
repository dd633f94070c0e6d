"""What a task carries along about where it runs."""

from types import SimpleNamespace

import pytest
from aktis._common.resources import ResourceSet
from aktis._runtime import execution
from aktis._runtime.execution import MAX_CARRIED_BYTES, captured_group, group_of, placement_for

GROUP = b"g" * 16


def test_a_plain_task_of_one_cpu_carries_nothing() -> None:
    assert placement_for(b"", captures=False, resources=ResourceSet.of({"CPU": 1})) == b""


@pytest.mark.parametrize("group", [b"", GROUP])
@pytest.mark.parametrize("captures", [False, True])
@pytest.mark.parametrize("amounts", [{}, {"CPU": 1}, {"CPU": 0.5, "GPU": 2, "memory": 2.0**40}])
def test_what_is_carried_is_what_is_read(
    group: bytes, captures: bool, amounts: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    captures = captures and bool(group)
    carried = placement_for(group, captures=captures, resources=ResourceSet.of(amounts))
    assert group_of(carried) == group
    assert captured_group(carried) == (group if captures else None)
    monkeypatch.setattr(execution, "current_task", lambda: SimpleNamespace(placement=carried))
    assert execution.assigned_resources() == amounts
    assert execution.current_group() == group
    assert len(carried) <= 1024


def test_very_many_resources_are_left_to_the_raylet(monkeypatch: pytest.MonkeyPatch) -> None:
    many = ResourceSet.of({f"resource number {number}": 1 for number in range(100)})
    carried = placement_for(GROUP, captures=True, resources=many)
    assert len(carried) <= MAX_CARRIED_BYTES
    assert captured_group(carried) == GROUP
    monkeypatch.setattr(execution, "current_task", lambda: SimpleNamespace(placement=carried))
    monkeypatch.setattr(execution, "assignment", execution.Assignment({"CPU": 2.0}))
    assert execution.assigned_resources() == {"CPU": 2.0}


def test_an_actor_tells_what_the_raylet_has_given_it(monkeypatch: pytest.MonkeyPatch) -> None:
    actor = execution.ActorFacts(b"a" * 16, 1, None, group=GROUP)
    monkeypatch.setattr(execution, "actor", actor)
    monkeypatch.setattr(execution, "assignment", execution.Assignment({"CPU": 2.0}))
    assert execution.assigned_resources() == {"CPU": 2.0}
    assert execution.current_group() == GROUP
