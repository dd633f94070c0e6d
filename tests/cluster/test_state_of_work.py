"""Tasks, objects, workers, environments and logs, as processes and nodes tell when somebody asks."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import aktis
import numpy as np
import pytest
from aktis._proto import snapshot_pb2
from aktis._runtime import current
from aktis.exceptions import AktisError
from aktis.util import state

from tests.support.board import Board
from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("state_of_work")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


@pytest.fixture(scope="module")
def board(cluster: None) -> Any:
    return Board.remote()


@aktis.remote
def wait_for(board: Any, word: str) -> str:
    aktis.get(board.say.remote(f"{word} is waited for"))
    aktis.get(board.hear.remote(word))
    return word


@aktis.remote(num_cpus=0)
def pass_on(value: Any) -> Any:
    return value


@aktis.remote(num_cpus=0)
def fail(value: str) -> None:
    raise ValueError(value)


@aktis.remote(num_cpus=0, max_retries=0)
def die() -> None:
    os._exit(3)


@aktis.remote(num_cpus=0)
class Speaker:
    def speak(self, word: str) -> int:
        print(word, flush=True)
        return os.getpid()

    def stumble(self) -> None:
        raise KeyError("word")


def only(name: str, **equal: str) -> state.TaskState:
    filters = [("name", "=", name), *((field, "=", value) for field, value in equal.items())]
    (task,) = state.list_tasks(filters=filters)
    return task


def soon(look: Callable[[], list[Any]]) -> Any:
    """The only one of its kind, once there is one: it is on its way."""
    deadline = time.monotonic() + 20.0
    while not (found := look()):
        assert time.monotonic() < deadline
    (one,) = found
    return one


def test_tasks_that_have_not_ended(board: Any) -> None:
    context = aktis.get_runtime_context()
    running = wait_for.options(name="running").remote(board, "go on")
    waiting = pass_on.options(name="waiting").remote(running)
    queued = pass_on.options(name="queued", num_cpus=1000).remote(1)
    aktis.get(board.hear.remote("go on is waited for"))

    task = only("running")
    assert (task.state, task.type, task.attempt_number) == ("RUNNING", "NORMAL_TASK", 0)
    assert task.task_id == running.task_id().hex()
    assert (task.job_id, task.node_id) == (context.get_job_id(), context.get_node_id())
    assert (task.actor_id, task.error_type, task.end_time_ms) == (None, None, None)
    assert task.required_resources == {"CPU": 1.0}
    assert task.start_time_ms is not None
    assert (task.creation_time_ms or 0) <= task.start_time_ms
    worker = state.get_worker(str(task.worker_id))
    assert worker is not None
    assert (worker.pid, worker.is_alive) == (task.worker_pid, True)

    hears = [("name", "=", "Board.hear"), ("state", "=", "RUNNING")]
    call = soon(lambda: state.list_tasks(filters=hears))
    assert (call.type, call.parent_task_id) == ("ACTOR_TASK", task.task_id)
    assert call.actor_id == board._actor_id.hex()
    assert only("waiting").state == "PENDING_ARGS_AVAIL"
    assert only("waiting").worker_id is None
    assert only("queued").state == "PENDING_NODE_ASSIGNMENT"
    assert only("queued").required_resources == {"CPU": 1000.0}
    (creation,) = state.list_tasks(filters=[("type", "=", "ACTOR_CREATION_TASK")])
    assert (creation.state, creation.func_or_class_name) == ("FINISHED", "Board")

    found = state.get_task(waiting)
    assert found is not None
    assert found.name == "waiting"
    (held,) = [one for one in state.get_objects(running.hex()) if one.type == "DRIVER"]
    assert (held.reference_type, held.task_status) == ("USED_BY_PENDING_TASK", "SUBMITTED_TO_WORKER")

    aktis.get(board.say.remote("go on"))
    assert aktis.get(waiting) == "go on"
    aktis.cancel(queued)
    with pytest.raises(aktis.exceptions.TaskCancelledError):
        aktis.get(queued)
    ended = only("running")
    assert (ended.state, ended.worker_pid) == ("FINISHED", task.worker_pid)
    assert (ended.end_time_ms or 0) >= task.start_time_ms
    assert (only("queued").state, only("queued").error_type) == ("FAILED", "TASK_CANCELLED")


def test_tasks_that_have_failed() -> None:
    with pytest.raises(ValueError, match="as wished"):
        aktis.get(fail.options(name="raises").remote("as wished"))
    with pytest.raises(ValueError, match="before"):
        aktis.get(pass_on.options(name="depends").remote(fail.options(name="fails before").remote("before")))
    with pytest.raises(aktis.exceptions.WorkerCrashedError):
        aktis.get(die.remote())
    raised, depends, died = only("raises"), only("depends"), only("die")
    assert {raised.state, depends.state, died.state} == {"FAILED"}
    assert (raised.error_type, raised.error_message) == ("TASK_EXECUTION_EXCEPTION", "ValueError: as wished")
    assert raised.worker_pid is not None
    assert (depends.error_type, depends.worker_pid) == ("DEPENDENCY_RESOLUTION_FAILED", None)
    assert died.error_type == "WORKER_DIED"
    assert "code 3" in str(died.error_message)
    (dead,) = state.list_workers(filters=[("exit_type", "=", "SYSTEM_ERROR")])
    assert not dead.is_alive
    assert "code 3" in str(dead.exit_detail)
    assert (dead.start_time_ms or 0) <= (dead.end_time_ms or 0)
    assert f"process {dead.pid}" in str(died.error_message)


@pytest.mark.parametrize("begin", [".", "..", "...", "...."])
def test_a_long_message_is_cut_between_characters(begin: str) -> None:
    with pytest.raises(ValueError, match="SNAKE"):
        aktis.get(fail.options(name=f"long{begin}").remote(begin + "\N{SNAKE}" * 1_000 + "SNAKE"))
    task = only(f"long{begin}")
    assert str(task.error_message).startswith(f"ValueError: {begin}\N{SNAKE}")
    assert 1_000 < len(str(task.error_message).encode()) <= 1_024
    assert task.worker_pid is not None


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise LookupError("no words")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("\ud800"), r"ValueError: \ud800"),
        (UnspeakableError(), "UnspeakableError: (its message cannot be had: LookupError)"),
    ],
)
def test_a_message_that_is_no_text_ends_no_worker(error: Exception, message: str) -> None:
    @aktis.remote(num_cpus=0, max_retries=0)
    def hurt() -> None:
        raise error

    with pytest.raises(type(error)):
        aktis.get(hurt.options(name=message[:12]).remote())
    assert only(message[:12]).error_message == message


def test_every_attempt_is_a_record(board: Any) -> None:
    @aktis.remote(num_cpus=0, max_retries=2)
    def die_once(board: Any) -> str:
        if "die_once has died" in aktis.get(board.all.remote()):
            return "lives"
        aktis.get(board.say.remote("die_once has died"))
        os._exit(4)

    ref = die_once.options(name="dies once").remote(board)
    assert aktis.get(ref) == "lives"
    attempts = state.list_tasks(filters=[("name", "=", "dies once")])
    first, last = sorted(attempts, key=lambda task: task.attempt_number)
    assert (first.attempt_number, first.state, first.error_type) == (0, "FAILED", "WORKER_DIED")
    assert (last.attempt_number, last.state, last.error_type) == (1, "FINISHED", None)
    assert state.get_task(ref) == last


def test_calls_of_an_actor_that_is_dead() -> None:
    speaker = Speaker.remote()
    with pytest.raises(KeyError):
        aktis.get(speaker.stumble.remote())
    aktis.kill(speaker)
    with pytest.raises(aktis.exceptions.ActorDiedError):
        aktis.get(speaker.speak.options(name="too late").remote("nothing"))
    assert only("Speaker.stumble").error_type == "TASK_EXECUTION_EXCEPTION"
    assert only("too late").error_type == "ACTOR_DIED"
    # The actor is dead once that is decided, its process a moment later.
    its = [("actor_id", "=", speaker._actor_id.hex()), ("is_alive", "=", False)]
    worker = soon(lambda: state.list_workers(filters=its))
    assert worker.exit_type == "INTENDED_SYSTEM_EXIT"


def test_many_calls_of_an_async_actor_run_at_once() -> None:
    board = Board.options(max_concurrency=200).remote()
    calls = [board.hear.options(name="one of many").remote("now") for _ in range(150)]
    aktis.get(board.all.remote())
    filters = [("name", "=", "one of many"), ("state", "=", "RUNNING")]
    assert len(state.list_tasks(filters=filters, limit=1000)) == 150
    some = state.list_tasks(filters=filters, limit=10)
    assert (len(some), some.left_off) == (10, 140)
    few = state.list_tasks(limit=20)
    assert len(few) == 20
    assert few.left_off > 0
    summary = state.summarize_tasks()["cluster"]
    assert summary["summary"]["one of many"] == {
        "func_or_class_name": "one of many",
        "type": "ACTOR_TASK",
        "state_counts": {"RUNNING": 150},
    }
    aktis.get(board.say.remote("now"))
    aktis.get(calls)
    assert state.list_tasks(filters=filters) == []


def test_objects_by_what_holds_them(board: Any) -> None:
    def held(ref: Any) -> tuple[str, int]:
        (one,) = [one for one in state.get_objects(ref.hex()) if one.pid == os.getpid()]
        assert (one.task_status, one.type, one.call_site) == ("FINISHED", "DRIVER", "disabled")
        return one.reference_type, one.object_size

    large = aktis.put(np.zeros(1_000_000, dtype=np.uint8))
    kind, size_bytes = held(large)
    assert kind == "LOCAL_REFERENCE"
    assert 1_000_000 <= size_bytes < 1_010_000
    inner = aktis.put("inner")
    inner_id = inner.hex()
    outer = aktis.put([inner])
    del inner
    (captured,) = state.get_objects(inner_id)
    assert captured.reference_type == "CAPTURED_IN_OBJECT"
    read_only = aktis.put(np.ones(1_000_000, dtype=np.uint8))
    read_only_id, array = read_only.hex(), aktis.get(read_only)
    del read_only
    (pinned,) = state.get_objects(read_only_id)
    assert (pinned.reference_type, pinned.object_size) == ("PINNED_IN_MEMORY", size_bytes)
    del array
    assert state.get_objects(read_only_id) == []
    used = wait_for.remote(board, "objects")
    uses = pass_on.remote(used)
    (pending,) = [one for one in state.get_objects(used.hex()) if one.type == "DRIVER"]
    assert pending.reference_type == "USED_BY_PENDING_TASK"
    kinds = state.summarize_objects()["cluster"]["summary"]["disabled"]["ref_type_counts"]
    assert kinds["ACTOR_HANDLE"] >= 1
    assert state.get_objects("ff") == []
    aktis.get(board.say.remote("objects"))
    assert aktis.get([uses, outer])[0] == "objects"


def test_a_process_that_does_not_answer_is_named(board: Any) -> None:
    said = board.say.options(name="what others know").remote("nothing")
    aktis.get(said)
    speaker = Speaker.remote()
    pid = aktis.get(speaker.speak.remote("before it is stopped"))
    os.kill(pid, signal.SIGSTOP)
    try:
        partial = state.list_tasks(timeout=2, raise_on_missing_output=False)
        (name,) = partial.silent
        assert f"(pid {pid})" in name
        assert any(task.name == "what others know" for task in partial)
        with pytest.raises(AktisError, match=rf"\(pid {pid}\) did not answer in time"):
            state.list_tasks(timeout=2)
        assert state.list_workers(filters=[("pid", "=", pid)])[0].is_alive
    finally:
        os.kill(pid, signal.SIGCONT)
    assert state.list_tasks().silent == []


def test_logs_of_a_process(tmp_path: Any) -> None:
    speaker = Speaker.remote()
    call = speaker.speak.remote("first\nsecond")
    pid = aktis.get(call)
    (worker,) = state.list_workers(filters=[("pid", "=", pid)])
    assert worker.stdout_file in state.list_logs()["worker_out"]
    assert "raylet.log" in state.list_logs(glob_filter="ray*")["raylet"]
    assert "".join(state.get_log(pid=pid)) == "first\nsecond\n"
    assert "".join(state.get_log(actor_id=speaker._actor_id.hex(), tail=1)) == "second\n"
    assert "".join(state.get_log(task_id=call.task_id().hex())) == "first\nsecond\n"
    assert "".join(state.get_log(filename=worker.stderr_file, suffix="err")) == ""
    (tmp_path / "outside").write_text("not for you")
    with pytest.raises(AktisError, match="not connected"):
        state.list_logs(node_id="ff" * 16)
    with pytest.raises(ValueError, match="hexadecimal"):
        state.list_logs(node_id="here")
    for filename in (str(tmp_path / "outside"), "../token", "nothing.log"):
        with pytest.raises(ValueError, match="no log file"):
            next(iter(state.get_log(filename=filename)))
    with pytest.raises(ValueError, match="give one of"):
        next(iter(state.get_log()))
    with pytest.raises(ValueError, match="no worker process"):
        next(iter(state.get_log(pid=1)))


def test_runtime_environments() -> None:
    @aktis.remote(num_cpus=0, runtime_env={"env_vars": {"COLOUR": "blue"}})
    def colour() -> str:
        return os.environ["COLOUR"]

    assert aktis.get(colour.remote()) == "blue"
    (made,) = [one for one in state.list_runtime_envs() if one.runtime_env.get("env_vars")]
    assert made.runtime_env["env_vars"] == {"COLOUR": "blue"}
    context = aktis.get_runtime_context()
    assert (made.success, made.error, made.node_id) == (True, None, context.get_node_id())
    assert made.job_ids == [context.get_job_id()]


@aktis.remote(num_cpus=0)
class Watcher:
    async def look(self) -> str:
        return only("looks from a loop").state


@aktis.remote(num_cpus=0)
def look() -> str:
    return only("looks").state


def test_tasks_and_actors_may_ask() -> None:
    assert aktis.get(look.options(name="looks").remote()) == "RUNNING"
    watcher = Watcher.remote()
    assert aktis.get(watcher.look.options(name="looks from a loop").remote()) == "RUNNING"


def test_the_driver_is_on_a_node() -> None:
    context = aktis.get_runtime_context()
    job = state.get_job(context.get_job_id())
    assert job is not None
    assert job.driver_node_id == context.get_node_id()
    (driver,) = state.list_workers(filters=[("worker_type", "=", "DRIVER")])
    assert driver.pid == os.getpid()
    with pytest.raises(ValueError, match="a driver"):
        next(iter(state.get_log(pid=os.getpid())))


def test_a_snapshot_is_whole_while_tasks_are_submitted() -> None:
    core = current.require().core
    queued = pass_on.options(name="many", num_cpus=1000)
    first = [queued.remote(number) for number in range(100)]
    expected = {ref.task_id().binary() for ref in first}
    more: list[Any] = []
    submitting = threading.Thread(
        target=lambda: more.extend(queued.remote(number) for number in range(4_000))
    )
    submitting.start()
    while submitting.is_alive():
        snapshot = snapshot_pb2.ProcessSnapshot.FromString(core.snapshot(True, False, 10_000))
        seen = [task.task_id for task in snapshot.tasks]
        assert len(set(seen)) == len(seen)
        assert expected <= set(seen)
    submitting.join()
    listed = state.list_tasks(filters=[("name", "=", "many")], limit=1)
    assert (len(listed), listed.left_off) == (1, 4_099)
    for ref in first + more:
        aktis.cancel(ref)
    aktis.wait(first + more, num_returns=len(first + more))
