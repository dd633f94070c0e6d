"""Which node each bundle of a group goes to: pure functions of what the nodes have.

Choosing is exact for STRICT_PACK and STRICT_SPREAD (a choice is found whenever there is one). PACK and SPREAD
are greedy, largest bundle first: finding the fewest nodes is bin packing.
"""

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from aktis._common.labels import violated
from aktis._common.resources import ResourceSet
from aktis._proto import common_pb2, gcs_pb2

Spec = gcs_pb2.PlacementGroupSpec
StrategyValue: TypeAlias = "gcs_pb2.PlacementGroupSpec.Strategy.ValueType"
Assignment = dict[int, bytes]
"""Node by the index of the bundle."""

EXPLAINED_NODES = 8


@dataclass(frozen=True)
class Wish:
    """What one bundle asks of its node."""

    resources: ResourceSet
    labels: tuple[tuple[str, str], ...] = ()

    @functools.cached_property
    def encoded(self) -> common_pb2.Resources:
        """The resources as raylets are told of them."""
        return self.resources.to_proto()


@dataclass(slots=True)
class Room:
    """One node, and what is left of it while bundles are given out."""

    node_id: bytes
    name: str
    """For messages to people."""
    total: ResourceSet
    free: ResourceSet
    labels: Mapping[str, str]

    def takes(self, wish: Wish) -> bool:
        """Say whether the bundle could go here now."""
        return wish.resources.fits(self.free) and self.suits(wish)

    def suits(self, wish: Wish) -> bool:
        """Say whether the node has the labels."""
        return not wish.labels or not violated(self.labels, dict(wish.labels))

    def used_share(self, extra: ResourceSet) -> float:
        """Return the largest used fraction of a resource of ``extra``, with ``extra`` in use too."""
        return max(
            (1 - (self.free[name] - amount) / self.total[name] for name, amount in extra.items()), default=0.0
        )


def assign(
    strategy: StrategyValue, wishes: Mapping[int, Wish], rooms: Sequence[Room], kept: Assignment
) -> Assignment | None:
    """Return a node for every bundle, ``None`` when there is no room for all. ``rooms`` are used up.

    Args:
        kept: Where bundles of the group are that stay where they are.
    """
    if len(rooms) == 1 and len(wishes) == 1 and not kept:  # nothing to choose
        ((index, wish),), (room,) = wishes.items(), rooms
        if not room.takes(wish):
            return None
        room.free -= wish.resources
        return {index: room.node_id}
    policy = {
        Spec.STRICT_PACK: _strict_pack,
        Spec.STRICT_SPREAD: _strict_spread,
        Spec.SPREAD: _spread,
    }.get(strategy, _pack)
    return policy(wishes, rooms, kept)


def is_feasible(
    strategy: StrategyValue, wishes: Mapping[int, Wish], rooms: Iterable[Room], kept: Assignment
) -> bool:
    """Say whether the nodes could hold the group if nothing else were on them."""
    empty = [Room(room.node_id, room.name, room.total, room.total, room.labels) for room in rooms]
    return assign(strategy, wishes, empty, kept) is not None


def explain(
    strategy: StrategyValue, wishes: Mapping[int, Wish], rooms: Sequence[Room], kept: Assignment
) -> str:
    """Say what the nodes lack for a group that `assign` finds no room for."""
    if not rooms:
        return "no node is connected to the GCS"
    if strategy == Spec.STRICT_SPREAD and len(wishes) + len(kept) > len(rooms):
        return (
            f"STRICT_SPREAD needs a node for each of its {len(wishes) + len(kept)} bundles, and the cluster "
            f"has {len(rooms)}"
        )
    if strategy == Spec.STRICT_PACK:
        needed = total(wish.resources for wish in wishes.values())
        labels = tuple(condition for wish in wishes.values() for condition in wish.labels)
        return f"STRICT_PACK needs {needed} on one node; {_per_node(Wish(needed, labels), rooms)}"
    for index, wish in _largest_first(wishes, rooms):
        if not any(room.takes(wish) for room in rooms):
            return f"bundle {index} needs {wish.resources}; {_per_node(wish, rooms)}"
    needed = total(wish.resources for wish in wishes.values())
    return f"each bundle would fit, but not all: they need {needed}; {_per_node(Wish(needed), rooms)}"


# ---- the policies ----


def _strict_pack(wishes: Mapping[int, Wish], rooms: Sequence[Room], kept: Assignment) -> Assignment | None:
    needed = total(wish.resources for wish in wishes.values())
    anchors = set(kept.values())
    fitting = [
        room
        for room in rooms
        if needed.fits(room.free)
        and all(room.suits(wish) for wish in wishes.values())
        and (not anchors or anchors == {room.node_id})
    ]
    if not fitting:
        return None
    fullest = max(fitting, key=lambda room: room.used_share(needed))  # larger gaps are kept for larger groups
    fullest.free -= needed
    return dict.fromkeys(wishes, fullest.node_id)


def _strict_spread(wishes: Mapping[int, Wish], rooms: Sequence[Room], kept: Assignment) -> Assignment | None:
    """Match bundles and nodes; a bundle may push earlier ones to other nodes (augmenting paths)."""
    occupied = set(kept.values())
    open_rooms = [room for room in rooms if room.node_id not in occupied]
    bundle_at: dict[bytes, int] = {}

    def settle(index: int, tried: set[bytes]) -> bool:
        for room in sorted(open_rooms, key=lambda room: room.node_id in bundle_at):
            if room.node_id in tried or not room.takes(wishes[index]):
                continue
            tried.add(room.node_id)
            if room.node_id not in bundle_at or settle(bundle_at[room.node_id], tried):
                bundle_at[room.node_id] = index
                return True
        return False

    if len(wishes) > len(open_rooms):
        return None
    for index, _ in _largest_first(wishes, rooms):
        if not settle(index, set()):
            return None
    for room in open_rooms:
        if room.node_id in bundle_at:
            room.free -= wishes[bundle_at[room.node_id]].resources
    return {index: node_id for node_id, index in bundle_at.items()}


def _spread(wishes: Mapping[int, Wish], rooms: Sequence[Room], kept: Assignment) -> Assignment | None:
    held = Counter(kept.values())
    assignment: Assignment = {}
    for index, wish in _largest_first(wishes, rooms):
        fitting = [room for room in rooms if room.takes(wish)]
        if not fitting:
            return None
        best = min(fitting, key=lambda room: (held[room.node_id], room.used_share(wish.resources)))
        best.free -= wish.resources
        held[best.node_id] += 1
        assignment[index] = best.node_id
    return assignment


def _pack(wishes: Mapping[int, Wish], rooms: Sequence[Room], kept: Assignment) -> Assignment | None:
    """Fill the node that takes most of what is left, until nothing is; nodes of the group come first."""
    home = set(kept.values())
    left = dict(_largest_first(wishes, rooms))
    assignment: Assignment = {}
    while left:
        fills = [(_fill(left, room), room) for room in rooms]
        taken, best = max(
            fills,
            key=lambda fill: (fill[1].node_id in home and bool(fill[0]), len(fill[0])),
            default=([], None),
        )
        if best is None or not taken:
            return None
        for index in taken:
            best.free -= left.pop(index).resources
            assignment[index] = best.node_id
    return assignment


def _fill(wishes: Mapping[int, Wish], room: Room) -> list[int]:
    """Return which bundles a node takes, in the order given."""
    free, taken = room.free, []
    for index, wish in wishes.items():
        if wish.resources.fits(free) and room.suits(wish):
            free -= wish.resources
            taken.append(index)
    return taken


# ---- parts ----


def _largest_first(wishes: Mapping[int, Wish], rooms: Sequence[Room]) -> list[tuple[int, Wish]]:
    if len(wishes) == 1:  # the most common case by far
        return list(wishes.items())
    most: Counter[str] = Counter()
    for room in rooms:
        for name, amount in room.total.items():
            most[name] = max(most[name], amount)

    def size(item: tuple[int, Wish]) -> float:
        return max((amount / (most[name] or 1) for name, amount in item[1].resources.items()), default=0.0)

    return sorted(wishes.items(), key=size, reverse=True)


def total(parts: Iterable[ResourceSet]) -> ResourceSet:
    """Return the sum."""
    first, *others = parts
    if not others:
        return first
    amounts = Counter(first)
    for part in others:
        amounts.update(part)
    return ResourceSet(amounts)


def _per_node(wish: Wish, rooms: Sequence[Room]) -> str:
    lines = [f"{room.name} {_lack(wish, room)}" for room in rooms]
    more = len(lines) - EXPLAINED_NODES
    return "; ".join(lines[:EXPLAINED_NODES]) + (f"; and {more} more nodes" if more > 0 else "")


def _lack(wish: Wish, room: Room) -> str:
    if wrong := violated(room.labels, dict(wish.labels)):
        return f"does not suit: {', '.join(wrong)}"
    if never := wish.resources.missing(room.total):
        return f"has {never} too little in all"
    missing = wish.resources.missing(room.free)
    return f"waits for {missing} to become free" if missing else "has room"
