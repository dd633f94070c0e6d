"""Objects: checked by mypy and by pyright, never run. Every line that is wrong says so."""

from typing import Any, assert_type

import aktis
from aktis import ObjectRef, ObjectRefGenerator

number: ObjectRef[int] = aktis.put(1)
text: ObjectRef[str] = aktis.put("")
real: ObjectRef[float] = aktis.put(1.0)
stream: ObjectRefGenerator[int]


def get_and_put() -> None:
    assert_type(aktis.put(1), ObjectRef[int])
    assert_type(aktis.put({"a": [1]}), ObjectRef[dict[str, list[int]]])
    assert_type(aktis.get(number), int)
    assert_type(aktis.get(number, timeout=1.0), int)
    assert_type(aktis.get([number, number]), list[int])
    assert_type(aktis.get((number, number)), list[int])
    assert_type(aktis.get((number, text)), list[int | str])
    assert_type(aktis.get((number, text, real)), list[int | str | float])


def unknown(ref: ObjectRef[Any], refs: list[ObjectRef[Any]]) -> None:
    assert_type(aktis.get(ref), Any)
    assert_type(aktis.get(refs), list[Any])


def wait() -> None:
    ready, others = aktis.wait([number, number], num_returns=1, timeout=1)
    assert_type(ready, list[ObjectRef[int]])
    assert_type(others, list[ObjectRef[int]])


async def awaited(stream: ObjectRefGenerator[str]) -> None:
    assert_type(await number, int)
    async for ref in stream:
        assert_type(await ref, str)


def a_reference_is_covariant(ref: ObjectRef[bool]) -> ObjectRef[int]:
    return ref


def wrong(ref: ObjectRef[int]) -> None:
    aktis.get(1)  # wrong
    aktis.get(number, timeout="soon")  # wrong
    aktis.wait(number)  # wrong
    other: ObjectRef[str] = ref  # wrong
    aktis.cancel("task")  # wrong
    aktis.kill(number)  # wrong
    del other
