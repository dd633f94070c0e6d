"""Whether tasks of a lease request may run on this node at all. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from aktis._common.ids import short
from aktis._common.labels import violated
from aktis._proto import raylet_pb2

from aktisd.raylet.resources import Ledger


@dataclass(frozen=True, slots=True)
class Objection:
    """Why not."""

    reason: str
    final: bool
    """Waiting cannot help: the tasks fail."""


@dataclass(frozen=True, slots=True)
class Eligibility:
    """What a node is known by."""

    node_id: bytes
    node_name: str
    labels: Mapping[str, str]
    ledger: Ledger

    def objection(self, request: raylet_pb2.RequestLeases) -> Objection | None:
        """Why the tasks must not run here, or None."""
        strategy = request.strategy
        if strategy.node_id and not strategy.soft:
            return self._against_affinity(strategy.node_id, dict(request.resources.amounts))
        selectors = [dict(request.label_selector), *(dict(s.conditions) for s in strategy.fallbacks)]
        lacking = [violated(self.labels, selector) for selector in selectors]
        if not all(lacking):
            return None
        reasons = " or ".join(", ".join(one) for one in lacking)
        return Objection(f"no node can ever serve it: node {self.node_name}: {reasons}", final=False)

    def _against_affinity(self, node_id: bytes, amounts: Mapping[str, int]) -> Objection | None:
        if node_id != self.node_id:
            return Objection(f"node {short(node_id)}, where they must run, is not in the cluster", final=True)
        if phrases := self.ledger.lacking_ever(amounts):
            message = f"node {self.node_name}, where they must run, can never serve them"
            return Objection(f"{message}: {', '.join(phrases)}", final=True)
        return None
