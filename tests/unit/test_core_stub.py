"""What the native module offers and what _core.pyi types are the same: no compiler compares the two."""

import ast
from collections.abc import Iterator
from pathlib import Path

import aktis
import aktis._runtime.refs  # adds to ObjectRef what is written in Python
from aktis import _core

STUB = Path(aktis.__file__).parent / "_core.pyi"


def is_public(name: str) -> bool:
    return not name.startswith("_")


def defined_names(body: list[ast.stmt]) -> set[str]:
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return {name for name in names if is_public(name)}


def offered_names(native: object) -> set[str]:
    return {name for name in vars(native) if is_public(name)}


def namespaces(path: str, native: object, body: list[ast.stmt]) -> Iterator[tuple[str, set[str], set[str]]]:
    """The module, then each class and submodule inside: (where, names offered, names in the stub)."""
    yield path, offered_names(native), defined_names(body)
    for node in body:
        if isinstance(node, ast.ClassDef) and hasattr(native, node.name):
            yield from namespaces(f"{path}.{node.name}", getattr(native, node.name), node.body)


ALL = list(namespaces("_core", _core, ast.parse(STUB.read_text()).body))


def test_whatever_the_native_module_offers_has_a_type() -> None:
    assert {path: offered - typed for path, offered, typed in ALL if offered - typed} == {}


def test_whatever_has_a_type_is_offered_by_the_native_module() -> None:
    assert {path: typed - offered for path, offered, typed in ALL if typed - offered} == {}


def test_the_comparison_sees_into_classes_and_submodules() -> None:
    paths = {path for path, _, _ in ALL}
    assert {"_core", "_core.testing", "_core.testing.ReferenceTable"} <= paths
