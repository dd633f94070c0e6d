"""What the options about placement come to: one value per scheduling class, and what travels of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aktis._common.labels import check_key, check_value
from aktis._common.resources import ResourceSet
from aktis._proto import common_pb2
from aktis.util.scheduling_strategies import (
    DoesNotExist,
    Exists,
    In,
    LabelOperator,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
    PlacementGroupSchedulingStrategy,
)

if TYPE_CHECKING:
    from aktis.util.placement_group import PlacementGroup

ANY_BUNDLE: Final = -1
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Strategy:
    """See ``SchedulingStrategy`` in proto/aktis/v1/common.proto; ``labels`` are the label selector."""

    spread: bool = False
    node_id: bytes = b""
    soft: bool = False
    labels: Labels = ()
    fallbacks: tuple[Labels, ...] = ()
    preferred: Labels = ()
    group: bytes = b""
    bundle: int = ANY_BUNDLE
    captures: bool = False

    def to_proto(self) -> common_pb2.SchedulingStrategy:
        """Return the message, without the label selector, which has a field of its own."""
        message = common_pb2.SchedulingStrategy(
            spread=self.spread,
            node_id=self.node_id,
            soft=self.soft,
            fallbacks=[common_pb2.LabelSelector(conditions=dict(labels)) for labels in self.fallbacks],
            placement_group_id=self.group,
            capture_child_tasks=self.captures,
        )
        if self.group:
            message.bundle_index = self.bundle
        if self.preferred:
            message.preferred.conditions.update(self.preferred)
        return message


def strategy_of(
    options: Mapping[str, Any], captured: bytes | None, title: str, wanted: ResourceSet
) -> Strategy:
    """Work out where tasks or actors with these options run.

    Args:
        options: Checked ones.
        captured: The placement group that captures what the caller submits.
        title: Of the function or class, for messages.
        wanted: The resources of one task or actor.

    Raises:
        ValueError: the group has no such bundle, or none that it fits into.
    """
    labels, fallbacks, preferred = _labels(options)
    chosen = options.get("scheduling_strategy")
    node_id, soft = b"", False
    if isinstance(chosen, NodeAffinitySchedulingStrategy):
        node_id, soft = bytes.fromhex(chosen.node_id), chosen.soft
    group, captures = _group(options, captured)
    bundle = _bundle_index(options)
    if group is None:
        if bundle != ANY_BUNDLE:
            raise ValueError(
                f"option 'placement_group_bundle_index' is {bundle}, but {title} is in no placement group"
            )
    else:
        _check_fits(group, bundle, title, wanted)
    return Strategy(
        spread=chosen == "SPREAD",
        node_id=node_id,
        soft=soft,
        labels=labels,
        fallbacks=fallbacks,
        preferred=preferred,
        group=b"" if group is None else group.id.binary(),
        bundle=bundle,
        captures=captures,
    )


def check_placement_options(options: Mapping[str, Any]) -> None:
    """Raise ValueError for options about placement that contradict each other."""
    chosen = options.get("scheduling_strategy")
    old_style = options.get("placement_group", "default")
    if chosen is not None and old_style not in ("default", None):
        raise ValueError(
            "options 'placement_group' and 'scheduling_strategy' exclude each other: use "
            "scheduling_strategy=PlacementGroupSchedulingStrategy(placement_group, ...)"
        )
    if isinstance(chosen, PlacementGroupSchedulingStrategy):
        for name in ("placement_group_bundle_index", "placement_group_capture_child_tasks"):
            if name in options:
                raise ValueError(f"option {name!r} is an argument of PlacementGroupSchedulingStrategy too")
    if isinstance(chosen, NodeLabelSchedulingStrategy):
        both = chosen.hard.keys() & options.get("label_selector", {}).keys()
        if both:
            raise ValueError(f"'label_selector' and the strategy both have conditions on {sorted(both)}")


def _group(options: Mapping[str, Any], captured: bytes | None) -> tuple["PlacementGroup | None", bool]:
    from aktis.util.placement_group import PlacementGroup, placement_group_of

    chosen = options.get("scheduling_strategy")
    if isinstance(chosen, PlacementGroupSchedulingStrategy):
        group, captures = chosen.placement_group, chosen.placement_group_capture_child_tasks
    elif chosen is not None:
        return None, False
    else:
        named = options.get("placement_group", "default")
        group = named if isinstance(named, PlacementGroup) else None
        captures = options.get("placement_group_capture_child_tasks")
        if named == "default" and captured is not None:
            group, captures = placement_group_of(captured), True if captures is None else captures
    if group is None or group.is_empty:
        return None, False
    return group, captured is not None if captures is None else captures


def _bundle_index(options: Mapping[str, Any]) -> int:
    chosen = options.get("scheduling_strategy")
    if isinstance(chosen, PlacementGroupSchedulingStrategy):
        index: int = chosen.placement_group_bundle_index if chosen.placement_group is not None else ANY_BUNDLE
    else:
        index = options.get("placement_group_bundle_index", ANY_BUNDLE)
    return index


def _check_fits(group: "PlacementGroup", index: int, title: str, wanted: ResourceSet) -> None:
    bundles = group.bundle_specs
    if not -1 <= index < len(bundles):
        raise ValueError(
            f"the placement group has no bundle {index}: its bundles are 0 to {len(bundles) - 1}, "
            "and -1 means any"
        )
    possible = bundles if index == ANY_BUNDLE else [bundles[index]]
    if not any(wanted.fits(ResourceSet.of(bundle)) for bundle in possible):
        which = "any bundle of the placement group" if index == ANY_BUNDLE else f"bundle {index}"
        raise ValueError(
            f"{title} cannot run in the placement group: it needs {wanted}, which does not fit into {which}: "
            f"{possible}"
        )


def _labels(options: Mapping[str, Any]) -> tuple[Labels, tuple[Labels, ...], Labels]:
    required: dict[str, str] = dict(options.get("label_selector", {}))
    preferred: dict[str, str] = {}
    chosen = options.get("scheduling_strategy")
    if isinstance(chosen, NodeLabelSchedulingStrategy):
        required |= {key: _condition(key, operator) for key, operator in chosen.hard.items()}
        preferred = {key: _condition(key, operator) for key, operator in chosen.soft.items()}
    fallbacks = tuple(
        tuple(sorted(one.get("label_selector", {}).items())) for one in options.get("fallback_strategy", ())
    )
    return tuple(sorted(required.items())), fallbacks, tuple(sorted(preferred.items()))


def _condition(key: str, operator: LabelOperator) -> str:
    """Write an operator as a condition of `aktis._common.labels`."""
    check_key(key)
    if isinstance(operator, In | NotIn):
        for value in operator.values:
            check_value(key, value)
        return f"{'!' if isinstance(operator, NotIn) else ''}in({','.join(operator.values)})"
    assert isinstance(operator, Exists | DoesNotExist)
    return "exists()" if isinstance(operator, Exists) else "!exists()"
