"""The node's resources and who holds them. Pure; belongs to the raylet's loop.

Amounts are integers in units of 1/10000, so that fractions add up exactly. A *device* resource (GPU) is
made of instances: a request for less than one takes a share of one instance, a request for more takes whole
instances.

Lending: a worker that waits in ``get`` lends its CPU (only its CPU: memory and devices stay occupied by
what it has loaded). When it goes on, it takes the CPU back at once whatever was granted meanwhile, so the
CPU available can be negative for a while; nothing more is granted until it has healed.

Ledgers nest: a bundle of a placement group is an allocation of the node's ledger and a ledger of its own for
those who draw from it (``bundle_ledger``), with the very instances that the bundle was given.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

UNIT = 10_000
CPU = "CPU"
GPU = "GPU"
DEVICES = (GPU,)
"""Resources that are made of instances."""

Amounts = Mapping[str, int]
"""Resource name to amount in 1/10000; absent means zero, amounts are positive."""
Outfit = tuple[object, ...]
"""How many threads a process may use, and which devices it sees."""
Instances = Mapping[str, Mapping[int, int]]
"""Device resource to what there is of each instance, by its index."""


def describe(amounts: Amounts) -> str:
    """For people: ``{CPU: 2, GPU: 0.5}``; bytes of memory in MiB."""
    return (
        "{"
        + ", ".join(f"{name}: {describe_amount(name, value)}" for name, value in sorted(amounts.items()))
        + "}"
    )


def describe_amount(name: str, value: int) -> str:
    """One amount of a resource for people."""
    if name in ("memory", "object_store_memory"):
        return f"{value / UNIT / 2**20:.1f} MiB"
    return f"{value / UNIT:g}"


@dataclass(slots=True, eq=False)
class Allocation:
    """Resources held by one lease or actor. Compared by identity."""

    amounts: Amounts
    home: "Ledger"
    """Where it was taken from and goes back to."""
    shares: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """Device resource to (instance index, amount of it)."""
    lent_cpu: int = 0

    def devices(self) -> dict[str, tuple[int, ...]]:
        """The instances granted, for the worker's environment."""
        return {name: tuple(index for index, _ in shares) for name, shares in self.shares.items()}

    def outfit(self) -> "Outfit":
        """What of it libraries look at only once in a process."""
        return (max(1, self.amounts.get(CPU, 0) // UNIT), *sorted(self.devices().items()))


class Ledger:
    """Totals, what is available, and every live allocation."""

    def __init__(self, total: Amounts, instances: Instances | None = None) -> None:
        """Begin with everything free; without ``instances`` they are as many whole ones as the totals say."""
        self._total = dict(total)
        self._available = dict(total)
        self._instances = _whole_instances(total) if instances is None else instances
        self._devices = {name: dict(amounts) for name, amounts in self._instances.items()}
        self._allocations: dict[int, Allocation] = {}
        self.version = 0
        self.total_version = 0

    @property
    def total(self) -> Amounts:
        """What the node has. Do not change it in place."""
        return self._total

    @property
    def available(self) -> Amounts:
        """What is free now; the CPU can be negative while unblocked workers have taken theirs back."""
        return self._available

    @property
    def in_use(self) -> bool:
        """Whether anything is allocated."""
        return bool(self._allocations)

    def lacking_ever(self, request: Amounts) -> list[str]:
        """Why this node could never serve the request, one phrase per resource; empty when it could."""
        phrases = []
        for name, need in sorted(request.items()):
            has = self._total.get(name, 0)
            if need > has:
                phrases.append(
                    f"needs {name} {describe_amount(name, need)}, has {describe_amount(name, has)}"
                )
        return phrases

    def lacking_now(self, request: Amounts) -> list[str]:
        """Names of the resources of which too little is free."""
        return [name for name, need in request.items() if not self._fits_one(name, need)]

    def fits(self, request: Amounts) -> bool:
        """Whether the request could be allocated now."""
        for name, need in request.items():  # noqa: SIM110  half the time of all(), and every grant asks
            if not self._fits_one(name, need):
                return False
        return True

    def how_many_fit(self, request: Amounts, at_most: int) -> int:
        """How many equal requests could be allocated now; ignores fragmentation of devices."""
        count = at_most
        for name, need in request.items():
            count = min(count, max(0, self._available.get(name, 0)) // need)
        return count

    def allocate(self, request: Amounts) -> Allocation | None:
        """Take the resources, or None when they are not all free."""
        if not self.fits(request):
            return None
        shares = {}
        for name, need in request.items():
            self._available[name] -= need
            if name in self._devices:
                shares[name] = self._take_devices(name, need)
        allocation = Allocation(request, self, shares)
        self._allocations[id(allocation)] = allocation
        self.version += 1
        return allocation

    def adopt(self, allocation: Allocation) -> None:
        """Take over what was allocated from a bundle that has been released: the same amounts and instances.

        They are free at that moment, but for a CPU that a worker has taken back.
        """
        allocation.home._allocations.pop(id(allocation))
        for name, amount in allocation.amounts.items():
            self._available[name] -= amount
        self._available_cpu_add(allocation.lent_cpu)
        for name, shares in allocation.shares.items():
            for index, amount in shares:
                self._devices[name][index] -= amount
        allocation.home = self
        self._allocations[id(allocation)] = allocation
        self.version += 1

    def allocations(self) -> list[Allocation]:
        """Everything that is held now."""
        return list(self._allocations.values())

    def release(self, allocation: Allocation) -> None:
        """Give everything back, whether or not its CPU is lent out now."""
        if self._allocations.pop(id(allocation), None) is None:
            raise ValueError("allocation was released before")
        for name, amount in allocation.amounts.items():
            self._available[name] += amount
        self._available_cpu_add(-allocation.lent_cpu)
        allocation.lent_cpu = 0
        for name, shares in allocation.shares.items():
            for index, amount in shares:
                self._devices[name][index] += amount
        self.version += 1

    def lend_cpu(self, allocation: Allocation) -> bool:
        """The holder blocks: its CPU may serve others. False when it had none to lend."""
        cpu = allocation.amounts.get(CPU, 0)
        if cpu == 0 or allocation.lent_cpu or id(allocation) not in self._allocations:
            return False
        allocation.lent_cpu = cpu
        self._available_cpu_add(cpu)
        self.version += 1
        return True

    def take_cpu_back(self, allocation: Allocation) -> None:
        """The holder runs on at once, even if its CPU is now used by another."""
        if allocation.lent_cpu:
            self._available_cpu_add(-allocation.lent_cpu)
            allocation.lent_cpu = 0
            self.version += 1

    def set_total(self, name: str, amount: int) -> None:
        """Change a countable resource at run time; what is held stays held."""
        if name in self._devices:
            raise ValueError(f"resource {name!r} counts devices: it cannot change at run time")
        self._available[name] = self._available.get(name, 0) + amount - self._total.get(name, 0)
        self._total[name] = amount
        self.version += 1
        self.total_version += 1

    def headroom(self) -> "Headroom":
        """A scratch copy on which a scheduler can try out grants that have no worker yet."""
        return Headroom(dict(self._available))

    def validate(self) -> None:
        """Check that totals, allocations and availability agree."""
        for name, total in self._total.items():
            held = sum(a.amounts.get(name, 0) for a in self._allocations.values())
            lent = sum(a.lent_cpu for a in self._allocations.values()) if name == CPU else 0
            assert self._available[name] == total - held + lent, (name, total, held, lent)
            if name != CPU:
                assert self._available[name] >= 0 or held > total, name
        for name, free in self._devices.items():
            for index, left in free.items():
                taken = sum(
                    amount
                    for a in self._allocations.values()
                    for i, amount in a.shares.get(name, ())
                    if i == index
                )
                assert left == self._instances[name][index] - taken >= 0, (name, index, left, taken)

    def _available_cpu_add(self, amount: int) -> None:
        if amount:
            self._available[CPU] += amount

    def _fits_one(self, name: str, need: int) -> bool:
        if need > self._available.get(name, 0):
            return False
        devices = self._devices.get(name)
        if devices is None:
            return True
        if need < UNIT:
            return any(left >= need for left in devices.values())
        return sum(left == UNIT for left in devices.values()) >= need // UNIT

    def _take_devices(self, name: str, need: int) -> tuple[tuple[int, int], ...]:
        devices = self._devices[name]
        if need < UNIT:
            # Best fit: fill instances that are already shared, keep whole ones for those that need them.
            index = min((i for i, left in devices.items() if left >= need), key=lambda i: devices[i])
            chosen = [(index, need)]
        else:
            whole = [i for i, left in devices.items() if left == UNIT]
            chosen = [(i, UNIT) for i in whole[: need // UNIT]]
        for index, amount in chosen:
            devices[index] -= amount
        return tuple(chosen)


def bundle_ledger(reservation: Allocation) -> Ledger:
    """A ledger of what an allocation holds, for those who draw from it."""
    instances = {name: dict(shares) for name, shares in reservation.shares.items()}
    return Ledger(reservation.amounts, instances)


def _whole_instances(total: Amounts) -> Instances:
    instances = {}
    for name in DEVICES:
        if total.get(name, 0) % UNIT:
            raise ValueError(f"resource {name!r} counts devices: its total must be a whole number")
        if name in total:
            instances[name] = dict.fromkeys(range(total[name] // UNIT), UNIT)
    return instances


def positive(amounts: Amounts) -> dict[str, int]:
    """The CPU can be oversubscribed for a while; others need not know by how much."""
    return {name: max(0, amount) for name, amount in amounts.items()}


class Headroom:
    """What would be left after hypothetical grants."""

    def __init__(self, free: dict[str, int]) -> None:
        self._free = free

    def take(self, request: Amounts) -> bool:
        """Subtract the request if it fits."""
        if any(need > self._free.get(name, 0) for name, need in request.items()):
            return False
        for name, need in request.items():
            self._free[name] -= need
        return True

    def give_back(self, request: Amounts) -> None:
        """Undo ``take``."""
        for name, need in request.items():
            self._free[name] += need

    def keep(self, names: Iterable[str]) -> None:
        """Let nobody else take what is left of these resources."""
        for name in names:
            self._free[name] = 0


def check_request(request: Amounts) -> str | None:
    """Why a request is malformed, or None. Device requests above one must be whole numbers."""
    for name, amount in request.items():
        if not name or len(name) > 128:
            return f"resource name {name[:40]!r} must have 1 to 128 characters"
        if amount <= 0 or amount >= 2**62:
            return f"amount {amount} of resource {name!r} is out of range"
        if name == GPU and amount > UNIT and amount % UNIT:
            return f"GPU {amount / UNIT:g}: more than one GPU must be a whole number"
    return None
