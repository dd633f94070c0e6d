"""The supervisor's decisions under a simulated clock."""

import signal
from collections.abc import Sequence

import pytest
from aktisd.supervisor.machine import (
    DaemonState,
    Finish,
    Instruction,
    Kill,
    Phase,
    Policy,
    ReportFailure,
    ReportReady,
    Spawn,
    SupervisorMachine,
    describe_status,
)
from hypothesis import given
from hypothesis import strategies as st

NAMES = ("raylet", "plasma", "gcs")
POLICY = Policy(
    restart_limit=2,
    restart_window_ms=10_000,
    restart_delay_ms=100,
    restart_delay_max_ms=150,
    ready_timeout_ms=1_000,
    stop_timeout_ms=4_000,
)


def running() -> SupervisorMachine:
    machine = SupervisorMachine(NAMES, POLICY)
    machine.start(0)
    for name in NAMES:
        machine.ready(name)
    assert machine.phase is Phase.RUNNING
    return machine


def test_all_start_at_once_and_ready_is_reported_once() -> None:
    machine = SupervisorMachine(NAMES, POLICY)
    assert machine.start(0) == [Spawn(name) for name in NAMES]
    assert machine.ready("gcs") == []
    assert machine.ready("raylet") == []
    assert machine.ready("plasma") == [ReportReady()]
    assert machine.ready("plasma") == []


def test_a_daemon_that_dies_is_started_again_after_a_pause() -> None:
    machine = running()
    assert machine.exited("gcs", -signal.SIGKILL, 5_000) == []
    assert machine.state("gcs") is DaemonState.WAITING
    assert machine.next_deadline_ms() == 5_100
    assert machine.tick(5_099) == []
    assert machine.tick(5_100) == [Spawn("gcs")]
    assert machine.ready("gcs") == []  # the starter has been told long ago
    assert machine.state("gcs") is DaemonState.RUNNING


def test_pause_doubles_up_to_its_limit_and_forgets_after_the_window() -> None:
    machine = running()
    machine.exited("gcs", 1, 0)
    assert machine.next_deadline_ms() == 100
    machine.tick(100)
    machine.exited("gcs", 1, 200)
    assert machine.next_deadline_ms() == 350  # 200 doubled would be past restart_delay_max_ms
    machine.tick(350)
    machine.ready("gcs")
    assert machine.exited("gcs", 1, 20_000) == []
    assert machine.next_deadline_ms() == 20_100


def test_too_many_deaths_stop_everything() -> None:
    machine = running()
    for now_ms in (0, 1_000):
        machine.exited("gcs", -11, now_ms)
        machine.tick(now_ms + 500)
    instructions = machine.exited("gcs", -11, 2_000)
    reason = "killed by SIGSEGV, 3 times within 10 s"
    assert instructions == [ReportFailure("gcs", reason), Kill("raylet", signal.SIGTERM)]
    machine.exited("raylet", 0, 2_100)
    assert machine.exited("plasma", 0, 2_200) == [Finish(1)]


def test_a_refusal_to_start_ends_the_start_without_a_second_try() -> None:
    machine = SupervisorMachine(NAMES, POLICY)
    machine.start(0)
    instructions = machine.exited("plasma", 2, 50)
    assert instructions == [ReportFailure("plasma", "cannot start"), Kill("raylet", signal.SIGTERM)]
    machine.exited("raylet", 0, 60)
    assert machine.exited("gcs", 0, 70) == [Finish(2)]


def test_a_daemon_that_is_not_ready_in_time_is_killed_and_started_again() -> None:
    machine = SupervisorMachine(("gcs",), POLICY)
    machine.start(0)
    assert machine.tick(1_000) == [Kill("gcs", signal.SIGKILL)]
    assert machine.next_deadline_ms() is None  # only its end matters now
    machine.exited("gcs", -signal.SIGKILL, 1_001)
    assert machine.tick(1_101) == [Spawn("gcs")]


def test_stop_goes_in_order() -> None:
    machine = running()
    assert machine.stop(0) == [Kill("raylet", signal.SIGTERM)]
    assert machine.exited("raylet", 0, 10) == [Kill("plasma", signal.SIGTERM)]
    assert machine.exited("plasma", 0, 20) == [Kill("gcs", signal.SIGTERM)]
    assert machine.exited("gcs", 0, 30) == [Finish(0)]
    assert machine.phase is Phase.STOPPED
    assert machine.stop(40) == []


def test_daemons_that_do_not_stop_are_killed_within_the_limit() -> None:
    machine = running()
    machine.stop(0)
    times = []
    for name in NAMES:
        deadline_ms = machine.next_deadline_ms()
        assert deadline_ms is not None
        times.append(deadline_ms)
        assert machine.tick(deadline_ms) == [Kill(name, signal.SIGKILL)]
        machine.exited(name, -signal.SIGKILL, deadline_ms)
    assert times == [2_000, 3_333, 4_000]  # twice an equal share of what is left, then all of it


def test_a_daemon_that_waits_for_its_restart_has_nothing_to_stop() -> None:
    machine = running()
    machine.exited("plasma", 1, 0)
    machine.stop(10)
    assert machine.state("plasma") is DaemonState.STOPPED
    assert machine.exited("raylet", 0, 20) == [Kill("gcs", signal.SIGTERM)]
    assert machine.tick(1_000) == []


def test_a_second_request_to_stop_kills_what_still_runs() -> None:
    machine = running()
    machine.stop(0)
    machine.exited("raylet", 0, 10)
    assert machine.stop(20) == [Kill("plasma", signal.SIGKILL), Kill("gcs", signal.SIGKILL)]


@pytest.mark.parametrize(
    ("status", "text"),
    [(0, "exited with status 0"), (-9, "killed by SIGKILL"), (-250, "killed by signal 250")],
)
def test_describe_status(status: int, text: str) -> None:
    assert describe_status(status) == text


@pytest.mark.parametrize("names", [(), ("gcs", "gcs")])
def test_names_must_be_distinct(names: Sequence[str]) -> None:
    with pytest.raises(ValueError, match="distinct"):
        SupervisorMachine(names, POLICY)


class World:
    """Simulated processes that obey Spawn and Kill; checks what must hold at every step."""

    def __init__(self) -> None:
        self.machine = SupervisorMachine(NAMES, POLICY)
        self.alive: set[str] = set()
        self.doomed: set[str] = set()
        self.finished: int | None = None
        self.now_ms = 0

    def obey(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            assert self.finished is None, "nothing may follow Finish"
            match instruction:
                case Spawn(name):
                    assert name not in self.alive, "one process per daemon"
                    assert self.machine.phase in (Phase.STARTING, Phase.RUNNING)
                    self.alive.add(name)
                case Kill(name, number):
                    assert name in self.alive
                    if number == signal.SIGKILL:
                        self.doomed.add(name)
                case Finish(status):
                    assert not self.alive
                    self.finished = status
                case _:
                    pass

    def die(self, name: str, status: int) -> None:
        if name in self.alive:
            self.alive.discard(name)
            self.doomed.discard(name)
            self.obey(self.machine.exited(name, status, self.now_ms))

    def advance(self, by_ms: int) -> None:
        self.now_ms += by_ms
        self.obey(self.machine.tick(self.now_ms))


ACTION = st.one_of(
    st.tuples(st.just("ready"), st.sampled_from(NAMES)),
    st.tuples(st.just("die"), st.sampled_from(NAMES), st.sampled_from([0, 1, 2, -9])),
    st.tuples(st.just("advance"), st.integers(0, 3_000)),
    st.tuples(st.just("stop")),
)


@given(st.lists(ACTION, max_size=40))
def test_any_history_ends_with_no_process_and_in_time(actions: list[tuple[object, ...]]) -> None:
    world = World()
    world.obey(world.machine.start(0))
    for action in actions:
        match action:
            case ("ready", str(name)) if name in world.alive:
                world.obey(world.machine.ready(name))
            case ("die", str(name), int(status)):
                world.die(name, status)
            case ("advance", int(by_ms)):
                world.advance(by_ms)
            case ("stop",) if world.finished is None:
                world.obey(world.machine.stop(world.now_ms))
            case _:
                pass
    if world.machine.phase not in (Phase.STOPPING, Phase.STOPPED):
        world.obey(world.machine.stop(world.now_ms))
    end_ms = world.now_ms + POLICY.stop_timeout_ms
    while world.finished is None:
        for name in sorted(world.doomed):
            world.die(name, -9)
        deadline_ms = world.machine.next_deadline_ms()
        if world.machine.phase is Phase.STOPPING and not world.doomed:
            assert deadline_ms is not None, "something must be timed while processes are left"
            world.advance(max(0, deadline_ms - world.now_ms))
    assert world.now_ms <= end_ms
