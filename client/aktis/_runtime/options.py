"""The options of tasks, actors and methods: which exist, what they accept, what is assumed.

One table per kind. An unknown key is a ValueError that lists the valid ones, a wrong type a TypeError, a bad
value a ValueError; every message names the option.
"""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from aktis._runtime.environments.check import check_runtime_env

Check = Callable[[str, Any], None]

MAX_NUM_RETURNS: Final = 65_535
MAX_PRIORITY: Final = 1_000_000
MAX_TIMEOUT_S: Final = 1_000_000
DEFAULT_ASYNC_CONCURRENCY: Final = 1000
DEFAULT_QUANTILE: Final = 0.95
"""Of ``speculative=True``."""
# Enough to ask for a node that has the accelerator, too little to use it up.
_ACCELERATOR_SHARE: Final = 0.001


def _type_error(name: str, expected: str, value: Any) -> TypeError:
    return TypeError(f"option {name!r} must be {expected}, got {type(value).__name__} {value!r}")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _amount(name: str, value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _type_error(name, "a number", value)
    if not 0 <= value < float("inf"):
        raise ValueError(f"option {name!r} must be finite and not negative, got {value!r}")


def _timeout(name: str, value: Any) -> None:
    _amount(name, value)
    if not 0.001 <= value <= MAX_TIMEOUT_S:
        raise ValueError(f"option {name!r} must be between 0.001 and {MAX_TIMEOUT_S} seconds, got {value!r}")


def _integer(minimum: int, *, unlimited: bool = False, maximum: int = 2**31 - 1) -> Check:
    """Accept whole numbers from ``minimum``; -1 as well where it means 'without limit'."""

    def check(name: str, value: Any) -> None:
        if not _is_int(value):
            raise _type_error(name, "an int", value)
        if not (minimum <= value <= maximum or (unlimited and value == -1)):
            rule = f"between {minimum} and {maximum}" + (", or -1 for no limit" if unlimited else "")
            raise ValueError(f"option {name!r} must be {rule}, got {value}")

    return check


def _boolean(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise _type_error(name, "True or False", value)


def _speculative(name: str, value: Any) -> None:
    if isinstance(value, bool):
        return
    if not isinstance(value, float):
        raise _type_error(name, "True, False or a quantile as a float", value)
    if not 0 < value < 1:
        raise ValueError(f"option {name!r} must be a quantile between 0 and 1, got {value!r}")


def _string(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise _type_error(name, "a str", value)
    if len(value) > MAX_NAME_CHARACTERS:
        raise ValueError(
            f"option {name!r} must have at most {MAX_NAME_CHARACTERS} characters, got {len(value)}"
        )


def _name(name: str, value: Any) -> None:
    _string(name, value)
    if not value:
        raise ValueError(f"option {name!r} must not be empty")


def _resources(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise _type_error(name, "a dict of numbers by resource name", value)
    for key, amount in value.items():
        if not isinstance(key, str):
            raise TypeError(f"option {name!r} must have str keys, got {key!r}")
        if key in ("CPU", "GPU", "memory"):
            option = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}[key]
            raise ValueError(f"option {name!r} must not name {key!r}: use the option {option!r}")
        _amount(f"{name}[{key!r}]", amount)


def _labels(name: str, value: Any) -> None:
    if not isinstance(value, Mapping) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in value.items()
    ):
        raise _type_error(name, "a dict of str by str", value)
    from aktis._common.labels import check_selector

    try:
        check_selector(value)
    except ValueError as error:
        raise ValueError(f"option {name!r}: {error}") from None


def _fallbacks(name: str, value: Any) -> None:
    if not isinstance(value, list):
        raise _type_error(name, "a list of dicts of options", value)
    for item in value:
        if not isinstance(item, Mapping):
            raise _type_error(f"{name} item", "a dict of options", item)
        if unknown := item.keys() - {"label_selector"}:
            raise ValueError(f"option {name!r} may only hold 'label_selector', got {sorted(unknown)}")
        _labels(f"{name}['label_selector']", item.get("label_selector", {}))


def _num_returns(name: str, value: Any) -> None:
    if isinstance(value, str):
        if value not in ("streaming", "dynamic"):
            raise ValueError(f"option {name!r} must be an int, 'streaming' or 'dynamic', got {value!r}")
        return
    _integer(0, maximum=MAX_NUM_RETURNS)(name, value)


def returns_of(function: Callable[..., Any] | None, options: Mapping[str, Any]) -> int | str:
    """Return how many results a call has; a generator streams unless something else is asked for."""
    generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    count: int | str = options.get("num_returns", "streaming" if generator else 1)
    return count


def _retry_exceptions(name: str, value: Any) -> None:
    if isinstance(value, bool):
        return
    if not isinstance(value, list | tuple):
        raise _type_error(name, "True, False or a list of exception types", value)
    for item in value:
        if not (isinstance(item, type) and issubclass(item, BaseException)):
            raise ValueError(f"option {name!r} must list exception types, got {item!r}")


def _lifetime(name: str, value: Any) -> None:
    if value not in ("detached", "non_detached"):
        raise ValueError(f"option {name!r} must be 'detached', 'non_detached' or None, got {value!r}")


def _strategy(name: str, value: Any) -> None:
    if isinstance(value, str):
        if value not in ("DEFAULT", "SPREAD"):
            raise ValueError(f"option {name!r} must be 'DEFAULT', 'SPREAD' or an object, got {value!r}")
        return
    from aktis.util import scheduling_strategies as known

    kinds = (
        known.PlacementGroupSchedulingStrategy,
        known.NodeAffinitySchedulingStrategy,
        known.NodeLabelSchedulingStrategy,
    )
    if not isinstance(value, kinds):
        raise _type_error(name, f"a str, {', '.join(kind.__name__ for kind in kinds)}", value)
    if isinstance(value, known.PlacementGroupSchedulingStrategy):
        if value.placement_group is not None:
            _placement_group(name, value.placement_group)
        _bundle_index("placement_group_bundle_index", value.placement_group_bundle_index)
        if value.placement_group_capture_child_tasks is not None:
            _boolean("placement_group_capture_child_tasks", value.placement_group_capture_child_tasks)


def _placement_group(name: str, value: Any) -> None:
    from aktis.util.placement_group import PlacementGroup

    if isinstance(value, str) and value != "default":
        raise ValueError(f"option {name!r} must be a PlacementGroup, None or 'default', got {value!r}")
    if not isinstance(value, str | PlacementGroup):
        raise _type_error(name, "a PlacementGroup, None or 'default'", value)


def _bundle_index(name: str, value: Any) -> None:
    if not _is_int(value):
        raise _type_error(name, "an int", value)
    if value < -1:
        raise ValueError(f"option {name!r} must be the index of a bundle, or -1 for any, got {value}")


def _checkpoint(name: str, value: Any) -> None:
    from aktis.checkpoint import Checkpoint

    if not isinstance(value, Checkpoint):
        raise _type_error(name, "an aktis.checkpoint.Checkpoint", value)


def _groups(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise _type_error(name, "a dict of limits by group name", value)
    for key, limit in value.items():
        _name(f"{name} key", key)
        _integer(1)(f"{name}[{key!r}]", limit)


MAX_NAME_CHARACTERS: Final = 512  # as in the GCS
# None stands for the default everywhere but in `placement_group`, where it says: not in that of the caller.
_NONE_IS_A_VALUE: Final = frozenset({"placement_group"})
_COMMON: Final[Mapping[str, Check]] = {
    "num_cpus": _amount,
    "num_gpus": _amount,
    "memory": _amount,
    "resources": _resources,
    "accelerator_type": _name,
    "name": _string,
    "label_selector": _labels,
    "fallback_strategy": _fallbacks,
    "scheduling_strategy": _strategy,
    "placement_group": _placement_group,
    "placement_group_bundle_index": _bundle_index,
    "placement_group_capture_child_tasks": _boolean,
    "runtime_env": check_runtime_env,
}
_GENERATORS: Final[Mapping[str, Check]] = {
    "generator_backpressure_num_objects": _integer(1, unlimited=True),
    "_generator_backpressure_num_objects": _integer(1, unlimited=True),
}
TASK_OPTIONS: Final[Mapping[str, Check]] = {
    **_COMMON,
    "num_returns": _num_returns,
    "max_retries": _integer(0, unlimited=True),
    "retry_exceptions": _retry_exceptions,
    "max_calls": _integer(0),
    "timeout_s": _timeout,
    "priority": _integer(-MAX_PRIORITY, maximum=MAX_PRIORITY),
    "speculative": _speculative,
    **_GENERATORS,
}
ACTOR_OPTIONS: Final[Mapping[str, Check]] = {
    **_COMMON,
    "max_restarts": _integer(0, unlimited=True),
    "max_task_retries": _integer(0, unlimited=True),
    "max_pending_calls": _integer(1, unlimited=True),
    "max_concurrency": _integer(1, maximum=1_000_000),
    "concurrency_groups": _groups,
    "lifetime": _lifetime,
    "namespace": _name,
    "get_if_exists": _boolean,
    "allow_out_of_order_execution": _boolean,
    "checkpoint": _checkpoint,
}
METHOD_OPTIONS: Final[Mapping[str, Check]] = {
    "num_returns": _num_returns,
    "max_task_retries": _integer(0, unlimited=True),
    "retry_exceptions": _retry_exceptions,
    "concurrency_group": _name,
    "name": _string,
    **_GENERATORS,
}


def unknown_option(name: str, where: str, table: Iterable[str]) -> ValueError:
    """Return the error for an option that there is not; it names the one that may have been meant."""
    valid = sorted(option for option in table if not option.startswith("_"))
    close = difflib.get_close_matches(name, valid, n=1)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    return ValueError(f"unknown option {name!r}{where}{meant}; valid ones: {valid}")


def check_options(table: Mapping[str, Check], what: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are set, after checking each one.

    Args:
        what: What they are for, in messages: "tasks", "actors" or "actor methods".

    Raises:
        ValueError: unknown option, or a value that it does not accept.
        TypeError: a value of the wrong type.
    """
    for name, value in options.items():
        check = table.get(name)
        if check is None:
            raise unknown_option(name, f" for {what}", table)
        if value is not None:
            check(name, value)
    checked = {n: value for n, value in options.items() if value is not None or n in _NONE_IS_A_VALUE}
    if "scheduling_strategy" in checked:
        from aktis._runtime.strategies import check_placement_options

        check_placement_options(checked)
    return checked


def quantile_of(function: Callable[..., Any], options: Mapping[str, Any]) -> float:
    """Return beyond which quantile of its siblings' run times a task runs twice; 0: it never does.

    Raises:
        ValueError: the function cannot run twice, by what it is or by another option, which it names.
    """
    speculative: bool | float = options.get("speculative", False)
    if not speculative:
        return 0
    if isinstance(returns_of(function, options), str):
        raise ValueError(
            "option 'speculative' is not for generators: who has taken items of one run cannot go on with "
            "another's"
        )
    if options.get("max_retries") == 0:
        raise ValueError("option 'speculative' may run a task twice, 'max_retries=0' at most once: drop one")
    return DEFAULT_QUANTILE if speculative is True else speculative


def check_actor_combination(options: Mapping[str, Any]) -> None:
    """Check what no option can by itself.

    Raises:
        ValueError: two options contradict each other; the message names both.
    """
    if options.get("get_if_exists") and not options.get("name"):
        raise ValueError("option 'get_if_exists' needs the option 'name'")


def demand(options: Mapping[str, Any], default_cpus: float) -> dict[str, float]:
    """Return the resources asked for, by name, in units."""
    wanted: dict[str, float] = dict(options.get("resources", {}))
    wanted["CPU"] = options.get("num_cpus", default_cpus)
    wanted["GPU"] = options.get("num_gpus", 0)
    wanted["memory"] = options.get("memory", 0)
    if accelerator := options.get("accelerator_type"):
        wanted[f"accelerator_type:{accelerator}"] = _ACCELERATOR_SHARE
    return {name: amount for name, amount in wanted.items() if amount}


def actor_demands(options: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Return what an actor holds while it lives, and what its node must have when it is placed.

    An actor that asks for nothing but memory is placed where a CPU is, but holds none: many may share one.
    """
    asked = any(name in options for name in ("num_cpus", "num_gpus", "resources", "accelerator_type"))
    held = demand(options, default_cpus=1 if asked else 0)
    return held, held if asked else held | {"CPU": 1}
