"""Which node an actor goes to: a pure function of the resource view, and the words for when there is none."""

import random
from collections.abc import Iterable

from aktis._common import ids
from aktis._common.resources import ResourceSet

from aktisd.gcs.actors.record import Demand
from aktisd.gcs.resource_view import NodeResources, ResourceView

SAMPLE = 64
"""In a larger cluster a random sample is tried before all nodes are, so that a decision costs the same."""
EXPLAINED_NODES = 8


def choose(demand: Demand, view: ResourceView, rng: random.Random) -> NodeResources | None:
    """Return the least loaded node that has room, ``None`` when no connected node has."""
    nodes = list(view)
    if len(nodes) > SAMPLE:
        best = _best(demand, rng.sample(nodes, SAMPLE), rng)
        if best is not None:
            return best
    return _best(demand, nodes, rng)


def is_feasible(demand: Demand, view: ResourceView) -> bool:
    """Say whether some connected node could hold the actor if nothing else were on it."""
    return any(_could_hold(demand, node) for node in view)


def explain(demand: Demand, view: ResourceView) -> str:
    """Say per node what it lacks for the demand."""
    lines = [f"{_name(node)}: {_lack(demand, node)}" for node in view]
    if not lines:
        return "no node is connected to the GCS"
    more = len(lines) - EXPLAINED_NODES
    return "; ".join(lines[:EXPLAINED_NODES]) + (f"; and {more} more nodes" if more > 0 else "")


def label_matches(wanted: str, actual: str | None) -> bool:
    """Say whether a node's label has a wanted value.

    ``value`` must be equal, ``in(a, b)`` one of them; a leading ``!`` turns either around.

    >>> label_matches("in(a100, h100)", "h100"), label_matches("!h100", None)
    (True, True)
    """
    if wanted.startswith("!"):
        return not label_matches(wanted[1:], actual)
    if wanted.startswith("in(") and wanted.endswith(")"):
        return actual in [value.strip() for value in wanted[3:-1].split(",")]
    return actual == wanted


def _best(demand: Demand, nodes: Iterable[NodeResources], rng: random.Random) -> NodeResources | None:
    fitting = [node for node in nodes if node.has_room(demand.resources) and _could_hold(demand, node)]
    if len(fitting) < 2:
        return fitting[0] if fitting else None
    return min(fitting, key=lambda node: (*_load(demand, node), rng.random()))


def _could_hold(demand: Demand, node: NodeResources) -> bool:
    return (
        demand.resources.fits(node.total)
        and demand.placement.fits(node.total)
        and all(label_matches(wanted, node.labels.get(label)) for label, wanted in demand.labels)
    )


def _load(demand: Demand, node: NodeResources) -> tuple[bool, float, int]:
    busy = not node.has_room(demand.placement)
    used = [
        (node.total[name] - node.available[name] + node.promised[name] + amount) / node.total[name]
        for name, amount in demand.resources.items()
    ]
    return busy, max(used, default=0.0), node.actors


def _lack(demand: Demand, node: NodeResources) -> str:
    for label, wanted in demand.labels:
        actual = node.labels.get(label)
        if not label_matches(wanted, actual):
            return f"its label {label} is {actual!r}, wanted {wanted!r}"
    if not _could_hold(demand, node):
        missing = demand.resources.missing(node.total) or demand.placement.missing(node.total)
        return f"has {missing} too little in all"
    if node.full:
        return "refused a start for lack of room and has not reported since"
    missing = (demand.resources + node.promised).missing(node.available)
    return f"waits for {missing} to become free" if missing else "has room"


def _name(node: NodeResources) -> str:
    return f"node {ids.short(node.node_id)} ({node.hostname})"


def describe(demand: Demand) -> str:
    """Return the demand in words."""
    wanted = [str(demand.resources)] if demand.resources else []
    if demand.placement and demand.placement != demand.resources:
        wanted.append(f"a node with {demand.placement}")
    wanted += [f"label {label}={value}" for label, value in demand.labels]
    return ", ".join(wanted) or str(ResourceSet())
