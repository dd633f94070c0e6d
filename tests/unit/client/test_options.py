"""What options accept, and what they say about what they do not."""

from typing import Any

import aktis
import pytest
from aktis._runtime.options import (
    ACTOR_OPTIONS,
    METHOD_OPTIONS,
    TASK_OPTIONS,
    actor_demands,
    check_actor_combination,
    check_options,
    demand,
    quantile_of,
)


@pytest.mark.parametrize("table", [TASK_OPTIONS, ACTOR_OPTIONS])
def test_strategies_that_mean_something_on_one_node_are_accepted(table: Any) -> None:
    for strategy in ("DEFAULT", "SPREAD"):
        chosen = {"scheduling_strategy": strategy}
        assert check_options(table, "tasks", chosen) == chosen
    assert check_options(table, "tasks", {"scheduling_strategy": None}) == {}


def test_an_unknown_option_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown option 'num_cpu' for tasks.*'max_retries'.*'num_cpus'"):
        check_options(TASK_OPTIONS, "tasks", {"num_cpu": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_cpus", "a"),
        ("num_cpus", True),
        ("num_gpus", [1]),
        ("memory", "1g"),
        ("resources", 3),
        ("resources", {1: 1}),
        ("resources", {"a": "b"}),
        ("name", 3),
        ("max_retries", 1.5),
        ("max_retries", "a"),
        ("num_returns", None.__class__),
        ("retry_exceptions", 3),
        ("speculative", 1),
        ("speculative", "yes"),
        ("runtime_env", 3),
        ("runtime_env", {"env_vars": {"A": 1}}),
        ("label_selector", {"a": 1}),
    ],
)
def test_a_wrong_type_is_a_type_error_that_names_the_option(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"option ['\"]{name}"):
        check_options(TASK_OPTIONS, "tasks", {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_cpus", -1),
        ("num_cpus", float("nan")),
        ("num_cpus", float("inf")),
        ("resources", {"CPU": 1}),
        ("resources", {"x": -1}),
        ("max_retries", -2),
        ("num_returns", -1),
        ("num_returns", "all"),
        ("retry_exceptions", [3]),
        ("scheduling_strategy", "NEAR"),
        ("runtime_env", {"conda": "env"}),
        ("max_calls", -1),
        ("timeout_s", 0),
        ("speculative", 0.0),
        ("speculative", 1.0),
        ("speculative", float("nan")),
        ("timeout_s", -1.0),
        ("timeout_s", 1e9),
        ("priority", 2_000_000),
    ],
)
def test_a_bad_value_is_a_value_error_that_names_the_option(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"option ['\"]{name}"):
        check_options(TASK_OPTIONS, "tasks", {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_concurrency", 0),
        ("lifetime", "forever"),
        ("max_restarts", -2),
        ("concurrency_groups", {"io": 0}),
        ("max_pending_calls", 0),
        ("namespace", ""),
    ],
)
def test_bad_values_of_actor_options(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"option ['\"]{name}"):
        check_options(ACTOR_OPTIONS, "actors", {name: value})


def test_options_of_tasks_are_not_options_of_actors_or_methods() -> None:
    with pytest.raises(ValueError, match="for actors"):
        check_options(ACTOR_OPTIONS, "actors", {"num_returns": 1})
    with pytest.raises(ValueError, match="for actor methods"):
        check_options(METHOD_OPTIONS, "actor methods", {"num_cpus": 1})


def test_none_means_the_default() -> None:
    assert check_options(TASK_OPTIONS, "tasks", {"num_cpus": None, "max_retries": 0}) == {"max_retries": 0}


def test_combinations_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match=r"get_if_exists.*name"):
        check_actor_combination({"get_if_exists": True})
    check_actor_combination({"get_if_exists": True, "name": "a", "namespace": "b"})


def test_a_task_needs_one_cpu_unless_it_says_otherwise() -> None:
    assert demand({}, default_cpus=1) == {"CPU": 1}
    assert demand({"num_cpus": 0, "resources": {"x": 2}}, default_cpus=1) == {"x": 2}
    assert demand({"num_gpus": 0.5, "memory": 100}, default_cpus=1) == {"CPU": 1, "GPU": 0.5, "memory": 100}
    assert "accelerator_type:A" in demand({"accelerator_type": "A"}, default_cpus=1)


def test_an_actor_that_asks_for_nothing_holds_nothing_but_is_placed_where_a_cpu_is() -> None:
    assert actor_demands({}) == ({}, {"CPU": 1})


def test_an_actor_that_asks_for_something_holds_it() -> None:
    assert actor_demands({"num_cpus": 2}) == ({"CPU": 2}, {"CPU": 2})
    assert actor_demands({"num_gpus": 1}) == ({"CPU": 1, "GPU": 1}, {"CPU": 1, "GPU": 1})
    assert actor_demands({"num_cpus": 0}) == ({}, {})
    assert actor_demands({"memory": 5}) == ({"memory": 5}, {"memory": 5, "CPU": 1})


def test_speculative_is_a_quantile_or_the_usual_one() -> None:
    quantiles = [quantile_of(print, {"speculative": value}) for value in (True, 0.5, False)]
    assert quantiles == [0.95, 0.5, 0]
    assert quantile_of(print, {}) == 0


@pytest.mark.parametrize(
    ("function", "options", "why"),
    [
        (lambda: (yield), {}, "not for generators"),
        (print, {"num_returns": "dynamic"}, "not for generators"),
        (print, {"max_retries": 0}, "'max_retries=0' at most once"),
    ],
)
def test_speculative_is_refused_where_a_task_cannot_run_twice(function: Any, options: Any, why: str) -> None:
    with pytest.raises(ValueError, match=f"option 'speculative' .*{why}"):
        aktis.remote(**options, speculative=True)(function)
    quantile_of(function, {**options, "speculative": False})


@pytest.mark.parametrize("table", [ACTOR_OPTIONS, METHOD_OPTIONS])
def test_actors_and_their_methods_never_run_twice(table: Any) -> None:
    with pytest.raises(ValueError, match="unknown option 'speculative'"):
        check_options(table, "actors", {"speculative": True})


@pytest.mark.parametrize("table", [TASK_OPTIONS, ACTOR_OPTIONS, METHOD_OPTIONS])
def test_a_name_has_an_end(table: Any) -> None:
    assert check_options(table, "tasks", {"name": "n" * 512}) == {"name": "n" * 512}
    with pytest.raises(ValueError, match="'name' must have at most 512 characters, got 513"):
        check_options(table, "tasks", {"name": "n" * 513})
