"""Placement groups: resources reserved together, on one node or over several.

Importing this is cheap: what needs a session is imported when it is used.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from aktis._runtime.ids import PlacementGroupID

if TYPE_CHECKING:
    from aktis._core import ObjectRef
    from aktis._proto import gcs_pb2

__all__ = [
    "PlacementGroup",
    "get_current_placement_group",
    "get_placement_group",
    "placement_group",
    "placement_group_table",
    "remove_placement_group",
]

STRATEGIES: Final = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


class PlacementGroup:
    """A handle to a placement group; it can be passed to tasks and actors, and stored. Equal by id."""

    def __init__(
        self,
        id: PlacementGroupID,  # noqa: A002  the name is part of the API to be compatible with
        bundle_cache: list[dict[str, float]] | None = None,
    ) -> None:
        """Wrap an id; `placement_group` and `get_placement_group` make handles."""
        self.id = id
        self._bundles = bundle_cache

    @staticmethod
    def empty() -> "PlacementGroup":
        """Return a handle to no group."""
        return PlacementGroup(PlacementGroupID.nil(), [])

    @property
    def is_empty(self) -> bool:
        """Whether it is a handle to no group."""
        return self.id.is_nil()

    def ready(self) -> "ObjectRef[PlacementGroup]":
        """Return a reference that is ready when everything is reserved; its value is this handle.

        ``get`` raises ``TaskPlacementGroupRemoved`` if the group is removed before.
        """
        from aktis._runtime import current

        return current.require().groups.ready(self.id.binary())

    def wait(self, timeout_seconds: float | None = 30) -> bool:
        """Wait until everything is reserved; False when the time is up (None: there is no limit).

        Raises:
            ValueError: the time is negative.
            TaskPlacementGroupRemoved: the group was removed.
        """
        from aktis._runtime import current

        if timeout_seconds is not None and timeout_seconds < 0:
            raise ValueError(f"timeout_seconds must not be negative, got {timeout_seconds!r}")
        timeout_s = -1.0 if timeout_seconds is None else timeout_seconds
        return current.require().groups.wait(self.id.binary(), timeout_s)

    @property
    def bundle_specs(self) -> list[dict[str, float]]:
        """The bundles, each as amounts by resource name."""
        if self._bundles is None:
            from aktis._runtime import current

            self._bundles = bundles_of(current.require().groups.describe(self.id.binary()))
        return self._bundles

    @property
    def bundle_count(self) -> int:
        """How many bundles it has."""
        return len(self.bundle_specs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroup) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"PlacementGroup({self.id.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Whoever gets it may ask the GCS at once: the GCS must know it by then.
        from aktis._runtime import current

        if current.session is not None and not self.is_empty:
            current.session.groups.confirm(self.id.binary())
        return (PlacementGroup, (self.id, self._bundles))


def placement_group(
    bundles: Sequence[Mapping[str, float]],
    strategy: str | None = None,
    name: str = "",
    lifetime: str | None = None,
    _soft_target_node_id: str | None = None,
    bundle_label_selector: Sequence[Mapping[str, str]] | None = None,
    topology_strategy: Mapping[str, str] | None = None,
) -> PlacementGroup:
    """Reserve resources; returns at once, `PlacementGroup.ready` and `wait` tell when they are reserved.

    Args:
        bundles: What each bundle holds, for example ``[{"CPU": 1, "GPU": 1}, {"CPU": 2}]``. A bundle is
            never split between nodes.
        strategy: ``"PACK"`` (the default): on as few nodes as possible; ``"SPREAD"``: on as many as
            possible; ``"STRICT_PACK"``: on one node; ``"STRICT_SPREAD"``: each bundle on another node.
        name: To find it by `get_placement_group`, unique in the namespace.
        lifetime: ``"detached"``: it stays until it is removed; None: it ends with this program.
        _soft_target_node_id: Accepted for compatibility, and refused if set.
        bundle_label_selector: Conditions on the labels of each bundle's node, as in ``label_selector``.
        topology_strategy: Accepted for compatibility, and refused if set.

    Raises:
        ValueError: an argument is not valid, or the name is taken.
        TypeError: an argument has the wrong type.

    Example:
        >>> group = placement_group([{"CPU": 1}], strategy="STRICT_PACK")
        >>> group.wait(timeout_seconds=30)
        True
        >>> remove_placement_group(group)
    """
    from aktis._runtime import current
    from aktis._runtime.group_spec import spec_of

    if _soft_target_node_id is not None:
        raise ValueError("_soft_target_node_id is not there in this version")
    if topology_strategy is not None:
        raise ValueError(
            "topology_strategy is not there in this version: bundle_label_selector chooses nodes by labels"
        )
    spec = spec_of(bundles, strategy or "PACK", name, lifetime, bundle_label_selector)
    session = current.require()
    spec.placement_group_id = os.urandom(PlacementGroupID.SIZE_BYTES)
    spec.job_id, spec.namespace = session.job_id, session.namespace
    spec.owner.CopyFrom(session.process_address())
    session.groups.create(spec)
    kept = [{key: float(value) for key, value in bundle.items()} for bundle in bundles]
    return PlacementGroup(PlacementGroupID(spec.placement_group_id), kept)


def remove_placement_group(placement_group: PlacementGroup) -> None:
    """Give everything back that a group has reserved, and kill the tasks and actors that use it.

    Does not wait for that. A group that is removed already stays so.

    Raises:
        TypeError: not a placement group.
    """
    from aktis._runtime import current

    if not isinstance(placement_group, PlacementGroup):
        raise TypeError(
            f"remove_placement_group() takes a PlacementGroup, got {type(placement_group).__name__} "
            f"{placement_group!r}"
        )
    if not placement_group.is_empty:
        current.require().groups.remove(placement_group.id.binary())


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """Return the group of this namespace that has a name.

    Raises:
        ValueError: no living group has it.
        TypeError: the name is not a str.
    """
    from aktis._runtime import current

    if not isinstance(placement_group_name, str):
        raise TypeError(
            f"get_placement_group() takes a str, got {type(placement_group_name).__name__} "
            f"{placement_group_name!r}"
        )
    if not placement_group_name:
        raise ValueError("get_placement_group() needs a name that is not empty")
    session = current.require()
    group = session.groups.find(placement_group_name, session.namespace)
    if group is None:
        raise ValueError(
            f"no placement group named {placement_group_name!r} is there in namespace "
            f"{session.namespace!r}: it may have been removed, never have been created, or be in another "
            "namespace (see init(namespace=...))"
        )
    return PlacementGroup(PlacementGroupID(group.spec.placement_group_id), bundles_of(group))


def placement_group_table(placement_group: PlacementGroup | None = None) -> dict[str, Any]:
    """Describe a group, or all groups by their id in hexadecimal.

    Returns:
        ``placement_group_id``, ``name``, ``bundles`` (by index), ``bundles_to_node_id`` (by index, "" while
        it has none), ``strategy``, ``state`` (PENDING, CREATED, RESCHEDULING, REMOVED), ``stats``, and why it
        waits: ``pending_reason``. Empty for a group that the cluster does not remember.
    """
    from aktis._runtime import current
    from aktis._runtime.group_spec import describe

    groups = current.require().groups
    if placement_group is None:
        return {group.spec.placement_group_id.hex(): describe(group) for group in groups.list()}
    found = groups.look_up(placement_group.id.binary())
    return {} if found is None else describe(found)


def get_current_placement_group() -> PlacementGroup | None:
    """Return the group that the running task or actor is in; None in a driver and outside of groups."""
    from aktis._runtime import execution

    group_id = execution.current_group()
    return placement_group_of(group_id) if group_id else None


def placement_group_of(group_id: bytes) -> PlacementGroup:
    """Return a handle by the raw id."""
    return PlacementGroup(PlacementGroupID(group_id))


def bundles_of(group: "gcs_pb2.PlacementGroup") -> list[dict[str, float]]:
    """Return the bundles of a group as users write them."""
    from aktis._common.resources import ResourceSet

    return [ResourceSet.from_proto(bundle.resources).to_floats() for bundle in group.spec.bundles]
