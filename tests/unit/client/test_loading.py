"""What a pickle refers to by name, and what is said when that cannot be had."""

import collections
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aktis._runtime.errors import decode_error, encode_error
from aktis._runtime.loading import globals_of, loading_error
from aktis.exceptions import DeserializationError, ObjectLostError


def explained(pickled: bytes) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011  whatever loading raises
        pickle.loads(pickled)
    return loading_error(caught.value, pickled, "object 01")


@pytest.fixture
def elsewhere() -> Iterator[types.ModuleType]:
    """A module that only the writer has."""
    name = "aktis_test_elsewhere"
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec("class Thing:\n    class Part: pass\ndef work(): pass", module.__dict__)
    yield module
    sys.modules.pop(name, None)


@pytest.mark.parametrize("protocol", [4, 5])
def test_globals_of_finds_every_name_once_it_is_used(protocol: int) -> None:
    value = {
        "text": "builtins",
        "first": collections.OrderedDict(a=collections.deque()),
        "second": [Path("a/b"), collections.deque(), collections.Counter],
    }
    names = set(globals_of(pickle.dumps(value, protocol)))
    assert {("collections", name) for name in ("OrderedDict", "deque", "Counter")} <= names
    assert ("pathlib", type(Path()).__name__) in names
    assert all(module in sys.modules for module, _ in names)


def test_globals_of_takes_what_is_no_pickle() -> None:
    assert list(globals_of(b"")) == []
    assert list(globals_of(b"\x80\x05nonsense")) == []


def test_a_missing_module_is_named_with_the_class_and_the_remedy(elsewhere: types.ModuleType) -> None:
    pickled = pickle.dumps([collections.deque(), elsewhere.Thing.Part()])
    del sys.modules[elsewhere.__name__]
    error = explained(pickled)
    assert isinstance(error, DeserializationError)
    text = str(error)
    assert text.startswith("object 01 cannot be loaded in process ")
    assert f"It holds '{elsewhere.__name__}.Thing.Part'." in text
    assert f"runtime_env={{'pip': ['{elsewhere.__name__}']}}" in text
    assert "py_modules" in text
    assert isinstance(error.__cause__, ModuleNotFoundError)


def test_a_name_that_another_version_of_the_module_lacks(elsewhere: types.ModuleType) -> None:
    pickled = pickle.dumps([elsewhere.Thing(), elsewhere.work])
    del elsewhere.work
    text = str(explained(pickled))
    assert f"It holds '{elsewhere.__name__}.work'." in text
    assert "another version" in text


def test_what_a_class_raises_itself_is_kept_as_the_cause() -> None:
    class Fragile:
        def __reduce__(self) -> Any:
            return (int, ("not a number",))

    error = explained(pickle.dumps(Fragile()))
    assert isinstance(error.__cause__, ValueError)
    assert "ValueError: invalid literal" in str(error)


def test_our_own_errors_are_not_wrapped() -> None:
    lost = ObjectLostError("01", "gone")
    assert loading_error(lost, b"", "x") is lost


def test_it_can_be_sent() -> None:
    error = decode_error(encode_error(explained(b"")))
    assert isinstance(error, DeserializationError)
    assert "object 01" in str(error)
