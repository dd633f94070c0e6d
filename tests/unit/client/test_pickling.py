"""Values that cannot be pickled: the message names the member at fault."""

import functools
import pickle
import threading
from typing import Any

import pytest
from aktis._runtime.pickling import NotPicklableError, dumps, find_culprit, unpicklable_arguments
from aktis._runtime.serialization import serialize

LOCK = threading.Lock()


def test_functions_pickled_by_value_keep_the_name_of_their_file() -> None:
    def outer() -> Any:
        return lambda: 1 / 0

    function = pickle.loads(dumps(outer))
    assert function.__code__.co_filename == __file__
    assert function().__code__.co_filename == __file__, "a function made by it"


class Engine:
    def __init__(self) -> None:
        self.speed = 3
        self.parts: dict[str, Any] = {"valve": 1, "guard": LOCK}


class Slotted:
    __slots__ = ("guard",)

    def __init__(self) -> None:
        self.guard = LOCK


def uses_global() -> Any:
    return LOCK


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (LOCK, ""),
        ([1, [2, LOCK]], "[1][1]"),
        ({"a": {"b": LOCK}}, "['a']['b']"),
        (Engine(), ".parts['guard']"),
        (Slotted(), ".guard"),
        (functools.partial(print, end=LOCK), ".keywords['end']"),
        ((1, {2, 3}, [Engine()]), "[2][0].parts['guard']"),
    ],
)
def test_the_path_leads_to_the_member(value: Any, path: str) -> None:
    assert find_culprit(value) == (path, LOCK)


def test_variables_that_a_function_brings_along_are_named() -> None:
    lock = threading.Lock()

    def closes_over() -> Any:
        return lock

    path, culprit = find_culprit(closes_over)
    assert "'lock'" in path
    assert "closes_over" in path
    assert culprit is lock


def test_values_that_refer_to_themselves_do_not_hang() -> None:
    loop: list[Any] = [LOCK]
    loop.append(loop)
    assert find_culprit(loop) == ("[0]", LOCK)


def test_serialize_names_the_member_and_what_to_do() -> None:
    with pytest.raises(TypeError, match=r"\.parts\['guard'\] is the member at fault") as caught:
        serialize(Engine())
    assert "__getstate__" in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("args", "kwargs", "name"),
    [((1, Engine()), {}, "argument 1"), ((), {"engine": Engine()}, "argument engine")],
)
def test_the_argument_of_a_call_is_named(args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> None:
    with pytest.raises(NotPicklableError) as caught:
        serialize([args, kwargs])
    text = str(unpicklable_arguments("drive", args, kwargs, caught.value))
    assert f"{name} of drive()" in text
    assert ".parts['guard']" in text


def test_large_buffers_go_out_of_band() -> None:
    import numpy as np

    array = np.ones(100_000)
    inband, buffers = serialize({"a": array})
    assert len(inband) < 1000
    assert [len(buffer) for buffer in buffers] == [array.nbytes]


def test_buffers_that_are_not_contiguous_are_copied() -> None:
    import numpy as np

    inband, _ = serialize(np.ones((100, 100))[::2, ::2])
    assert len(inband) > 100
