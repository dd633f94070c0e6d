"""The scheduler's tables: what clients want, what they hold, the scratch pad of one dispatch. Pure data."""

from collections import Counter, deque
from dataclasses import dataclass, field

from aktisd.raylet.messages import GrantedLease
from aktisd.raylet.resources import Amounts, Headroom, Ledger
from aktisd.raylet.workers import Worker

DemandKey = tuple[bytes, int]
Shape = tuple[object, ...]
"""Where leases are drawn from and how much each takes."""


@dataclass(slots=True, eq=False)
class Demand:
    """What a client wants of one class."""

    client: bytes
    class_key: int
    job_id: bytes
    amounts: Amounts
    name: str
    wanted: int
    backlog: int
    group: bytes = b""
    """The placement group that it draws from; empty: none."""
    bundle_index: int = -1
    held: int = 0
    told: bool = False
    """The client knows why waiting may not help."""
    judged_at: int | None = None
    """Version of the node's totals, or of the group's bundles, for which ``infeasible`` was found."""
    infeasible: bool = False
    passed_over: int = 0
    """Grants made to others while it did not fit."""
    hold_until: float = 0.0
    environment: str = ""
    priority: int = 0
    """Higher goes first among the demands of one job."""
    key: DemandKey = field(init=False)
    """Its place in the tables."""
    shape: Shape = field(init=False)
    """Demands of one shape fit or do not fit together."""

    def __post_init__(self) -> None:
        self.key = (self.client, self.class_key)
        self.ask_for(self.amounts)

    def ask_for(self, amounts: Amounts) -> None:
        """Want leases of this size from now on."""
        self.amounts, self.told, self.judged_at = amounts, False, None
        self.shape = (self.group, self.bundle_index, *sorted(amounts.items()))


@dataclass(slots=True, eq=False)
class Lease:
    """One worker in the hands of one client."""

    lease_id: int
    demand: Demand
    worker: Worker
    granted_at: float
    depth: int = 0
    """How many tasks the one that runs on it is nested in."""
    reserved: bool = False
    """It draws from a placement group: no other job could have what it holds."""


@dataclass(slots=True, eq=False)
class Client:
    """A process that asks for leases."""

    demands: dict[int, Demand] = field(default_factory=dict)
    leases: dict[int, Lease] = field(default_factory=dict)
    asked_excess: int | None = None
    """The last AskReclaim, None when the next one must be sent."""


@dataclass(slots=True, eq=False)
class JobQueue:
    """A job's waiting demands, next first, and what its leases hold."""

    waiting: dict[DemandKey, Demand] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    """Without what is reserved by placement groups anyway."""
    leases: int = 0
    reserved_leases: int = 0
    served: int = 0
    """Number of the grant that served it last."""


@dataclass(slots=True)
class Turn:
    """A job's demands in one dispatch; the urgent ones (of blocked workers) go first."""

    urgent: deque[Demand] = field(default_factory=deque)
    normal: deque[Demand] = field(default_factory=deque)

    def line_up(self, demand: Demand) -> None:
        """Put a demand behind those that are not less urgent than it."""
        waiting = self.normal
        place = len(waiting)
        while place and waiting[place - 1].priority < demand.priority:
            place -= 1
        waiting.insert(place, demand)


@dataclass(slots=True)
class Round:
    """The scratch pad of one dispatch."""

    headrooms: dict[int, Headroom] = field(default_factory=dict)
    """By the identity of the ledger."""
    starts: Counter[str] = field(default_factory=Counter)
    """Workers that are to be started, by template."""
    turns: dict[bytes, Turn] = field(default_factory=dict)
    grants: dict[DemandKey, list[GrantedLease]] = field(default_factory=dict)
    reserved: dict[DemandKey, int] = field(default_factory=dict)
    unfit: dict[DemandKey, Demand] = field(default_factory=dict)
    workerless: dict[DemandKey, Demand] = field(default_factory=dict)
    full: set[Shape] = field(default_factory=set)
    """What was found not to fit any more."""

    def headroom(self, ledger: Ledger) -> Headroom:
        """The scratch copy of a ledger."""
        room = self.headrooms.get(id(ledger))
        if room is None:
            room = self.headrooms[id(ledger)] = ledger.headroom()
        return room

    def left(self, demand: Demand) -> int:
        """How many leases of the demand are neither granted nor waiting for a worker that starts."""
        key = demand.key
        if key in self.unfit or key in self.workerless:
            return 0
        return demand.wanted - self.reserved.get(key, 0)
