"""Which node an actor goes to: a pure function of the resource view, and the words for when there is none."""

import random
from collections.abc import Iterable

from aktis._common import ids
from aktis._common.labels import satisfies, violated
from aktis._common.resources import ResourceSet

from aktisd.gcs.actors.record import Demand
from aktisd.gcs.resource_view import NodeResources, ResourceView

SAMPLE = 64
"""In a larger cluster a random sample is tried before all nodes are, so that a decision costs the same."""
EXPLAINED_NODES = 8


def choose(demand: Demand, view: ResourceView, rng: random.Random) -> NodeResources | None:
    """Return the least loaded node that has room, ``None`` when no connected node has."""
    nodes = list(view)
    if len(nodes) > SAMPLE and not (demand.affinity or demand.fallbacks or demand.group):
        best = _best(demand, rng.sample(nodes, SAMPLE), rng)
        if best is not None:
            return best
    return _best(demand, nodes, rng)


def is_feasible(demand: Demand, view: ResourceView) -> bool:
    """Say whether some connected node could hold the actor if nothing else were on it."""
    return bool(_eligible(demand, view))


def explain(demand: Demand, view: ResourceView) -> str:
    """Say per node what it lacks for the demand."""
    lines = [f"{_name(node)}: {_lack(demand, node)}" for node in view]
    if not lines:
        return "no node is connected to the GCS"
    more = len(lines) - EXPLAINED_NODES
    return "; ".join(lines[:EXPLAINED_NODES]) + (f"; and {more} more nodes" if more > 0 else "")


def _eligible(demand: Demand, nodes: Iterable[NodeResources]) -> list[NodeResources]:
    """Return the nodes that could hold the actor if nothing else were on them.

    The node of a soft affinity if it could, else as if there were none; where no node satisfies the labels,
    the first of the fallbacks that one does.
    """
    capable = [node for node in nodes if _has_in_all(demand, node)]
    if demand.affinity:
        there = [node for node in capable if node.node_id == demand.affinity]
        if there or not demand.soft:
            return there
    for labels in (demand.labels, *demand.fallbacks):
        suitable = [node for node in capable if satisfies(node.labels, dict(labels))] if labels else capable
        if suitable:
            return suitable
    return []


def _best(demand: Demand, nodes: Iterable[NodeResources], rng: random.Random) -> NodeResources | None:
    fitting = [node for node in _eligible(demand, nodes) if node.has_room(demand.resources)]
    if len(fitting) < 2:
        return fitting[0] if fitting else None
    return min(fitting, key=lambda node: (*_load(demand, node), rng.random()))


def _has_in_all(demand: Demand, node: NodeResources) -> bool:
    return (
        demand.resources.fits(node.total)
        and demand.placement.fits(node.total)
        and demand.bundle in (-1, node.bundle)
    )


def _load(demand: Demand, node: NodeResources) -> tuple[bool, bool, float, int]:
    undesired = bool(demand.preferred) and not satisfies(node.labels, dict(demand.preferred))
    busy = not node.has_room(demand.placement)
    used = [
        (node.total[name] - node.available[name] + node.promised[name] + amount) / node.total[name]
        for name, amount in demand.resources.items()
    ]
    return undesired, busy, max(used, default=0.0), node.actors


def _lack(demand: Demand, node: NodeResources) -> str:
    if demand.bundle not in (-1, node.bundle):
        return f"not bundle {demand.bundle}"
    if demand.is_pinned and node.node_id != demand.affinity:
        return f"not node {ids.short(demand.affinity)}, where it must be"
    if not demand.fallbacks and (wrong := violated(node.labels, dict(demand.labels))):
        return ", ".join(wrong)
    if not _has_in_all(demand, node):
        missing = demand.resources.missing(node.total) or demand.placement.missing(node.total)
        return f"has {missing} too little in all"
    if node.full:
        return "refused a start for lack of room and has not reported since"
    missing = (demand.resources + node.promised).missing(node.available)
    return f"waits for {missing} to become free" if missing else "has room"


def _name(node: NodeResources) -> str:
    bundle = f"bundle {node.bundle} on " if node.bundle >= 0 else ""
    return f"{bundle}node {ids.short(node.node_id)} ({node.hostname})"


def describe(demand: Demand) -> str:
    """Return the demand in words."""
    wanted = [str(demand.resources)] if demand.resources else []
    if demand.placement and demand.placement != demand.resources:
        wanted.append(f"a node with {demand.placement}")
    wanted += [f"label {label}={value}" for label, value in demand.labels]
    return ", ".join(wanted) or str(ResourceSet())
