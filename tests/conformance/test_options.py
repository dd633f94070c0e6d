"""Options of tasks, actors and methods: every one, wrong types, wrong values, unknown ones."""

from typing import Any

import pytest
import ray


def f() -> None: ...


class A:
    def m(self) -> None: ...


COMMON: dict[str, list[Any]] = {
    "num_cpus": [0, 1, 0.5],
    "num_gpus": [0, 1, 0.5],
    "memory": [1_000_000],
    "resources": [{"special": 1}, {}],
    "accelerator_type": ["V100"],
    "name": ["some name"],
    "label_selector": [{"zone": "a"}, {"zone": "!a"}, {"zone": "in(a,b)"}, {"zone": "!in(a,b)"}],
    "scheduling_strategy": ["DEFAULT", "SPREAD"],
    "runtime_env": [{"env_vars": {"A": "1"}}, {}],
}
TASKS: dict[str, list[Any]] = {
    "num_returns": [0, 1, 5],
    "max_retries": [0, 3, -1],
    "retry_exceptions": [True, False, [ValueError]],
    "max_calls": [0, 1],
}
ACTORS: dict[str, list[Any]] = {
    "max_restarts": [0, 3, -1],
    "max_task_retries": [0, 3, -1],
    "max_pending_calls": [-1, 1],
    "max_concurrency": [1, 1000],
    "concurrency_groups": [{"io": 2}, {}],
    "lifetime": ["detached", "non_detached"],
    "namespace": ["some"],
    "get_if_exists": [True, False],
    "allow_out_of_order_execution": [True, False],
}
METHODS: dict[str, list[Any]] = {
    "num_returns": [1, 2],
    "max_task_retries": [0, 1, -1],
    "retry_exceptions": [True, [ValueError]],
    "concurrency_group": ["io"],
}


# Of no use without a name.
WITH_A_NAME = ("namespace", "get_if_exists")
IN_THE_DECORATOR_ONLY = ("max_calls", "concurrency_groups")


@pytest.mark.parametrize("name", [*COMMON, *TASKS])
def test_options_of_tasks(name: str) -> None:
    for value in {**COMMON, **TASKS}[name]:
        ray.remote(**{name: value})(f)
        if name not in IN_THE_DECORATOR_ONLY:
            ray.remote(f).options(**{name: value})


@pytest.mark.parametrize("name", [*COMMON, *ACTORS])
def test_options_of_actors(name: str) -> None:
    more = {"name": "some"} if name in WITH_A_NAME else {}
    for value in {**COMMON, **ACTORS}[name]:
        ray.remote(**{name: value}, **more)(A)
        if name not in IN_THE_DECORATOR_ONLY:
            ray.remote(A).options(**{name: value}, **more)


def test_a_namespace_without_a_name_is_of_no_use_but_no_error() -> None:
    ray.remote(namespace="some")(A)


def test_get_if_exists_needs_a_name() -> None:
    with pytest.raises(ValueError):
        ray.remote(A).options(get_if_exists=True)


@pytest.mark.differs("options-may-change-later")
def test_every_option_can_be_changed_later() -> None:
    ray.remote(f).options(max_calls=1)
    ray.remote(A).options(concurrency_groups={"io": 1})


@pytest.mark.differs("none-is-the-default")
def test_none_stands_for_the_default_everywhere() -> None:
    for name in {**COMMON, **TASKS}:
        ray.remote(**{name: None})(f)
    for name in {**COMMON, **ACTORS}:
        ray.remote(**{name: None})(A)


@pytest.mark.parametrize("name", METHODS)
def test_options_of_methods(name: str) -> None:
    for value in METHODS[name]:

        class B:
            @ray.method(**{name: value})
            def m(self) -> None: ...

        ray.remote(concurrency_groups={"io": 1})(B)


@pytest.mark.parametrize("name", ["fallback_strategy"])
def test_options_of_placement(name: str) -> None:
    ray.remote(**{name: [{"label_selector": {"zone": "a"}}]})(f)
    ray.remote(**{name: [{"label_selector": {"zone": "a"}}]})(A)


WRONG_TYPES: dict[str, Any] = {
    "num_cpus": "1",
    "num_gpus": "1",
    "memory": "1G",
    "resources": 1,
    "accelerator_type": 1,
    "name": 1,
    "label_selector": "zone=a",
    "runtime_env": 1,
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_wrong_types_of_common_options(name: str) -> None:
    for target in (f, A):
        with pytest.raises(TypeError):
            ray.remote(**{name: WRONG_TYPES[name]})(target)


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_returns", 1.5), ("max_retries", "3"), ("max_calls", "1"), ("retry_exceptions", 1)],
)
def test_wrong_types_of_options_of_tasks(name: str, value: Any) -> None:
    with pytest.raises(TypeError):
        ray.remote(**{name: value})(f)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_restarts", "1"),
        ("max_task_retries", "1"),
        ("max_pending_calls", "1"),
        ("max_concurrency", "1"),
        ("concurrency_groups", "io"),
        ("namespace", 1),
        ("get_if_exists", "yes"),
    ],
)
def test_wrong_types_of_options_of_actors(name: str, value: Any) -> None:
    with pytest.raises(TypeError):
        ray.remote(**{name: value})(A)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_cpus", -1),
        ("num_gpus", -1),
        ("memory", -1),
        ("resources", {"CPU": 1}),
        ("resources", {"special": -1}),
        ("num_returns", -1),
        ("num_returns", "many"),
        ("max_retries", -2),
        ("max_calls", -1),
        ("retry_exceptions", [1]),
    ],
)
def test_wrong_values_of_options_of_tasks(name: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        ray.remote(**{name: value})(f)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_restarts", -2),
        ("max_task_retries", -2),
        ("lifetime", "long"),
    ],
)
def test_wrong_values_of_options_of_actors(name: str, value: Any) -> None:
    with pytest.raises(ValueError):
        ray.remote(**{name: value})(A)


@pytest.mark.differs("options-are-checked-at-once")
@pytest.mark.parametrize(
    ("target", "name", "value"),
    [
        (f, "scheduling_strategy", "EVERYWHERE"),
        (A, "max_concurrency", 0),
        (A, "max_pending_calls", 0),
        (A, "concurrency_groups", {"io": 0}),
    ],
)
def test_wrong_values_are_refused_where_they_are_given(target: Any, name: str, value: Any) -> None:
    with pytest.raises(ValueError):
        ray.remote(**{name: value})(target)


@pytest.mark.parametrize("target", [f, A], ids=["task", "actor"])
def test_unknown_options_are_named_with_the_valid_ones(target: Any) -> None:
    with pytest.raises(ValueError, match=r"(?s)no_such.*num_cpus"):
        ray.remote(no_such=1)(target)
    with pytest.raises(ValueError, match=r"(?s)no_such.*num_cpus"):
        ray.remote(target).options(no_such=1)


def test_options_of_the_other_kind_are_refused() -> None:
    with pytest.raises(ValueError):
        ray.remote(max_restarts=1)(f)
    with pytest.raises(ValueError):
        ray.remote(max_retries=1)(A)


def test_unknown_options_of_methods() -> None:
    with pytest.raises((AssertionError, ValueError)):
        ray.method(no_such=1)


def test_the_decorator_is_used_as_documented() -> None:
    with pytest.raises((AssertionError, TypeError)):
        ray.remote(f, 1)
    with pytest.raises((AssertionError, TypeError)):
        ray.remote()


def test_options_leave_the_original_alone() -> None:
    original = ray.remote(num_returns=2)(f)
    assert original.options(num_returns=3) is not original
