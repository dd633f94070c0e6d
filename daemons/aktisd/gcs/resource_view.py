"""What each connected node has, as the raylets report it, and what is promised but not yet reported.

A report is the raylet's truth and replaces the one before. From the decision to start an actor until it
runs its resources count as *promised* on that node, and from then as *unreported* until a report can contain
them, so that two decisions in a row do not give away the same thing. A raylet that had no room after all is
passed over until its next report. Reports are sent on changes only; a heartbeat stands for the one that was
not worth sending, so that neither state lasts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from aktis._common.resources import ResourceSet

EMPTY = ResourceSet()


@dataclass(slots=True)
class NodeResources:
    """One node's part of the view."""

    node_id: bytes
    hostname: str
    total: ResourceSet
    available: ResourceSet
    labels: Mapping[str, str]
    promised: ResourceSet = EMPTY
    unreported: ResourceSet = EMPTY
    reports: int = 0
    """How many reports have come."""
    actors: int = 0
    full: bool = False
    """The raylet refused a start since its last report."""
    asked: bool = False
    """It was told since its last report that somebody waits for room."""
    bundle: int = -1
    """Which bundle of a placement group this is; -1: a node."""

    def free(self) -> ResourceSet:
        """Return what is neither used nor promised; nothing when the raylet refused."""
        if self.full:
            return EMPTY
        taken = self.promised + self.unreported
        return self.available - (taken - taken.missing(self.available)) if taken else self.available

    def has_room(self, demand: ResourceSet) -> bool:
        """Say whether the demand fits beside what is promised."""
        return not self.full and (demand + self.promised + self.unreported).fits(self.available)


@dataclass(slots=True)
class ResourceView:
    """The connected nodes. `version` grows whenever a demand that did not fit before could fit now."""

    version: int = 1
    _nodes: dict[bytes, NodeResources] = field(default_factory=dict)

    def __iter__(self) -> Iterator[NodeResources]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, node_id: bytes) -> NodeResources | None:
        """Return a node, ``None`` when it is not connected."""
        return self._nodes.get(node_id)

    def add(self, node: NodeResources, key: bytes = b"") -> None:
        """Enter a node that has connected; a newer entry replaces an older one with its promises.

        Args:
            key: by what the other methods name it, if not by its id.
        """
        self._nodes[key or node.node_id] = node
        self.version += 1

    def remove(self, node_id: bytes) -> None:
        """Forget a node that has disconnected or died."""
        if self._nodes.pop(node_id, None) is not None:
            self.version += 1

    def report(self, node_id: bytes, total: ResourceSet, available: ResourceSet) -> None:
        """Take over what a raylet reported."""
        node = self._nodes.get(node_id)
        if node is not None:
            node.total, node.available = total, available
            node.reports += 1
            node.full, node.asked, node.unreported = False, False, EMPTY
            self.version += 1

    def heartbeat(self, node_id: bytes) -> None:
        """Trust the last report again: by now the raylet would have sent another one."""
        node = self._nodes.get(node_id)
        if node is not None:
            node.asked = False
            if node.full or node.unreported:
                node.full, node.unreported = False, EMPTY
                self.version += 1

    def promise(self, node_id: bytes, demand: ResourceSet) -> int:
        """Count an actor that is about to start; return the number of reports so far, for `settle`."""
        node = self._nodes.get(node_id)
        if node is None:
            return 0
        node.promised += demand
        node.actors += 1
        return node.reports

    def settle(self, node_id: bytes, demand: ResourceSet, *, started: bool, reports: int) -> None:
        """End a promise: the actor runs, or does not.

        Args:
            reports: what `promise` returned.
        """
        node = self._nodes.get(node_id)
        if node is None:
            return
        node.promised -= demand
        node.actors -= 1
        if started and node.reports == reports:
            node.unreported += demand
        else:
            self.version += bool(demand)

    def reserve(self, node: NodeResources, demand: ResourceSet) -> None:
        """Count bundles that a raylet is asked to prepare."""
        node.promised += demand

    def reserved(self, node: NodeResources, demand: ResourceSet, *, held: bool) -> None:
        """End `reserve`: the raylet holds them, and says so before any report in which they are; or does not.

        ``node`` may have been replaced by a newer entry, which then knows by itself.
        """
        node.promised -= demand
        if held:
            node.unreported += demand
        else:
            self.version += 1

    def ask_for_room(self) -> list[bytes]:
        """Return the nodes that have not been told since their last report that somebody waits for room."""
        nodes = [node for node in self if not node.asked]
        for node in nodes:
            node.asked = True
        return [node.node_id for node in nodes]

    def occupy(self, node_id: bytes) -> None:
        """Count an actor that runs there."""
        node = self._nodes.get(node_id)
        if node is not None:
            node.actors += 1

    def leave(self, node_id: bytes) -> None:
        """Count an actor that no longer runs there."""
        node = self._nodes.get(node_id)
        if node is not None:
            node.actors -= 1

    def refuse(self, node_id: bytes) -> None:
        """Pass the node over until its next report."""
        node = self._nodes.get(node_id)
        if node is not None:
            node.full = True
