"""How an exception in one process becomes one in another."""

import pickle
import threading

import pytest
from aktis._runtime.errors import decode_error, encode_error, task_failure
from aktis.exceptions import (
    ActorDiedError,
    AktisError,
    GetTimeoutError,
    ObjectLostError,
    OwnerDiedError,
    TaskCancelledError,
    TaskError,
)


class NeedsTwoError(Exception):
    """An exception that plain pickle can dump but not load."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


def raised(error: BaseException) -> BaseException:
    """The exception with a traceback, as an executor sees it."""
    try:
        raise error
    except BaseException as caught:
        return caught


def travel(error: BaseException) -> TaskError:
    """Through the executor, the wire, and into the caller."""
    arrived = decode_error(encode_error(task_failure("f", raised(error), 42)))
    assert isinstance(arrived, TaskError)
    return arrived


def test_a_task_error_is_an_instance_of_the_users_type() -> None:
    error = travel(ZeroDivisionError("by zero"))
    assert isinstance(error, ZeroDivisionError)
    assert isinstance(error.cause, ZeroDivisionError)
    assert error.args == ("by zero",)
    with pytest.raises(ZeroDivisionError):
        raise error


class LateError(RuntimeError, TimeoutError):
    """Has two built-in bases, of which the second one lays out its instances."""


def test_a_type_with_several_builtin_bases_comes_along() -> None:
    error = travel(LateError("too late"))
    assert isinstance(error, LateError)
    assert error.args == ("too late",)


def test_the_text_has_the_remote_traceback() -> None:
    text = str(travel(ValueError("odd")))
    assert "f (process 42) failed" in text
    assert "in raised" in text
    assert "ValueError: odd" in text


def test_attributes_of_the_exception_come_along() -> None:
    error = travel(NeedsTwoError(7, "seven"))
    assert isinstance(error, NeedsTwoError)
    assert error.code == 7
    file_error = travel(FileNotFoundError(2, "No such file", "/nowhere"))
    assert isinstance(file_error, FileNotFoundError)
    assert (file_error.errno, file_error.filename) == (2, "/nowhere")
    decode = travel(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"))
    assert isinstance(decode, UnicodeDecodeError)
    assert (decode.start, decode.reason) == (0, "bad")


def test_the_chain_of_causes_comes_along() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError as outer:
        error = travel(outer)
    assert isinstance(error.cause, ValueError)
    assert isinstance(error.cause.__cause__, KeyError)


def test_an_error_of_a_task_that_passed_through_another_keeps_the_users_type() -> None:
    error = travel(travel(ZeroDivisionError("deep")))
    assert isinstance(error, ZeroDivisionError)
    assert isinstance(error.cause, TaskError)
    assert str(error).count("failed") == 2


def test_an_exception_that_cannot_be_pickled_keeps_its_message() -> None:
    bad = ValueError("with a lock")
    bad.lock = threading.Lock()  # type: ignore[attr-defined]
    error = travel(bad)
    assert error.cause is None
    assert "ValueError: with a lock" in str(error)


def test_exceptions_of_ours_that_pass_through_a_task_keep_their_type() -> None:
    error = travel(GetTimeoutError("late"))
    assert isinstance(error, GetTimeoutError)
    assert isinstance(error, TimeoutError)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit])
def test_what_is_no_exception_for_users_stays_a_plain_task_error(kind: type[BaseException]) -> None:
    assert type(travel(kind())) is TaskError


def test_exception_groups_keep_their_members() -> None:
    error = travel(ExceptionGroup("both", [ValueError("a"), KeyError("b")]))
    assert isinstance(error, ExceptionGroup)
    assert [type(one) for one in error.exceptions] == [ValueError, KeyError]


def test_a_long_traceback_is_cut_in_the_middle() -> None:
    text = str(travel(ValueError("x" * 200_000)))
    assert len(text) < 70_000
    assert "characters left out" in text


@pytest.mark.parametrize(
    "error",
    [
        TaskCancelledError("ab"),
        ActorDiedError("Actor A is dead", "ff"),
        ObjectLostError("ab", "gone"),
        OwnerDiedError("ab"),
        GetTimeoutError("late"),
    ],
)
def test_our_errors_pickle(error: AktisError) -> None:
    loaded = pickle.loads(pickle.dumps(error))
    assert type(loaded) is type(error)
    assert str(loaded) == str(error)
    assert loaded.__dict__ == error.__dict__


def test_what_cannot_be_decoded_is_an_error_that_says_so() -> None:
    assert "cannot be loaded" in str(decode_error(b"not a pickle"))
    assert "arrived as 3" in str(decode_error(pickle.dumps(3)))
