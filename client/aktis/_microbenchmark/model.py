"""The words of the benchmark: an api, a load, a row, a sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


class Api(Protocol):
    """The calls that a row uses; the ``aktis`` module has them, and so has any module with the same API."""

    @property
    def __name__(self) -> str: ...

    @property
    def remote(self) -> Callable[..., Any]: ...

    @property
    def get(self) -> Callable[..., Any]: ...

    @property
    def put(self) -> Callable[..., Any]: ...

    @property
    def wait(self) -> Callable[..., Any]: ...

    @property
    def kill(self) -> Callable[..., Any]: ...


class NotOfferedError(Exception):
    """The system under test lacks what a row needs; the message says what."""


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Load:
    """Work to be timed.

    step: one timed unit of work. It returns only when the work is finished.
    amount: how much one step does, in the numerator of the row's unit (calls, GB, ...).
    reset: runs after each step, outside the measured time.
    close: runs once at the end, outside the measured time.
    """

    step: Callable[[], object]
    amount: float = 1.0
    reset: Callable[[], object] = _nothing
    close: Callable[[], object] = _nothing


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    prepare: builds the load; arguments are the api module and how many clients "several clients" means.
    """

    name: str
    unit: str
    prepare: Callable[[Api, int], Load]


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: the rate in the row's unit, from how many steps, over how many measured seconds."""

    value: float
    steps: int
    elapsed_s: float
