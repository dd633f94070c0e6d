"""The functions. Those of one shape are made from the table of kinds."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeVar, cast

from aktis._core import ObjectRef
from aktis.exceptions import AktisError
from aktis.util.state import kinds
from aktis.util.state.kinds import MAX_LIMIT, Found, Kind, Question
from aktis.util.state.records import Record
from aktis.util.state.source import Source, source_of
from aktis.util.state.work import ObjectState, TaskState

DEFAULT_LIMIT: Final = 100
DEFAULT_TIMEOUT_S: Final = 30

Filter = tuple[str, str, str | bool | int | float]
R = TypeVar("R", bound=Record)
R_co = TypeVar("R_co", bound=Record, covariant=True)

_ALIASES: Final = {"ray_namespace": "namespace"}


class Listing(list[R]):
    """Records, and what is missing beside them."""

    left_off: int = 0
    """How many more there are beyond `limit`, and how many nobody has sent, which may or may not pass the
    filters."""
    silent: Sequence[str] = ()
    """Who has not answered in time, when that was not to raise."""


class Lists(Protocol[R]):
    """How a kind is listed."""

    def __call__(
        self,
        address: str | None = None,
        filters: Sequence[Filter] | None = None,
        limit: int = DEFAULT_LIMIT,
        timeout: float = DEFAULT_TIMEOUT_S,
        detail: bool = False,
        raise_on_missing_output: bool = True,
    ) -> Listing[R]:
        """See `list_actors`."""
        ...


class Gets(Protocol[R_co]):
    """How one of a kind is found."""

    def __call__(
        self,
        id: str,  # noqa: A002  the name is part of the API to be compatible with
        address: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> R_co | None:
        """See `get_actor`."""
        ...


def listing(
    kind: Kind[R], source: Source, filters: Sequence[Filter], limit: int, timeout_s: float
) -> Listing[R]:
    """Return what of a kind passes the filters; `Listing.silent` says who has not answered.

    Raises:
        TypeError, ValueError: an argument is not valid.
        AktisError: the GCS did not answer in time.
    """
    if type(limit) is not int:
        raise TypeError(f"limit must be an int, got {type(limit).__name__} {limit!r}")
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"limit must be 1 to {MAX_LIMIT}, got {limit}")
    tests = [_test(kind, one) for one in filters]
    equal = {name: str(value).lower() for name, operator, value in filters if operator == "="}
    question = Question(source, timeout_s, MAX_LIMIT if tests else limit, equal)
    found: Found[R] = kind.fetch(question)
    passed = [record for record in found.records if all(test(record) for test in tests)]
    result = Listing(passed[:limit])
    result.left_off = found.left_off + len(passed) - len(result)
    result.silent = found.silent
    return result


def _lister(kind: Kind[R]) -> Lists[R]:
    def list_them(
        address: str | None = None,
        filters: Sequence[Filter] | None = None,
        limit: int = DEFAULT_LIMIT,
        timeout: float = DEFAULT_TIMEOUT_S,
        detail: bool = False,
        raise_on_missing_output: bool = True,
    ) -> Listing[R]:
        del detail  # records are always complete
        found = listing(kind, source_of(address), filters or (), limit, timeout)
        return _complete(found) if raise_on_missing_output else found

    return cast(
        "Lists[R]",
        _named(
            list_them,
            f"list_{kind.plural}",
            f"""Return {kind.what}.

    Args:
        address: None or "auto": the cluster of this process's session, else the current one of this machine.
            Any other: as `aktis.init` takes it; no job is registered for that.
        filters: What must all hold: (name of a field, "=" or "!=", value); text is compared without case.
        limit: How many are returned at most, 1 to 10 000; `left_off` of what is returned says how many more
            there are.
        timeout: How long the cluster may take, in seconds.
        detail: Accepted for compatibility; records are always complete.
        raise_on_missing_output: False: when a process or node does not answer in time, return what there is;
            its `silent` names them.

    Raises:
        TypeError, ValueError: an argument is not valid.
        ConnectionError: there is no such cluster.
        AktisError: the GCS did not answer in time, or others did not and that is to raise.
    """,
        ),
    )


def _getter(kind: Kind[R]) -> Gets[R]:
    def get_it(
        id: str,  # noqa: A002  the name is part of the API to be compatible with
        address: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> R | None:
        found = listing(kind, source_of(address), [(kind.id_field, "=", id)], MAX_LIMIT, timeout)
        return found[0] if found else None

    what = kind.singular.replace("_", " ")
    text = f"Return a {what} by its id in hexadecimal; None when the cluster does not know it."
    return cast("Gets[R]", _named(get_it, f"get_{kind.singular}", text))


def _named(function: Callable[..., Any], name: str, text: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = text
    return function


list_actors = _lister(kinds.ACTORS)
list_nodes = _lister(kinds.NODES)
list_jobs = _lister(kinds.JOBS)
list_placement_groups = _lister(kinds.PLACEMENT_GROUPS)
list_tasks = _lister(kinds.TASKS)
list_objects = _lister(kinds.OBJECTS)
list_workers = _lister(kinds.WORKERS)
list_runtime_envs = _lister(kinds.RUNTIME_ENVS)
get_actor = _getter(kinds.ACTORS)
get_node = _getter(kinds.NODES)
get_job = _getter(kinds.JOBS)
get_placement_group = _getter(kinds.PLACEMENT_GROUPS)
get_worker = _getter(kinds.WORKERS)


def get_task(
    id: "str | ObjectRef[Any]",  # noqa: A002  the name is part of the API to be compatible with
    address: str | None = None,
    timeout: float = DEFAULT_TIMEOUT_S,
) -> TaskState | None:
    """Return the last attempt of a task; None when it is not known.

    Args:
        id: Of the task, in hexadecimal; or what the task returns.
        address: As for `list_actors`.
        timeout: How long the cluster may take, in seconds.
    """
    name = id.task_id().hex() if isinstance(id, ObjectRef) else id
    found = listing(kinds.TASKS, source_of(address), [("task_id", "=", name)], MAX_LIMIT, timeout)
    return max(found, key=lambda task: task.attempt_number, default=None)


def get_objects(
    id: str,  # noqa: A002  the name is part of the API to be compatible with
    address: str | None = None,
    timeout: float = DEFAULT_TIMEOUT_S,
) -> list[ObjectState]:
    """Return what each process holds of an object, by the object's id in hexadecimal."""
    return listing(kinds.OBJECTS, source_of(address), [("object_id", "=", id)], MAX_LIMIT, timeout)


# ---- counting ----


def summarize_actors(
    address: str | None = None, timeout: float = DEFAULT_TIMEOUT_S, raise_on_missing_output: bool = True
) -> dict[str, Any]:
    """Count the actors of each class by their states.

    Returns:
        ``{"cluster": {"summary": {class: {"class_name": ..., "state_counts": {state: number}}},
        "total_actors": number, "summary_by": "class"}}``
    """
    actors = _all(kinds.ACTORS, address, timeout, raise_on_missing_output)
    groups = _grouped(actors, "class_name")
    summary = {name: {"class_name": name, "state_counts": _counts(group)} for name, group in groups}
    return _cluster(actors, summary=summary, total_actors=len(actors), summary_by="class")


def summarize_tasks(
    address: str | None = None, timeout: float = DEFAULT_TIMEOUT_S, raise_on_missing_output: bool = True
) -> dict[str, Any]:
    """Count the tasks of each function, and the calls of each method, by their states.

    Returns:
        ``{"cluster": {"summary": {name: {"func_or_class_name": ..., "type": ..., "state_counts": {state:
        number}}}, "total_tasks": ..., "total_actor_tasks": ..., "total_actor_scheduled": ...,
        "summary_by": "func_name"}}``; with ``"left_off": number`` when there are more than the
        10 000 that each process and the GCS tell of, ``"silent": [...]`` when somebody did not answer in time
    """
    tasks = _all(kinds.TASKS, address, timeout, raise_on_missing_output)
    types = Counter(task.type for task in tasks)
    summary = {
        name: {
            "func_or_class_name": group[0].func_or_class_name,
            "type": group[0].type,
            "state_counts": _counts(group),
        }
        for name, group in _grouped(tasks, "name")
    }
    return _cluster(
        tasks,
        summary=summary,
        total_tasks=types["NORMAL_TASK"],
        total_actor_tasks=types["ACTOR_TASK"],
        total_actor_scheduled=types["ACTOR_CREATION_TASK"],
        summary_by="func_name",
    )


def summarize_objects(
    address: str | None = None, timeout: float = DEFAULT_TIMEOUT_S, raise_on_missing_output: bool = True
) -> dict[str, Any]:
    """Count what processes hold of objects; sizes in MB (10**6 bytes).

    Returns:
        ``{"cluster": {"summary": {call site: {"total_objects": ..., "total_size_mb": ...,
        "total_num_workers": ..., "total_num_nodes": ..., "task_state_counts": ...,
        "task_attempt_number_counts": ...,
        "ref_type_counts": ...}}, "total_objects": ..., "total_size_mb": ..., "callsite_enabled": False,
        "summary_by": "callsite"}}``; there is one call site, "disabled".
    """
    objects = _all(kinds.OBJECTS, address, timeout, raise_on_missing_output)
    summary = {
        site: {
            "total_objects": len(group),
            "total_size_mb": _megabytes(group),
            "total_num_workers": len({(one.node_id, one.pid) for one in group}),
            "total_num_nodes": len({one.node_id for one in group}),
            "task_state_counts": _counts(group, "task_status"),
            "task_attempt_number_counts": _counts(group, "attempt_number"),
            "ref_type_counts": _counts(group, "reference_type"),
        }
        for site, group in _grouped(objects, "call_site")
    }
    return _cluster(
        objects,
        summary=summary,
        total_objects=len(objects),
        total_size_mb=_megabytes(objects),
        callsite_enabled=False,
        summary_by="callsite",
    )


def _all(kind: Kind[R], address: str | None, timeout_s: float, raise_on_missing_output: bool) -> Listing[R]:
    found = kind.fetch(Question(source_of(address), timeout_s))
    result = Listing(found.records)
    result.left_off, result.silent = found.left_off, found.silent
    return _complete(result) if raise_on_missing_output else result


def _cluster(found: Listing[Any], **counted: Any) -> dict[str, Any]:
    missing = {"left_off": found.left_off, "silent": list(found.silent)}
    return {"cluster": {**counted, **{name: value for name, value in missing.items() if value}}}


def _grouped(records: Iterable[R], name: str) -> list[tuple[str, list[R]]]:
    groups: defaultdict[str, list[R]] = defaultdict(list)
    for record in records:
        groups[record[name]].append(record)
    return sorted(groups.items())


def _counts(records: Iterable[Record], name: str = "state") -> dict[str, int]:
    return dict(Counter(str(record[name]) for record in records))


def _megabytes(objects: Iterable[ObjectState]) -> float:
    return sum(one.object_size for one in objects) / 1e6


# ---- choosing ----


def _complete(found: Listing[R]) -> Listing[R]:
    if found.silent:
        raise AktisError(
            f"{', '.join(found.silent)} did not answer in time: they may be stopped, or in a long call that "
            "keeps the GIL; ask again, or with raise_on_missing_output=False for what the others know"
        )
    return found


def _test(kind: Kind[Any], condition: Filter) -> Callable[[Record], bool]:
    if len(condition) != 3:
        raise ValueError(f'a filter is (name, "=" or "!=", value), got {condition!r}')
    name, operator, value = condition
    name = _ALIASES.get(name, name)
    names = kind.record.names()
    if name not in names:
        raise ValueError(f"there is nothing called {name!r} to filter by; there are {', '.join(names)}")
    if operator not in ("=", "!="):
        raise ValueError(f'the operator of a filter is "=" or "!=", got {operator!r}')
    wanted = str(value).lower()
    return lambda record: (str(record[name]).lower() == wanted) == (operator == "=")
