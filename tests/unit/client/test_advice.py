"""Advice is given once, at the line of the program, and only where there is something to gain."""

import warnings
from typing import Any

import numpy as np
import pytest
from aktis._runtime.advice import LARGE_EXPORT_BYTES, Advice, largest_member
from aktis.exceptions import AktisWarning

MIB = 1 << 20


def advised(step: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step()
    assert all(warning.category is AktisWarning for warning in caught)
    assert all(warning.filename == __file__ for warning in caught)
    return [str(warning.message) for warning in caught]


def test_an_object_that_is_stored_again_and_again_is_said_once() -> None:
    advice, array = Advice(), np.zeros(MIB)

    def calls() -> None:
        for _ in range(10):
            advice.large_argument("f", "0", array, 8 * MIB)

    (message,) = advised(calls)
    assert "the same ndarray of 8.0 MiB is argument 0 of 3 calls of f" in message
    assert "aktis.put" in message


def test_different_objects_and_small_ones_are_fine() -> None:
    advice, array = Advice(), np.zeros(1)

    def calls() -> None:
        for _ in range(10):
            advice.large_argument("f", "0", np.zeros(1), 8 * MIB)
            advice.large_argument("g", "0", array, MIB // 8)
            advice.large_argument("h", "0", [1], 8 * MIB)  # its place may be that of one that is gone

    assert advised(calls) == []


def test_a_large_export_names_what_is_large_in_it() -> None:
    advice, table, small = Advice(), bytes(LARGE_EXPORT_BYTES), 1

    def function() -> Any:
        return table, small

    def exports() -> None:
        advice.exported("the function f", function, LARGE_EXPORT_BYTES - 1)
        advice.exported("the function f", function, LARGE_EXPORT_BYTES)
        advice.exported("the function f", function, LARGE_EXPORT_BYTES)

    (message,) = advised(exports)
    assert "the function f takes 10 MiB when pickled" in message
    assert "variable 'table' that function closes over takes 10 MiB" in message


def test_of_many_small_parts_none_is_named() -> None:
    assert largest_member([1, 2, 3]) == ""


@pytest.mark.parametrize(("function", "instead"), [("get", "await ref"), ("wait", "asyncio.wait")])
def test_a_wait_on_an_event_loop_says_what_to_do_instead(function: str, instead: str) -> None:
    advice = Advice()

    def waits() -> None:
        for _ in range(2):
            advice.blocks_loop(function)

    (message,) = advised(waits)
    assert instead in message
