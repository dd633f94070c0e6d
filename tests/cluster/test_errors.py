"""Bad input: each is refused with what is wrong and what to do, where it is written."""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import aktis
import pytest
from aktis.exceptions import TaskError

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("errors")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=1):
        yield


@aktis.remote
def identity(value: Any) -> Any:
    return value


class Engine:
    def __init__(self) -> None:
        self.guard = threading.Lock()


class OwnError(Exception):
    """An exception of the program's own."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


def test_an_argument_that_cannot_be_pickled_is_named_with_its_member() -> None:
    with pytest.raises(TypeError, match=r"argument 0 of identity\(\).*\.guard is the member at fault"):
        identity.remote(Engine())
    with pytest.raises(TypeError, match=r"argument value of identity\(\)"):
        identity.remote(value={"engine": Engine()})
    with pytest.raises(TypeError, match=r"\[1\]\.guard"):
        aktis.put([1, Engine()])


def test_a_function_that_cannot_be_pickled_names_its_variable() -> None:
    lock = threading.Lock()

    @aktis.remote
    def locked() -> bool:
        return lock.locked()

    with pytest.raises(TypeError, match=r"variable 'lock' that locked closes over"):
        locked.remote()


def test_a_result_that_cannot_be_pickled_fails_the_task() -> None:
    @aktis.remote
    def make() -> Any:
        return Engine()

    with pytest.raises(TypeError, match=r"\.guard is the member at fault"):
        aktis.get(make.remote())


def test_a_constructor_argument_that_cannot_be_pickled() -> None:
    @aktis.remote
    class Holder:
        def __init__(self, value: Any) -> None: ...

    with pytest.raises(TypeError, match=r"argument 0 of .*Holder.*\.guard"):
        Holder.remote(Engine())


def test_direct_calls_say_to_use_remote() -> None:
    with pytest.raises(TypeError, match=r"use identity\.remote\(\)"):
        identity(1)  # type: ignore[operator]


def test_wrong_calls_fail_where_they_are_written() -> None:
    with pytest.raises(TypeError, match="identity"):
        identity.remote()
    with pytest.raises(TypeError, match="identity"):
        identity.remote(1, 2)
    with pytest.raises(TypeError, match="nope"):
        identity.remote(1, nope=1)


def test_unknown_and_bad_options() -> None:
    with pytest.raises(ValueError, match="unknown option 'num_cpu'"):
        aktis.remote(num_cpu=1)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="unknown option 'lifetime' for tasks"):
        identity.options(lifetime="detached")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="'num_cpus' must be a number"):
        identity.options(num_cpus="1")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="function or a class"):
        aktis.remote(3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"\.options\(\)"):
        aktis.remote(identity)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="@remote"):
        aktis.remote()


def test_the_users_exception_arrives_with_its_type_and_traceback() -> None:
    @aktis.remote
    def fail() -> None:
        raise OwnError(7)

    ref = fail.remote()
    for _ in range(2):  # at every get
        with pytest.raises(OwnError) as caught:
            aktis.get(ref)
        assert caught.value.code == 7
        assert isinstance(caught.value, TaskError)
        assert "raise OwnError(7)" in str(caught.value)
        assert caught.value.pid not in (0, os.getpid())


def test_the_chain_of_causes_arrives() -> None:
    @aktis.remote
    def fail() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise OwnError(1) from error

    with pytest.raises(OwnError) as caught:
        aktis.get(fail.remote())
    assert isinstance(caught.value, TaskError)
    assert isinstance(caught.value.cause, OwnError)
    assert isinstance(caught.value.cause.__cause__, KeyError)


def test_an_error_passes_through_tasks_that_depend_on_it() -> None:
    @aktis.remote
    def fail() -> None:
        raise OwnError(1)

    @aktis.remote
    def nested() -> Any:
        return aktis.get(fail.remote())

    with pytest.raises(OwnError):
        aktis.get(identity.remote(identity.remote(fail.remote())))
    with pytest.raises(OwnError) as caught:
        aktis.get(nested.remote())
    assert str(caught.value).count("failed") >= 2


def test_the_first_error_in_order_is_raised() -> None:
    @aktis.remote
    def fail(error: Exception) -> None:
        raise error

    with pytest.raises(KeyError):
        aktis.get([aktis.put(1), fail.remote(KeyError("a")), fail.remote(OSError("b"))])


def test_a_second_init_is_refused_unless_that_is_fine() -> None:
    with pytest.raises(RuntimeError, match="ignore_reinit_error"):
        aktis.init()
    context = aktis.init(ignore_reinit_error=True)
    assert context["node_id"] == aktis.get_runtime_context().get_node_id()


def test_infeasible_resources_are_warned_about(capfd: pytest.CaptureFixture[str]) -> None:
    task = identity.options(resources={"unobtainium": 1})
    ref = task.remote(1)
    text = ""
    for _ in range(100):
        assert aktis.wait([ref], timeout=0.1) == ([], [ref])
        text += capfd.readouterr().err
        if "unobtainium" in text:
            break
    assert "identity cannot run on this cluster" in text
    assert "unobtainium" in text
    aktis.cancel(ref)


def test_state_of_the_cluster() -> None:
    (node,) = aktis.nodes()
    assert node["Alive"]
    assert node["NodeID"] == aktis.get_runtime_context().get_node_id()
    assert aktis.cluster_resources()["CPU"] == 1
    assert set(aktis.available_resources()) <= set(aktis.cluster_resources())
    assert aktis.is_initialized()


def test_the_timeline_has_tasks_and_spans(tmp_path: Any) -> None:
    @aktis.remote
    def work() -> None:
        from aktis.util.profiling import profile

        with profile("inner span", extra_data={"file": "a.csv"}):
            pass
        with contextlib.suppress(KeyError), profile("failed span", extra_data={"file": "b.csv", "type": 1}):
            raise KeyError("column")

    aktis.get(work.remote())
    names: set[str] = set()
    never = identity.options(resources={"unobtainium": 1}).remote(1)
    for _ in range(100):  # workers send their events in batches, once per second
        names = {event["name"] for event in aktis.timeline() or []}
        if any("work" in name for name in names) and "inner span" in names:
            break
        aktis.wait([never], timeout=0.1)
    aktis.cancel(never)
    assert "inner span" in names
    (span,) = (event for event in aktis.timeline() or [] if event["name"] == "inner span")
    assert span["args"]["file"] == "a.csv"
    assert "traceback" not in span["args"]
    (failed,) = (event["args"] for event in aktis.timeline() or [] if event["name"] == "failed span")
    assert (failed["file"], failed["type"], failed["value"]) == ("b.csv", "<class 'KeyError'>", "'column'")
    assert failed["error"] == "KeyError: 'column'"
    assert 'raise KeyError("column")' in failed["traceback"]
    path = tmp_path / "trace.json"
    assert aktis.timeline(str(path)) is None
    assert path.read_text().startswith("[")
