"""The bundles of placement groups as actors see them: small nodes, in a resource view per group.

So an actor is placed in a bundle by what places it on a node, with the same promises and explanations.
Raylets report only bundles of which something is used; all others are free. Groups in which no actor was ever
to be placed cost nothing here.
"""

from collections.abc import Callable, Iterable

from aktis._common.resources import ResourceSet
from aktis._proto import gcs_pb2

from aktisd.gcs.resource_view import NodeResources, ResourceView


class BundleViews:
    """Views by group. Belongs to the event loop's thread.

    Args:
        bundles: returns the bundles that a group has now, ``None`` when there is no such group.
    """

    def __init__(self, bundles: Callable[[bytes], Iterable[NodeResources] | None]) -> None:
        self._bundles = bundles
        self._views: dict[bytes, ResourceView] = {}

    def view(self, group_id: bytes) -> ResourceView | None:
        """Return the bundles of a group that exist now, ``None`` when there is no such group."""
        view = self._views.get(group_id)
        if view is None and (bundles := self._bundles(group_id)) is not None:
            view = self._views[group_id] = ResourceView()
            for bundle in bundles:
                view.add(bundle, bundle_key(bundle.bundle))
        return view

    def close(self, group_id: bytes) -> None:
        """Forget a group that was removed."""
        self._views.pop(group_id, None)

    def is_watched(self, group_id: bytes) -> bool:
        """Whether an actor was ever to be placed in the group: others need not be kept up to date."""
        return group_id in self._views

    def add(self, group_id: bytes, bundle: NodeResources) -> None:
        """Enter a bundle of a watched group, or what is newly known of it."""
        self._views[group_id].add(bundle, bundle_key(bundle.bundle))

    def remove(self, group_id: bytes, index: int) -> None:
        """A bundle was lost with its node."""
        if group_id in self._views:
            self._views[group_id].remove(bundle_key(index))

    def report(self, node_id: bytes, used: Iterable[gcs_pb2.BundleUsage]) -> None:
        """Take over what a raylet reported."""
        if not self._views:
            return
        available = {
            (usage.placement_group_id, usage.index): ResourceSet.from_proto(usage.available) for usage in used
        }
        for group_id, view in self._views.items():
            for bundle in view:
                if bundle.node_id == node_id:
                    free = available.get((group_id, bundle.bundle), bundle.total)
                    view.report(bundle_key(bundle.bundle), bundle.total, free)

    def heartbeat(self, node_id: bytes) -> None:
        """See `ResourceView.heartbeat`."""
        for view in self._views.values():
            for bundle in view:
                if bundle.node_id == node_id:
                    view.heartbeat(bundle_key(bundle.bundle))


def bundle_key(index: int) -> bytes:
    """Return the key of a bundle in its group's view."""
    return index.to_bytes(4, "big")
