"""What each job's fair share is, and who has to give leases back. Pure functions.

The share of a job is its dominant share: of the resource it holds most of, the fraction of the node
(Ghodsi et al., *Dominant Resource Fairness*, NSDI 2011).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from aktisd.raylet.resources import Amounts


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands."""

    share: float
    weight: float
    leases: int
    waiting: bool


def dominant_share(held: Amounts, total: Amounts) -> float:
    """The largest fraction of any resource that is held."""
    return max((amount / total[name] for name, amount in held.items() if total.get(name)), default=0.0)


def excess_leases(standings: Mapping[bytes, Standing]) -> dict[bytes, int]:
    """How many leases each job holds beyond its fair share while another waits below its own.

    A job gives only what leaves it at its fair share. With fewer leases than jobs that is never a whole
    lease: then somebody has to wait, and they take turns by giving one.
    """
    total_weight = sum(standing.weight for standing in standings.values())
    needy = [s for s in standings.values() if s.waiting and s.share < s.weight / total_weight]
    if not needy:
        return dict.fromkeys(standings, 0)
    take_turns = any(standing.leases == 0 for standing in needy)
    return {
        job_id: _excess(standing, standing.weight / total_weight, take_turns)
        for job_id, standing in standings.items()
    }


def _excess(standing: Standing, fair_share: float, take_turns: bool) -> int:
    if not standing.leases or standing.share <= fair_share:
        return 0
    count = int((standing.share - fair_share) / (standing.share / standing.leases) + 1e-9)
    return max(count, 1) if take_turns else count
