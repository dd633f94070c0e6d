"""Remote functions: checked by mypy and by pyright, never run. Every line that is wrong says so."""

from collections.abc import Iterator
from typing import Any, Never, NoReturn, assert_type

import aktis
from aktis import DynamicObjectRefGenerator, ObjectRef, ObjectRefGenerator
from aktis.util import as_argument


@aktis.remote
def one(x: int) -> str:
    return str(x)


@aktis.remote(num_cpus=2, retry_exceptions=[ValueError])
def three(x: int, y: str = "", z: float = 0.0, *, fast: bool = False) -> list[int]:
    return [x]


@aktis.remote
def variadic(*numbers: int) -> int:
    return sum(numbers)


@aktis.remote
def generate(n: int) -> Iterator[int]:
    yield n


@aktis.remote
def nothing() -> None:
    return None


@aktis.remote
def fail() -> NoReturn:
    raise ValueError


@aktis.remote(num_returns=2)
def pair(x: int) -> tuple[int, str]:
    return x, ""


@aktis.remote(num_returns=0)
def silent(x: int) -> None:
    return None


@aktis.remote(num_returns="dynamic")
def dynamic(n: int) -> Iterator[str]:
    yield ""


def plain(a: int) -> int:
    return a


number: ObjectRef[int] = aktis.put(1)
text: ObjectRef[str] = aktis.put("")
real: ObjectRef[float] = aktis.put(1.0)


def values_as_arguments() -> None:
    assert_type(one.remote(1), ObjectRef[str])
    assert_type(one.remote(x=1), ObjectRef[str])
    assert_type(three.remote(1), ObjectRef[list[int]])
    assert_type(three.remote(1, z=2.0, fast=True), ObjectRef[list[int]])
    assert_type(variadic.remote(1, 2, 3), ObjectRef[int])
    assert_type(variadic.remote(*[1, 2]), ObjectRef[int])
    assert_type(nothing.remote(), ObjectRef[None])
    assert_type(fail.remote(), ObjectRef[Never])
    assert_type(aktis.remote(plain).remote(1), ObjectRef[int])


def references_as_arguments() -> None:
    assert_type(one.remote(number), ObjectRef[str])
    assert_type(three.remote(number), ObjectRef[list[int]])
    assert_type(three.remote(1, text), ObjectRef[list[int]])
    assert_type(three.remote(number, "a"), ObjectRef[list[int]])
    assert_type(three.remote(number, text, fast=True), ObjectRef[list[int]])
    assert_type(three.remote(1, "a", real), ObjectRef[list[int]])
    assert_type(three.remote(number, "a", real), ObjectRef[list[int]])
    assert_type(three.remote(number, text, real), ObjectRef[list[int]])
    assert_type(three.remote(number, y="a"), ObjectRef[list[int]])
    assert_type(three.remote(1, y=as_argument(text)), ObjectRef[list[int]])
    assert_type(variadic.remote(number, number), ObjectRef[int])
    assert_type(generate.remote(number), ObjectRefGenerator[int])
    assert_type(one.remote(variadic.remote(1)), ObjectRef[str])


def other_returns() -> None:
    assert_type(generate.remote(3), ObjectRefGenerator[int])
    for ref in generate.remote(3):
        assert_type(ref, ObjectRef[int])
    assert_type(pair.remote(1), list[ObjectRef[Any]])
    assert_type(pair.remote(number), list[ObjectRef[Any]])
    assert_type(silent.remote(1), None)
    assert_type(dynamic.remote(1), ObjectRef[DynamicObjectRefGenerator[str]])
    for item in aktis.get(dynamic.remote(1)):
        assert_type(aktis.get(item), str)


def options() -> None:
    assert_type(one.options(num_cpus=1, max_retries=0).remote(1), ObjectRef[str])
    assert_type(one.options(num_returns=1).remote(number), ObjectRef[str])
    assert_type(generate.options(generator_backpressure_num_objects=2).remote(1), ObjectRefGenerator[int])
    assert_type(generate.options(num_returns="dynamic").remote(1), ObjectRef[DynamicObjectRefGenerator[int]])
    assert_type(three.options(num_returns=2).remote(1), list[ObjectRef[Any]])
    assert_type(pair.options(name="other").remote(1), list[ObjectRef[Any]])


def wrong() -> None:
    one.remote("a")  # wrong
    one.remote()  # wrong
    one.remote(1, 2)  # wrong
    one.remote(y=1)  # wrong
    three.remote(1, 2)  # wrong
    three.remote(number, z="a")  # wrong
    three.remote(1, fast="yes")  # wrong
    three.remote(1, y=text)  # wrong
    generate.remote("a")  # wrong
    pair.remote("a")  # wrong
    one.options(num_cpus="many")  # wrong
    one.options(max_restarts=1)  # wrong
    one.options(num_retries=1)  # wrong
    one(1)  # wrong


def wrong_for_pyright() -> None:
    """What mypy cannot see: it takes any reference."""
    one.remote(text)  # wrong for pyright
    three.remote(1, number)  # wrong for pyright
    three.remote(number, number)  # wrong for pyright
    three.remote(1, "a", text)  # wrong for pyright
