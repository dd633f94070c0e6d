"""The files of a node's log directory: daemons, workers, set-ups of runtime environments."""

import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from aktis._proto import snapshot_pb2
from aktis.exceptions import AktisError
from aktis.util.state import kinds
from aktis.util.state.api import DEFAULT_TIMEOUT_S, listing
from aktis.util.state.kinds import MAX_LIMIT, Question, take
from aktis.util.state.source import Source, source_of
from aktis.util.state.work import WorkerState

_ANSI: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_CATEGORIES: Final = (
    ("workers/worker-*.out", "worker_out"),
    ("workers/worker-*.err", "worker_err"),
    ("workers/runtime_env*", "runtime_env"),
    ("raylet*", "raylet"),
    ("gcs*", "gcs_server"),
    ("*", "internal"),
)


def list_logs(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    glob_filter: str | None = None,
    timeout: float = DEFAULT_TIMEOUT_S,
) -> dict[str, list[str]]:
    """Return the names of a node's log files by category, as `get_log` takes them.

    Args:
        address: As for `list_actors`.
        node_id, node_ip: Which node; may be left out when there is only one.
        glob_filter: A pattern that names must match, as ``"*.err"``.
        timeout: How long the cluster may take, in seconds.

    Returns:
        ``worker_out``, ``worker_err``, ``runtime_env``, ``raylet``, ``gcs_server`` and ``internal``, as far
        as there are such files.

    Raises:
        ValueError: there is no such node, or several and none is named.
        AktisError: the node did not answer in time.
    """
    source = source_of(address)
    node = _node(source, node_id, node_ip, timeout)
    answer = _ask(source, node, snapshot_pb2.TakeSnapshot(logs=True), timeout)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name in answer.log_files:
        if fnmatch.fnmatch(name, glob_filter or "*"):
            found[next(kind for pattern, kind in _CATEGORIES if fnmatch.fnmatch(name, pattern))].append(name)
    return dict(found)


def get_log(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    filename: str | None = None,
    actor_id: str | None = None,
    task_id: str | None = None,
    pid: int | None = None,
    follow: bool = False,
    tail: int = -1,
    timeout: float = DEFAULT_TIMEOUT_S,
    suffix: str = "out",
    encoding: str | None = "utf-8",
    errors: str | None = "strict",
    submission_id: str | None = None,
    attempt_number: int = 0,
    filter_ansi_code: bool = False,
) -> Iterator[str]:
    """Yield the end of one log file, at most 4 MiB.

    Args:
        address: As for `list_actors`.
        node_id, node_ip: Which node; not needed when there is one, or for an actor, a task, a pid.
        filename: As `list_logs` has it; or the file is that of
        actor_id: the actor's process,
        task_id: the process that runs or ran the task, with what else it has printed, or
        pid: a worker process.
        follow: Must be False.
        tail: How many lines; -1: as many as fit.
        timeout: How long the cluster may take, in seconds.
        suffix: "out" or "err": which of a process's files.
        encoding, errors: How bytes become text; encoding None: as UTF-8.
        submission_id: Must be None.
        attempt_number: Of the task.
        filter_ansi_code: Leave out colours and the like.

    Raises:
        ValueError: an argument is not valid, or there is no such file, actor, task, process.
        AktisError: the node did not answer in time.
    """
    if follow:
        raise ValueError("follow=True is not supported: ask again, or follow the file on its node")
    if submission_id is not None:
        raise ValueError("submission_id is not supported: jobs are programs that call aktis.init()")
    if suffix not in ("out", "err"):
        raise ValueError(f'suffix must be "out" or "err", got {suffix!r}')
    if sum(one is not None for one in (filename, actor_id, task_id, pid)) != 1:
        raise ValueError("give one of filename, actor_id, task_id, pid")
    source = source_of(address)
    if filename is None:
        worker = _worker(source, actor_id, task_id, attempt_number, pid, timeout)
        filename, node_id = (worker.stderr_file if suffix == "err" else worker.stdout_file), worker.node_id
        if filename is None:
            raise ValueError(f"process {worker.pid} is a driver: it prints where its user has started it")
    node = _node(source, node_id, node_ip, timeout)
    question = snapshot_pb2.TakeSnapshot(log_file=filename, log_lines=max(0, tail))
    answer = _ask(source, node, question, timeout)
    if not answer.log_found:
        raise ValueError(f"node {node} has no log file {filename!r}: see list_logs()")
    text = answer.log.decode(encoding or "utf-8", errors or "strict")
    yield _ANSI.sub("", text) if filter_ansi_code else text


def _worker(
    source: Source,
    actor_id: str | None,
    task_id: str | None,
    attempt: int,
    pid: int | None,
    timeout_s: float,
) -> WorkerState:
    if task_id is not None:
        tasks = listing(kinds.TASKS, source, [("task_id", "=", task_id)], MAX_LIMIT, timeout_s)
        ran = [task for task in tasks if task.attempt_number == attempt and task.worker_pid]
        if not ran:
            raise ValueError(f"no process is known to have run attempt {attempt} of task {task_id}")
        field, value, what = "worker_id", str(ran[0].worker_id), f"task {task_id}"
    elif actor_id is not None:
        field, value, what = "actor_id", actor_id, f"actor {actor_id}"
    else:
        field, value, what = "pid", str(pid), f"pid {pid}"
    workers = listing(kinds.WORKERS, source, [(field, "=", value)], MAX_LIMIT, timeout_s)
    if not workers:
        raise ValueError(f"no worker process is known for {what}: see list_workers()")
    return workers[0]


def _node(source: Source, node_id: str | None, node_ip: str | None, timeout_s: float) -> str:
    if node_id is not None:
        if re.fullmatch(r"([0-9a-f]{2})+", node_id) is None:
            raise ValueError(f"node_id must be hexadecimal, got {node_id!r}")
        return node_id
    nodes = listing(kinds.NODES, source, [("state", "=", "ALIVE")], MAX_LIMIT, timeout_s)
    found = [node for node in nodes if node_ip in (None, node.node_ip)]
    if len(found) != 1:
        raise ValueError(
            f"{len(found)} living nodes{f' at {node_ip}' if node_ip else ''}: give node_id, one of "
            f"{', '.join(node.node_id for node in nodes)}"
        )
    return found[0].node_id


def _ask(
    source: Source, node_id: str, what: snapshot_pb2.TakeSnapshot, timeout_s: float
) -> snapshot_pb2.NodeSnapshot:
    nodes, silent = take(Question(source, timeout_s), what, node_id)
    if len(nodes) != 1 or silent:
        raise AktisError(
            f"{', '.join(silent) or 'the node'} did not answer: see list_nodes() for what became of it"
        )
    return nodes[0]
