"""A cluster of native reference tables on a simulated network, with what its programs hold as ground truth.

Each method is one atomic step of one process or the arrival of one message. Whatever a table asks for is
carried out and checked at once: an object must not be freed while a program can still reach it.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from aktis._core import testing

ObjectId = bytes
TaskId = bytes
STATE = b""  # the context of handles that outlive tasks


@dataclass
class TrueObject:
    owner: int
    contents: list[ObjectId] = field(default_factory=list)
    freed: bool = False
    rank: int = 0  # a result's number; of a stored object, the highest among all that it contains


@dataclass
class Run:
    """A task at its executor."""

    caller: int
    result: ObjectId
    handles: list[ObjectId]
    hold: int = 0
    returned: list[ObjectId] | None = None  # set when it has returned; then its reply may be held back


@dataclass
class Process:
    table: testing.ReferenceTable
    alive: bool = True
    state: list[ObjectId] = field(default_factory=list)
    runs: dict[TaskId, Run] = field(default_factory=dict)
    submitted: dict[TaskId, tuple[int, list[ObjectId]]] = field(default_factory=dict)
    holds: dict[int, tuple[int, list[ObjectId]]] = field(default_factory=dict)
    known_dead: set[int] = field(default_factory=set)


def worker_id(process: int) -> bytes:
    return bytes([process + 1]) + bytes(15)


class Cluster:
    def __init__(self, processes: int) -> None:
        self.processes = [Process(testing.ReferenceTable(worker_id(p))) for p in range(processes)]
        self.objects: dict[ObjectId, TrueObject] = {}
        self.network: dict[tuple[int, int], deque[Callable[[], None]]] = defaultdict(deque)
        self._tasks = 0
        self._crashed = False

    # --- Programs

    def put(self, p: int, context: TaskId, contents: list[ObjectId]) -> ObjectId:
        """Store an object that contains references."""
        object_id = self._next_task() + bytes(4)
        rank = max((self.objects[inner].rank for inner in contents), default=0)
        self.objects[object_id] = TrueObject(p, contents, rank=rank)
        self.handles(p, context).append(object_id)
        self.processes[p].table.add_owned(object_id)
        self.processes[p].table.set_contained(object_id, contents)
        self._settle(p)
        return object_id

    def submit(self, p: int, context: TaskId, executor: int, args: list[ObjectId]) -> ObjectId:
        """Call a task; return its result, of which the context has a handle."""
        task = self._next_task()
        result = task + bytes(4)
        self.objects[result] = TrueObject(p, rank=self._tasks)
        self.handles(p, context).append(result)
        self.processes[p].table.add_owned(result)
        for arg in args:
            self.processes[p].table.add_task_use(arg)
        self.processes[p].submitted[task] = (executor, args)
        self._send(p, executor, lambda: self._on_push(p, executor, task, args))
        self._settle(p)
        return result

    def get(self, p: int, context: TaskId, outer: ObjectId) -> None:
        """Read an object's value, which gives handles for all that it contains."""
        value = self.objects[outer]
        if value.freed or not self.processes[value.owner].alive:
            return
        for inner in value.contents:
            self.handles(p, context).append(inner)
            self.processes[p].table.add_borrowed_by_object(inner, self._owner(inner), outer)
            self._settle(p)

    def copy(self, p: int, to: TaskId, object_id: ObjectId) -> None:
        self.handles(p, to).append(object_id)
        self.processes[p].table.add_local(object_id)
        self._settle(p)

    def drop(self, p: int, context: TaskId, object_id: ObjectId) -> None:
        self.handles(p, context).remove(object_id)
        self.processes[p].table.remove_local(object_id)
        self._settle(p)

    def finish(self, p: int, task: TaskId, contents: list[ObjectId]) -> None:
        """Return from a task; the reply goes when the table says so."""
        process, run = self.processes[p], self.processes[p].runs[task]
        run.returned = contents
        run.hold = process.table.hold_return(worker_id(run.caller), contents)
        if run.hold:
            process.holds[run.hold] = (run.caller, contents)
        for object_id in list(run.handles):
            self.drop(p, task, object_id)
        if process.table.end_task(task):
            self._reply(p, task)
        self._settle(p)

    def crash(self, p: int) -> None:
        """End a process; what it has sent still arrives, then the news of its death."""
        self._crashed = True
        self.processes[p].alive = False
        for other in range(len(self.processes)):
            self.network[other, p].clear()
            if other != p:
                self._send(p, other, lambda other=other: self._on_lost(p, other))  # type: ignore[misc]

    # --- Network

    def deliver(self, source: int, target: int) -> bool:
        """Let the oldest message of the pair arrive; False when there is none."""
        if not self.network[source, target]:
            return False
        message = self.network[source, target].popleft()
        if self.processes[target].alive:
            message()
            self._settle(target)
        return True

    def wind_up(self) -> None:
        """Drop everything, end every task, deliver every message; then nothing must be left."""
        while self._let_go():
            pass
        for process in self.processes:
            assert process.table.idle() or not process.alive
        for object_id, value in self.objects.items():
            assert value.freed or not self.processes[value.owner].alive, object_id.hex()

    def _let_go(self) -> bool:
        busy = False
        for pair in list(self.network):
            busy |= self.deliver(*pair)
        for p, process in enumerate(self.processes):
            for object_id in list(process.state) if process.alive else []:
                busy = True
                self.drop(p, STATE, object_id)
            for task, run in list(process.runs.items()) if process.alive else []:
                if run.returned is None:
                    busy = True
                    self.finish(p, task, [])
        return busy

    def handles(self, p: int, context: TaskId) -> list[ObjectId]:
        return self.processes[p].runs[context].handles if context else self.processes[p].state

    # --- Messages

    def _next_task(self) -> TaskId:
        self._tasks += 1
        return bytes(8) + self._tasks.to_bytes(8, "little")

    def _owner(self, object_id: ObjectId) -> bytes:
        return worker_id(self.objects[object_id].owner)

    def _send(self, source: int, target: int, message: Callable[[], None]) -> None:
        if self.processes[target].alive:
            self.network[source, target].append(message)

    def _on_push(self, caller: int, p: int, task: TaskId, args: list[ObjectId]) -> None:
        self.processes[p].runs[task] = Run(caller, task + bytes(4), list(args))
        for arg in args:
            self.processes[p].table.add_borrowed_by_task(arg, self._owner(arg), task, worker_id(caller))

    def _reply(self, p: int, task: TaskId) -> None:
        run = self.processes[p].runs.pop(task)
        self._send(p, run.caller, lambda: self._on_reply(p, run.caller, task, run))

    def _on_reply(self, executor: int, p: int, task: TaskId, run: Run) -> None:
        result = self.objects[run.result]
        if not result.freed:
            result.contents = list(run.returned or [])
        refs = [(run.result, inner, self._owner(inner)) for inner in run.returned or []]
        self.processes[p].table.adopt_return(worker_id(executor), run.hold, refs)
        self._end_uses(p, task)

    def _end_uses(self, p: int, task: TaskId) -> None:
        for arg in self.processes[p].submitted.pop(task)[1]:
            self.processes[p].table.remove_task_use(arg)

    def _on_release(self, executor: int, caller: int, hold: int) -> None:
        self.processes[executor].holds.pop(hold, None)
        self.processes[executor].table.on_return_release(worker_id(caller), hold)

    def _on_lost(self, lost: int, p: int) -> None:
        process = self.processes[p]
        process.known_dead.add(lost)
        process.holds = {hold: kept for hold, kept in process.holds.items() if kept[0] != lost}
        process.table.on_process_lost(worker_id(lost))
        for task, (executor, _) in list(process.submitted.items()):
            if executor == lost:
                self._end_uses(p, task)

    # --- Actions and checks

    def _settle(self, p: int) -> None:
        table = self.processes[p].table
        table.validate()
        while actions := table.take_actions():
            for kind, peer, object_id, generation, task in actions:
                self._act(p, kind, peer[0] - 1, object_id, generation, task)

    def _act(self, p: int, kind: str, peer: int, object_id: ObjectId, generation: int, task: TaskId) -> None:
        if kind == "free_object":
            self._check_free(object_id)
            self.objects[object_id].freed = True
        elif kind == "release_borrowed":
            assert object_id not in set(self._held(p)), "forgets what it holds"
        elif kind == "task_endable":
            self._reply(p, task)
        elif kind == "object_owner_died":
            assert not self.processes[self.objects[object_id].owner].alive
        elif kind == "object_lost":
            assert self._crashed, "lost without any death"
        elif kind == "return_release":
            self._send(p, peer, lambda: self._on_release(peer, p, generation))
        else:
            assert peer not in self.processes[p].known_dead, "a message to the dead"
            handler = getattr(self.processes[peer].table, f"on_{kind}")
            self._send(p, peer, lambda: handler(worker_id(p), object_id, generation))

    def _check_free(self, object_id: ObjectId) -> None:
        assert not self.objects[object_id].freed, "freed twice"
        for p, process in enumerate(self.processes):
            # A death may cost references that were not registered yet; those that were stay safe.
            if process.alive and (not self._crashed or process.table.state(object_id) == "registered"):
                assert object_id not in set(self._reachable(p)), f"freed while process {p} reaches it"

    def _held(self, p: int) -> Iterator[ObjectId]:
        process = self.processes[p]
        yield from process.state
        for run in process.runs.values():
            yield from run.handles
        for _, args in process.submitted.values():
            yield from args
        for caller, kept in process.holds.values():
            yield from kept if self.processes[caller].alive else []

    def _reachable(self, p: int) -> set[ObjectId]:
        reached: set[ObjectId] = set()
        work = list(self._held(p))
        while work:
            object_id = work.pop()
            value = self.objects[object_id]
            if object_id not in reached:
                reached.add(object_id)
                work += value.contents if not value.freed and self.processes[value.owner].alive else []
        return reached

    def may_contain(self, result: ObjectId, object_id: ObjectId) -> bool:
        """Tell whether this can not make a circle, which would be kept until an owner dies."""
        return self.objects[object_id].rank < self.objects[result].rank
