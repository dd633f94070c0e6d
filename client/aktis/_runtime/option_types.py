"""The options of tasks, actors and methods for type checkers; `aktis._runtime.options` checks the values.

None stands for the default everywhere but in ``placement_group``, where it means: in none.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from aktis.checkpoint import Checkpoint
from aktis.util.placement_group import PlacementGroup
from aktis.util.scheduling_strategies import SchedulingStrategyT


class CommonOptions(TypedDict, total=False):
    """What tasks and actors have in common."""

    num_cpus: float | None
    num_gpus: float | None
    memory: float | None
    resources: Mapping[str, float] | None
    accelerator_type: str | None
    name: str | None
    label_selector: Mapping[str, str] | None
    fallback_strategy: Sequence[Mapping[str, Any]] | None
    scheduling_strategy: SchedulingStrategyT
    placement_group: PlacementGroup | Literal["default"] | None
    placement_group_bundle_index: int | None
    placement_group_capture_child_tasks: bool | None
    runtime_env: Mapping[str, Any] | None


class GeneratorOptions(TypedDict, total=False):
    """Of tasks and methods that yield."""

    generator_backpressure_num_objects: int | None
    _generator_backpressure_num_objects: int | None


class TaskOptions(CommonOptions, GeneratorOptions, total=False):
    """Of tasks, without ``num_returns``, which decides what ``.remote()`` returns."""

    max_retries: int | None
    retry_exceptions: bool | Sequence[type[BaseException]] | None
    max_calls: int | None
    timeout_s: float | None
    priority: int | None
    speculative: bool | float | None


class ActorOptions(CommonOptions, total=False):
    """Of actors."""

    max_restarts: int | None
    max_task_retries: int | None
    max_pending_calls: int | None
    max_concurrency: int | None
    concurrency_groups: Mapping[str, int] | None
    lifetime: Literal["detached", "non_detached"] | None
    namespace: str | None
    get_if_exists: bool | None
    allow_out_of_order_execution: bool | None
    checkpoint: Checkpoint | None


class DecoratorOptions(TaskOptions, ActorOptions, total=False):
    """Of ``@aktis.remote``, which does not know yet what it will stand before."""


class MethodOptions(GeneratorOptions, total=False):
    """Of methods, without ``num_returns``."""

    max_task_retries: int | None
    retry_exceptions: bool | Sequence[type[BaseException]] | None
    concurrency_group: str | None
    name: str | None
