"""The reference protocol against arbitrary programs: hypothesis looks for the shortest one that breaks it."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.core.reference_cluster import STATE, Cluster, ObjectId, TaskId

PROCESSES = 3
processes = st.integers(0, PROCESSES - 1)
choices = st.integers(0, 7)  # of whatever there is, modulo how many
several = st.lists(choices, max_size=2)


class ReferenceMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(PROCESSES)

    # --- What a process can do

    @rule(p=processes, context=choices, picks=several)
    def put(self, p: int, context: int, picks: list[int]) -> None:
        if self.alive(p):
            where = self.context(p, context)
            self.cluster.put(p, where, self.pick(p, where, picks))

    @rule(p=processes, step=st.integers(1, PROCESSES - 1), context=choices, picks=several)
    def submit(self, p: int, step: int, context: int, picks: list[int]) -> None:
        executor = (p + step) % PROCESSES
        if self.alive(p) and executor not in self.cluster.processes[p].known_dead:
            where = self.context(p, context)
            self.cluster.submit(p, where, executor, self.pick(p, where, picks))

    @rule(p=processes, context=choices, pick=choices)
    def get(self, p: int, context: int, pick: int) -> None:
        for where, object_id in self.handle(p, context, pick):
            self.cluster.get(p, where, object_id)

    @rule(p=processes, context=choices, into=choices, pick=choices)
    def copy(self, p: int, context: int, into: int, pick: int) -> None:
        for _, object_id in self.handle(p, context, pick):
            self.cluster.copy(p, self.context(p, into), object_id)

    @rule(p=processes, context=choices, pick=choices)
    def drop(self, p: int, context: int, pick: int) -> None:
        for where, object_id in self.handle(p, context, pick):
            self.cluster.drop(p, where, object_id)

    @rule(p=processes, context=choices, picks=several)
    def finish(self, p: int, context: int, picks: list[int]) -> None:
        where = self.context(p, context)
        if self.alive(p) and where != STATE:
            result = self.cluster.processes[p].runs[where].result
            contents = [i for i in self.pick(p, where, picks) if self.cluster.may_contain(result, i)]
            self.cluster.finish(p, where, contents)

    # --- What the world can do

    @rule(picks=st.lists(choices, min_size=1, max_size=4))
    def deliver(self, picks: list[int]) -> None:
        for pick in picks:
            busy = [pair for pair, queue in sorted(self.cluster.network.items()) if queue]
            if busy:
                self.cluster.deliver(*busy[pick % len(busy)])

    # --- What must hold

    @invariant()
    def tables_are_consistent(self) -> None:
        for process in self.cluster.processes:
            process.table.validate()

    def teardown(self) -> None:
        self.cluster.wind_up()

    # --- Choices

    def alive(self, p: int) -> bool:
        return self.cluster.processes[p].alive

    def context(self, p: int, choice: int) -> TaskId:
        running = [task for task, run in self.cluster.processes[p].runs.items() if run.returned is None]
        return [STATE, *running][choice % (len(running) + 1)]

    def pick(self, p: int, context: TaskId, picks: list[int]) -> list[ObjectId]:
        handles = self.cluster.handles(p, context)
        return [handles[pick % len(handles)] for pick in picks if handles]

    def handle(self, p: int, context: int, pick: int) -> list[tuple[TaskId, ObjectId]]:
        where = self.context(p, context)
        return [(where, i) for i in self.pick(p, where, [pick]) if self.alive(p)]


class MortalReferenceMachine(ReferenceMachine):
    """The same with one death, after which only registered references are promised to survive."""

    @precondition(lambda self: all(process.alive for process in self.cluster.processes))
    @rule(p=processes)
    def crash(self, p: int) -> None:
        self.cluster.crash(p)


budget = settings(max_examples=120, stateful_step_count=60, deadline=None, database=None)
ReferenceMachine.TestCase.settings = budget
MortalReferenceMachine.TestCase.settings = budget
TestReferences = ReferenceMachine.TestCase
TestReferencesWithADeath = MortalReferenceMachine.TestCase
