"""Which functions a pool pickles once."""

import math
import operator
from collections.abc import Callable
from typing import Any

import pytest
from aktis.util.multiprocessing.functions import KEPT, Incoming, Outgoing

CONSTANTS: dict[str, Any] = {"number": 1, "text": "a", "math": math, "nothing": None}


def define(source: str, **more: Any) -> Any:
    """Return f of a program."""
    names: dict[str, Any] = {"__name__": "__main__", **CONSTANTS, **more}
    exec(source, names)
    return names["f"]


class Callable_:  # noqa: N801
    def __call__(self) -> int:
        return 1


def with_attribute() -> Any:
    function = define("def f(): return 1")
    function.calls = []
    return function


@pytest.mark.parametrize(
    "function",
    [
        abs,
        define("def f(a, b=2, *, c='x'): return a"),
        define("def f(a): return number + len(text) + math.pi + missing"),
        define("def f(a): return [x + number for x in a]"),
    ],
)
def test_what_cannot_change_is_pickled_once(function: Callable[..., Any]) -> None:
    outgoing, incoming = Outgoing(), Incoming()
    sent = outgoing.of(function)
    assert isinstance(sent, bytes)
    assert outgoing.of(function) is sent
    loaded = incoming.function(sent)
    assert loaded.__name__ == function.__name__
    assert incoming.function(bytes(bytearray(sent))) is loaded


@pytest.mark.parametrize(
    "function",
    [
        operator.itemgetter(1),
        [].append,
        Callable_(),
        with_attribute(),
        define("def f(a, b=[]): return a"),
        define("def f(a, *, b=[]): return a"),
        define("def f(): return list_of", list_of=[]),
        define("def f(): return (lambda: list_of)()", list_of=[]),
        define("def f(): return f"),
        define("def outer(x):\n def f(): return x\n return f\nf = outer(1)"),
        define("def f():\n global number\n number = 2"),
        define("def f():\n def g():\n  global number\n  number = 2\n return g"),
    ],
)
def test_what_may_change_is_sent_as_it_is(function: Callable[..., Any]) -> None:
    outgoing = Outgoing()
    for _ in range(2):
        assert outgoing.of(function) is function
    assert Incoming().function(function) is function


@pytest.mark.parametrize("change", [{"number": 2}, {"missing": 3}, {"math": None}, {"number": []}])
def test_what_has_changed_is_pickled_again(change: dict[str, Any]) -> None:
    outgoing = Outgoing()
    function = define("def f(): return number, math, missing")
    sent = outgoing.of(function)
    function.__globals__.update(change)
    assert outgoing.of(function) != sent


def test_new_code_and_defaults_are_seen() -> None:
    outgoing = Outgoing()
    function = define("def f(a=1): return a")
    sent = {outgoing.of(function)}
    function.__defaults__ = (2,)
    sent.add(outgoing.of(function))
    function.__code__ = define("def f(a=1): return a + 1").__code__
    sent.add(outgoing.of(function))
    assert len(sent) == 3


def test_so_many_are_kept() -> None:
    outgoing, incoming = Outgoing(), Incoming()
    for number in range(KEPT + 10):
        incoming.function(outgoing.of(define(f"def f(): return {number}")))
    assert len(outgoing._known) == len(incoming._loaded) == KEPT
