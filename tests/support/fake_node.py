"""A raylet's logic with a simulated clock and simulated processes, for tests without a cluster."""

from collections.abc import Mapping
from typing import TypeVar

from aktis._proto import common_pb2, gcs_pb2
from aktisd.raylet import messages as m
from aktisd.raylet.causes import Kind, cause, observed
from aktisd.raylet.node import NodeLogic
from aktisd.raylet.resources import UNIT
from aktisd.raylet.workers import PoolLimits

T = TypeVar("T")


def units(**amounts: float) -> dict[str, int]:
    """Amounts in 1/10000."""
    return {name: round(amount * UNIT) for name, amount in amounts.items()}


def worker_id(token: int) -> bytes:
    """The id of the worker that was started with this token."""
    return token.to_bytes(16, "big")


class FakeNode:
    """Forks succeed at once and workers register, unless ``forks`` is False; kills take effect at once."""

    def __init__(
        self, total: Mapping[str, int] | None = None, *, forks: bool = True, limits: PoolLimits | None = None
    ) -> None:
        self.now = 1000.0
        self.forks = forks
        self.deaths_on_end = True
        self.instructions: list[m.Instruction] = []
        self.forked: list[int] = []
        self._tokens = 0
        self._backlog: list[m.Instruction] = []
        limits = limits or PoolLimits(prestart=0, max_workers=64)
        self.logic = NodeLogic(total or units(CPU=2), limits, "n1", self._new_token)

    def _new_token(self) -> int:
        self._tokens += 1
        return self._tokens

    def send(self, event: m.Event) -> None:
        """Handle an event and everything that follows from it."""
        self._carry_out(self.logic.handle(event, now=self.now))
        self.logic.validate()

    def advance(self, seconds: float) -> None:
        """Let time pass, then tick."""
        self.now += seconds
        self.send(m.Tick())

    def _carry_out(self, instructions: list[m.Instruction]) -> None:
        queue = list(instructions)
        while queue:
            instruction = queue.pop(0)
            self.instructions.append(instruction)
            if isinstance(instruction, m.ForkWorkers):
                self.forked.extend(instruction.tokens)
                if self.forks:
                    for token in instruction.tokens:
                        queue.extend(self._start(token))
            elif isinstance(instruction, m.EndTemplate):
                queue.extend(self._handle(m.TemplateLost("ended", instruction.name)))
            elif isinstance(instruction, m.EndWorker) and self.deaths_on_end:
                signal = 9 if instruction.force else 15
                queue.extend(
                    self._handle(m.WorkerDied(instruction.token, observed(1, 0, signal, known=True)))
                )

    def _handle(self, event: m.Event) -> list[m.Instruction]:
        return self.logic.handle(event, now=self.now)

    def _start(self, token: int) -> list[m.Instruction]:
        first = self._handle(m.Forked(token, 1000 + token))
        return first + self._handle(m.WorkerJoined(token, self.address(token)))

    def address(self, token: int) -> common_pb2.ProcessAddress:
        """The address that the worker of a token registers with."""
        return common_pb2.ProcessAddress(
            worker_id=worker_id(token), address=f"unix:/w{token}", pid=1000 + token
        )

    def start(self, token: int) -> None:
        """The worker of a token is forked and registers."""
        self._carry_out(self._start(token))
        self.logic.validate()

    def die(self, token: int, signal: int = 11) -> None:
        """The worker of a token dies."""
        self.send(m.WorkerDied(token, observed(1000 + token, 0, signal, known=True)))

    def request(
        self,
        client: bytes,
        wanted: int,
        *,
        job: bytes = b"job1",
        key: int = 1,
        priority: int = 0,
        **amounts: float,
    ) -> None:
        """A client wants leases; one CPU each by default."""
        needs = units(**amounts) if amounts else units(CPU=1)
        needs = {name: amount for name, amount in needs.items() if amount}
        self.send(m.LeasesRequested(client, key, wanted, needs, job, f"f{key}", priority=priority))

    def give_back(self, client: bytes, *lease_ids: int) -> None:
        """A client returns leases."""
        self.send(m.LeasesReturned(client, lease_ids))

    def take(self, kind: type[T]) -> list[T]:
        """The instructions of a kind so far; they are forgotten."""
        found: list[T] = [i for i in self.instructions if isinstance(i, kind)]
        self.instructions = [i for i in self.instructions if not isinstance(i, kind)]
        return found

    def granted(self, client: bytes | None = None) -> list[m.GrantedLease]:
        """The leases granted (to one client) since the last call."""
        grants = self.take(m.Grant)
        return [lease for g in grants if client in (None, g.client) for lease in g.leases]

    def free_cpus(self) -> float:
        """CPUs available now."""
        return self.logic.ledger.available["CPU"] / UNIT


def actor_spec(
    name: str = "a", job: bytes = b"job1", *, detached: bool = False, cpus: float = 0
) -> gcs_pb2.ActorSpec:
    """A small actor."""
    resources = common_pb2.Resources(amounts=units(CPU=cpus) if cpus else {})
    return gcs_pb2.ActorSpec(
        actor_id=name.encode().ljust(16, b"\0"),
        job_id=job,
        class_name="Counter",
        detached=detached,
        resources=resources,
    )


FAILED = cause(Kind.CREATION_FAILED, "ValueError: no")
