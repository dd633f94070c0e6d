"""Values, functions and classes that a reader cannot load: the error says which, where, and what to do."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest
from aktis.exceptions import ActorDiedError, DeserializationError, TaskError

from tests.support.clients import embedded, output, run_program
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.xdist_group("deserialization")
MODULE = "aktis_test_drivers_only"
SOURCE = """
class Thing:
    pass

class Actor:
    def ping(self):
        return "pong"

def work():
    return "done"

class OwnError(Exception):
    pass

def fail():
    raise OwnError("by name")
"""


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[types.ModuleType]:
    """A module that this process has and workers do not: they are started before it can be found."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / f"{MODULE}.py").write_text(SOURCE)
    with embedded(num_cpus=1):
        aktis.get(aktis.remote(lambda: None).remote())  # the job's sys.path is sent with the first function
        sys.path.insert(0, str(folder))
        try:
            yield __import__(MODULE)
        finally:
            sys.path.remove(str(folder))
            sys.modules.pop(MODULE, None)


@aktis.remote
def describe(value: Any) -> str:
    return repr(value)


@aktis.remote
def read(refs: list[Any]) -> None:
    aktis.get(refs[0])


def assert_says(text: str, name: str) -> None:
    for part in (
        f"No module named '{MODULE}'",
        f"'{MODULE}.{name}'",
        " in worker ",
        "process ",
        "py_modules",
        "pip",
    ):
        assert part in text, text


def calls(module: types.ModuleType) -> dict[str, Any]:
    thing = module.Thing()
    return {
        "argument": lambda: describe.remote(thing),
        "part of an argument": lambda: describe.remote([{"a": thing}]),
        "keyword": lambda: describe.remote(value=thing),
        "stored argument": lambda: describe.remote([thing, bytes(1 << 20)]),
        "argument by reference": lambda: describe.remote(aktis.put(thing)),
        "get in a task": lambda: read.remote([aktis.put(thing)]),
    }


@pytest.mark.parametrize(
    "way",
    [
        "argument",
        "part of an argument",
        "keyword",
        "stored argument",
        "argument by reference",
        "get in a task",
    ],
)
def test_a_value_of_a_class_whose_module_the_worker_does_not_have(module: types.ModuleType, way: str) -> None:
    with pytest.raises(DeserializationError) as caught:
        aktis.get(calls(module)[way]())
    assert isinstance(caught.value, TaskError)
    assert_says(str(caught.value), "Thing")
    assert isinstance(caught.value.cause, DeserializationError)
    assert isinstance(caught.value.cause.__cause__, ModuleNotFoundError)


def test_a_function_whose_module_the_worker_does_not_have(module: types.ModuleType) -> None:
    with pytest.raises(DeserializationError) as caught:
        aktis.get(aktis.remote(module.work).remote())
    assert_says(str(caught.value), "work")


def test_an_actors_class_whose_module_the_worker_does_not_have(module: types.ModuleType) -> None:
    with pytest.raises(ActorDiedError) as caught:
        aktis.get(aktis.remote(module.Actor).remote().ping.remote())
    assert_says(str(caught.value), "Actor")


def test_the_remedy_works(module: types.ModuleType) -> None:
    assert module.__file__ is not None
    environment = {"py_modules": [module.__file__]}
    assert MODULE in aktis.get(describe.options(runtime_env=environment).remote(module.Thing()))
    assert aktis.get(aktis.remote(module.work).options(runtime_env=environment).remote()) == "done"


def test_the_driver_is_the_one_without_the_module(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    program = """
import sys, aktis
path = sys.argv[1]

@aktis.remote
def make():
    sys.path.insert(0, path)
    import aktis_test_drivers_only as module
    return module.Thing()

@aktis.remote
def fail():
    sys.path.insert(0, path)
    import aktis_test_drivers_only as module
    module.fail()

with aktis.init(num_cpus=1):
    try:
        aktis.get(make.remote())
    except aktis.exceptions.DeserializationError as error:
        print(error)
    try:
        aktis.get(fail.remote())
    except aktis.exceptions.TaskError as error:
        print(error)
"""
    text = output(run_program(sandbox, program, str(tmp_path)))
    first, _, second = text.partition("\n")
    assert f"No module named '{MODULE}'. It holds '{MODULE}.Thing'" in first
    assert "in the driver " in first
    assert "sys.path" in first
    assert "OwnError: by name" in second, "an exception that cannot be loaded keeps its message"
