"""What everybody gets wrong once: the message says what to do instead."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import aktis
import pytest

from tests.support.clients import embedded


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=1):
        yield


@aktis.remote
def double(x: int) -> int:
    return 2 * x


@aktis.remote
class Actor:
    def __init__(self) -> None:
        self.value = 1

    def method(self) -> int:
        return self.value


def lock_as_result() -> Any:
    return threading.Lock()


def exits() -> None:
    import os

    os._exit(7)


CASES: list[tuple[Callable[[], Any], type[BaseException], str]] = [
    (lambda: double(1), TypeError, r"use double\.remote\(\) instead of double\(\)"),  # type: ignore[operator]
    (lambda: Actor(), TypeError, r"use Actor\.remote\(\) instead of Actor\(\)"),
    (lambda: Actor.remote().method(), TypeError, r"use \.method\.remote\(\) instead of \.method\(\)"),
    (lambda: aktis.get(double), ValueError, r"call its \.remote\(\) and get\(\) what that returns"),  # type: ignore[call-overload]
    (lambda: aktis.get(Actor.remote()), ValueError, r"call \.remote\(\) of one of its methods"),
    (lambda: aktis.get({double.remote(1)}), ValueError, "make a list of it"),  # type: ignore[call-overload]
    (lambda: aktis.get({1: double.remote(1)}), ValueError, "get\\(\\) a list of its values"),  # type: ignore[call-overload]
    (lambda: aktis.wait(double.remote(1)), TypeError, "put it into a list"),  # type: ignore[arg-type]
    (lambda: Actor.remote().value, AttributeError, "can only be read by its methods"),
    (lambda: double.options(num_cpu=1), ValueError, r"'num_cpu' for tasks \(did you mean 'num_cpus'\?\)"),  # type: ignore[call-overload]
    (lambda: Actor.options(max_retries=1), ValueError, "for actors .*did you mean .*; valid ones: "),
    (lambda: aktis.remote(num_gpu=1), ValueError, r"did you mean 'num_gpus'\?"),  # type: ignore[call-overload]
    (lambda: double.remote(threading.Lock()), TypeError, r"argument 0 of double\(\).*Make it inside"),  # type: ignore[call-overload]
    (lambda: aktis.get(aktis.remote(lock_as_result).remote()), TypeError, "what lock_as_result returned"),
    (
        lambda: aktis.get(aktis.remote(exits).options(max_retries=0).remote()),
        aktis.exceptions.WorkerCrashedError,
        r"died: it exited with code 7 \(process \d+\)$",
    ),
    (lambda: aktis.init(), RuntimeError, r"shutdown\(\) first, or pass ignore_reinit_error"),
]


@pytest.mark.parametrize(("mistake", "kind", "text"), CASES)
def test_a_mistake_is_answered_by_what_to_do(
    mistake: Callable[[], Any], kind: type[BaseException], text: str
) -> None:
    with pytest.raises(kind, match=text):
        mistake()
