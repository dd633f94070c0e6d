"""The steps of executing a task, on a core that only writes down what it is told."""

import contextvars
from types import SimpleNamespace
from typing import Any

import pytest
from aktis._core import running_task
from aktis._runtime.errors import decode_error
from aktis._runtime.execution import current_task
from aktis._worker.executor import TaskRunner, exit_code_of, split_returns
from aktis._worker.exit import ActorExit
from aktis.exceptions import RuntimeEnvSetupError, TaskCancelledError, TaskError


class FakeTask:
    """What the core hands out."""

    def __init__(self, args: tuple[Any, ...] = (), num_returns: int = 1) -> None:
        self.task_id = b"t" * 16
        self.name = "f"
        self.num_returns = num_returns
        self.is_generator = False
        self.cancelled = False
        self._args = args

    def load_args(self, wait: bool = True) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return self._args, {}


class FakeCore:
    """Writes down how tasks end."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def begin(self, task: Any) -> None:
        running_task.set(task)
        self.log.append("begin")

    def finish(self, task: Any, values: tuple[Any, ...]) -> None:
        self.log.append(values)

    def fail(self, task: Any, error: bytes, cancelled: bool, text: str = "", references: Any = ()) -> None:
        self.log.append((decode_error(error), cancelled))


class FakeInterrupts:
    """Writes down the stretch in which a task may be interrupted."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def begin(self, task_id: bytes) -> None:
        self.log.append("may be interrupted")

    def end(self) -> None:
        self.log.append("may not")

    def interrupt(self, task_id: bytes) -> None: ...


def run(task: FakeTask, function: Any) -> list[Any]:
    core = FakeCore()
    session: Any = SimpleNamespace(core=core, fetch_timeout_s=60.0)
    runner = TaskRunner(session, FakeInterrupts(core.log))
    contextvars.copy_context().run(runner.run, task, lambda _: function)  # type: ignore[arg-type]
    return core.log


def test_a_task_is_interruptible_only_while_it_loads_its_arguments_and_runs() -> None:
    log = run(FakeTask((1, 2)), lambda a, b: a + b)
    assert log == ["begin", "may be interrupted", "may not", (3,)]


def test_a_task_that_was_cancelled_before_it_could_be_interrupted_does_not_run() -> None:
    task = FakeTask()
    task.cancelled = True
    ran: list[int] = []
    error, cancelled = run(task, lambda: ran.append(1))[-1]
    assert isinstance(error, TaskCancelledError)
    assert cancelled
    assert ran == []


def test_a_task_knows_itself() -> None:
    task = FakeTask()
    assert run(task, current_task)[-1] == (task,)


def test_an_exception_ends_the_task_with_the_users_frames_only() -> None:
    def fail() -> None:
        raise ValueError("x")

    error, cancelled = run(FakeTask(), fail)[-1]
    assert isinstance(error, TaskError)
    assert isinstance(error, ValueError)
    assert not cancelled
    assert "_worker/executor.py" not in str(error)


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), TaskCancelledError("other")])
def test_an_interrupted_task_is_cancelled(raised: BaseException) -> None:
    def interrupted() -> None:
        raise raised

    error, cancelled = run(FakeTask(), interrupted)[-1]
    assert isinstance(error, TaskCancelledError)
    assert error.task_id == (b"t" * 16).hex()
    assert cancelled


@pytest.mark.parametrize("end", [SystemExit(3), ActorExit()])
def test_what_ends_the_process_gets_no_reply(end: BaseException) -> None:
    def leave() -> None:
        raise end

    with pytest.raises(type(end)):
        run(FakeTask(), leave)


def test_returns_are_split() -> None:
    assert run(FakeTask(num_returns=2), lambda: [1, 2])[-1] == (1, 2)
    assert run(FakeTask(num_returns=0), lambda: 5)[-1] == ()
    task: Any = FakeTask(num_returns=2)
    with pytest.raises(ValueError, match=r"f must return 2 values \(num_returns\), got 3"):
        split_returns(task, (1, 2, 3))
    with pytest.raises(TypeError, match="got one int"):
        split_returns(task, 5)


def test_an_environment_that_is_not_there_is_raised_as_it_is() -> None:
    def fail() -> None:
        raise RuntimeEnvSetupError("no environment")

    error, _ = run(FakeTask(), fail)[-1]
    assert type(error) is RuntimeEnvSetupError


@pytest.mark.parametrize(("code", "status"), [(None, 0), (0, 0), (3, 3), (256, 0), ("text", 1)])
def test_exit_codes_are_those_of_python(code: Any, status: int) -> None:
    assert exit_code_of(SystemExit(code)) == status
