"""How many leases to ask for, which to give back, what to tell the user about those that do not come.

Pure policy, on the service thread: events in, instructions out. The core measures (it knows queues and run
times), says how many leases would be of use and returns those that were idle for long enough; the raylet
decides who gets how many. What is left for us is to ask for exactly what the core says, because it counts
what has not come yet, to return what the raylet asks for, and to warn once about what can never be.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from aktis._runtime.strategies import Strategy

ANYWHERE: Final = Strategy()


@dataclass(frozen=True, slots=True)
class SchedulingClass:
    """What all tasks that may share a worker have in common."""

    key: int
    function_name: str
    resources: tuple[tuple[str, int], ...]
    """Amounts by resource name, in steps of 1/10000."""
    strategy: Strategy = ANYWHERE
    runtime_env_hash: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """Ask the raylet for ``wanted`` leases besides those held; 0 withdraws."""

    cls: SchedulingClass
    wanted: int
    backlog: int
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Return:
    """Give leases back."""

    lease_ids: tuple[int, ...]
    failing: bool = False


@dataclass(frozen=True, slots=True)
class Warn:
    """Tell the user."""

    message: str


Instruction = Request | Return | Warn


@dataclass(slots=True)
class _ClassState:
    cls: SchedulingClass
    wanted: int = 0
    held: int = 0
    warned: str = ""
    ended: bool = False


@dataclass
class LeasePolicy:
    """See the module. ``drop`` closes an idle lease in the core, and refuses when a task got it meanwhile."""

    drop: Callable[[int], bool]
    _classes: dict[int, _ClassState] = field(default_factory=dict)
    _held: dict[int, int] = field(default_factory=dict)  # class by lease

    def add_class(self, cls: SchedulingClass) -> None:
        """Make a scheduling class known, before its first task is submitted."""
        self._classes[cls.key] = _ClassState(cls)

    def resources(self, class_key: int) -> dict[str, int]:
        """Return what tasks of a class need, in steps of 1/10000; nothing for one that is not known."""
        state = self._classes.get(class_key)
        return dict(state.cls.resources) if state is not None else {}

    def needed(self, class_key: int, wanted: int, backlog: int, priority: int = 0) -> list[Instruction]:
        """The core could use so many more leases."""
        state = self._classes[class_key]
        state.wanted = wanted
        if wanted == 0:
            state.warned = ""
        return [Request(state.cls, wanted, backlog, priority)]

    def end_class(self, class_key: int) -> list[Instruction]:
        """No task of a class will run any more; it is forgotten with its last lease."""
        state = self._classes.get(class_key)
        if state is None:
            return []
        state.ended = True
        self._forget_if_ended(class_key)
        return [Request(state.cls, 0, 0)] if state.wanted else []

    def knows(self, class_key: int) -> bool:
        """Whether tasks of a class may run."""
        state = self._classes.get(class_key)
        return state is not None and not state.ended

    def granted(self, class_key: int, lease_id: int) -> bool:
        """A lease has come; False when it is of no use any more and goes back."""
        if not self.knows(class_key):
            return False
        self._held[lease_id] = class_key
        state = self._classes[class_key]
        state.held += 1
        state.wanted = max(0, state.wanted - 1)
        state.warned = ""
        return True

    def gone(self, lease_id: int) -> bool:
        """The core returned it, the raylet took it away or its worker died; False when it is not ours."""
        class_key = self._held.pop(lease_id, None)
        if class_key is not None:
            self._classes[class_key].held -= 1
            self._forget_if_ended(class_key)
        return class_key is not None

    def broken(self, lease_id: int) -> list[Instruction]:
        """The connection to a leased worker broke: the raylet shall see what is the matter with it."""
        return [Return((lease_id,), failing=True)] if self.gone(lease_id) else []

    def reclaim(self, idle: list[int]) -> list[Instruction]:
        """Others wait for resources: what is idle goes back at once, not after its grace time."""
        return self._give_back(idle)

    def pending(
        self, class_key: int, infeasible: bool, explanation: str, *, stuck: bool = False
    ) -> list[Instruction]:
        """The raylet says why leases do not come. Only what waiting cannot solve is worth a warning, once."""
        state = self._classes.get(class_key)
        if state is None or not (infeasible or stuck) or state.warned == explanation:
            return []
        state.warned = explanation
        if stuck:
            return [Warn(stuck_warning(f"Tasks of {state.cls.function_name}", explanation))]
        return [Warn(infeasible_warning(f"Tasks of {state.cls.function_name}", explanation))]

    def failed(self, class_key: int) -> None:
        """The raylet has dropped the request of a class."""
        state = self._classes.get(class_key)
        if state is not None:
            state.wanted = 0

    def class_keys(self) -> list[int]:
        """Every class there is."""
        return list(self._classes)

    def held(self, class_key: int) -> int:
        """How many leases a class has."""
        return self._classes[class_key].held

    def _forget_if_ended(self, class_key: int) -> None:
        state = self._classes[class_key]
        if state.ended and state.held == 0:
            del self._classes[class_key]

    def _give_back(self, lease_ids: list[int]) -> list[Instruction]:
        dropped = tuple(lease for lease in lease_ids if lease in self._held and self.drop(lease))
        for lease in dropped:
            self.gone(lease)
        return [Return(dropped)] if dropped else []


def stuck_warning(who: str, explanation: str) -> str:
    """Say that something waits for tasks that may be waiting for it."""
    return (
        f"{who} do not start: {explanation}. If those wait for these, nothing goes on: submit fewer tasks "
        "from inside of tasks, or raise the limit."
    )


def infeasible_warning(who: str, explanation: str) -> str:
    """Say that something can never run on the cluster as it is."""
    return (
        f"{who} cannot run on this cluster as it is now: {explanation}. They wait until a node that has it "
        "joins; ask for less with .options(), or cancel them."
    )
