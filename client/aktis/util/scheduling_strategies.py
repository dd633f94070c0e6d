"""Where a task or an actor is to run: values of the option ``scheduling_strategy``.

Besides these, the texts ``"DEFAULT"`` and ``"SPREAD"`` are strategies.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from aktis.util.placement_group import PlacementGroup

__all__ = [
    "DoesNotExist",
    "Exists",
    "In",
    "LabelMatchExpressionsT",
    "NodeAffinitySchedulingStrategy",
    "NodeLabelSchedulingStrategy",
    "NotIn",
    "PlacementGroupSchedulingStrategy",
    "SchedulingStrategyT",
]


class PlacementGroupSchedulingStrategy:
    """Run inside of a placement group, out of what it has reserved."""

    def __init__(
        self,
        placement_group: "PlacementGroup | None",
        placement_group_bundle_index: int = -1,
        placement_group_capture_child_tasks: bool | None = None,
    ) -> None:
        """Name the group.

        Args:
            placement_group: None: no group, not even that of the caller.
            placement_group_bundle_index: One of its bundles; -1: whichever has room.
            placement_group_capture_child_tasks: Whether what the task or actor submits runs in the group as
                well, unless it names another strategy. None: as it is for the caller.
        """
        self.placement_group = placement_group
        self.placement_group_bundle_index = placement_group_bundle_index
        self.placement_group_capture_child_tasks = placement_group_capture_child_tasks


class NodeAffinitySchedulingStrategy:
    """Run on one node."""

    def __init__(
        self,
        node_id: str,
        soft: bool,
        _spill_on_unavailable: bool = False,
        _fail_on_unavailable: bool = False,
    ) -> None:
        """Name the node.

        Args:
            node_id: Its id in hexadecimal, as `aktis.nodes` lists it.
            soft: Run elsewhere when the node is gone or could never serve it. False: fail then, with
                ``TaskUnschedulableError`` or ``ActorUnschedulableError``.
            _spill_on_unavailable, _fail_on_unavailable: Accepted for compatibility, and refused if set.

        Raises:
            ValueError: not hexadecimal, or what this version cannot do.
            TypeError: an argument has the wrong type.
        """
        if not isinstance(node_id, str):
            raise TypeError(f"node_id must be a str, got {type(node_id).__name__} {node_id!r}")
        try:
            bytes.fromhex(node_id)
        except ValueError:
            raise ValueError(
                f"node_id must be hexadecimal, got {node_id!r}: aktis.nodes() lists the nodes with their ids"
            ) from None
        if not isinstance(soft, bool):
            raise TypeError(f"soft must be True or False, got {type(soft).__name__} {soft!r}")
        if _spill_on_unavailable or _fail_on_unavailable:
            raise ValueError("_spill_on_unavailable and _fail_on_unavailable are not there in this version")
        self.node_id = node_id
        self.soft = soft
        self._spill_on_unavailable = False
        self._fail_on_unavailable = False


class _Values:
    """Values of a label."""

    def __init__(self, *values: str) -> None:
        name = type(self).__name__
        if not values:
            raise ValueError(f'{name}() needs at least one value, as in {name}("a", "b")')
        for value in values:
            if not isinstance(value, str):
                raise ValueError(f"{name}() takes str values, got {type(value).__name__} {value!r}")
        self.values = list(values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.values))})"


class In(_Values):
    """The label has one of these values."""


class NotIn(_Values):
    """The label has none of these values, or the node does not have it."""


class Exists:
    """The node has the label."""

    def __repr__(self) -> str:
        return "Exists()"


class DoesNotExist:
    """The node does not have the label."""

    def __repr__(self) -> str:
        return "DoesNotExist()"


LabelOperator: TypeAlias = In | NotIn | Exists | DoesNotExist
LabelMatchExpressionsT: TypeAlias = Mapping[str, LabelOperator]


class NodeLabelSchedulingStrategy:
    """Run on nodes with certain labels."""

    def __init__(self, hard: LabelMatchExpressionsT, *, soft: LabelMatchExpressionsT | None = None) -> None:
        """Name the conditions.

        Args:
            hard: What must hold, by label.
            soft: What should hold: such nodes come first.

        Raises:
            ValueError: there is no condition, or one that is none.
        """
        self.hard = _checked("hard", hard)
        self.soft = _checked("soft", soft or {})
        if not self.hard and not self.soft:
            raise ValueError("NodeLabelSchedulingStrategy needs a condition: hard and soft are both empty")


def _checked(what: str, expressions: LabelMatchExpressionsT) -> dict[str, LabelOperator]:
    if not isinstance(expressions, Mapping):
        raise ValueError(f"{what} must be a dict of conditions by label, got {expressions!r}")
    for key, operator in expressions.items():
        if not isinstance(key, str):
            raise ValueError(f"{what} must have str keys, got {key!r}")
        if not isinstance(operator, LabelOperator):
            raise ValueError(
                f"{what}[{key!r}] must be In(...), NotIn(...), Exists() or DoesNotExist(), "
                f"got {type(operator).__name__} {operator!r}"
            )
    return dict(expressions)


SchedulingStrategyT: TypeAlias = (
    str
    | PlacementGroupSchedulingStrategy
    | NodeAffinitySchedulingStrategy
    | NodeLabelSchedulingStrategy
    | None
)
