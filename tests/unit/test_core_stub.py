"""Whatever the native module offers is typed in _core.pyi: no compiler compares the two."""

import ast
from pathlib import Path

import aktis
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


def test_everything_the_module_offers_has_a_type() -> None:
    offered = {name for name in vars(_core) if is_public(name)}
    assert offered - defined_names(ast.parse(STUB.read_text()).body) == set()


def test_every_member_of_a_native_class_has_a_type() -> None:
    for node in ast.parse(STUB.read_text()).body:
        native = getattr(_core, node.name, None) if isinstance(node, ast.ClassDef) else None
        if isinstance(node, ast.ClassDef) and isinstance(native, type):
            members = {name for name in vars(native) if is_public(name)}
            assert members - defined_names(node.body) == set(), node.name
