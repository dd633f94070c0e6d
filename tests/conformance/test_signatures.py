"""Names and parameters of the public interface, against the table in signatures.txt."""

import ast
import functools
import importlib
import inspect
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import systems

TABLE = Path(__file__).parent / "signatures.txt"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    parameters: str
    mark: str

    @property
    def group(self) -> str:
        """The class that it is a part of, or itself."""
        owner = self.name.rpartition(".")[0]
        return owner if owner.rpartition(".")[2][:1].isupper() else self.name


def read_table() -> list[Row]:
    rows = []
    for line in TABLE.read_text().splitlines():
        if not line.startswith("#"):
            left, _, mark = line.partition(" | ")
            name, _, parameters = left.strip().partition(" ")
            rows.append(Row(name, parameters, mark.strip()))
    return rows


def cases() -> list[Any]:
    """Return the rows of a class together, but each that is marked by itself."""
    rows = read_table()
    plain = [row for row in rows if not row.mark]
    found = []
    for group, members in groupby(sorted(plain, key=lambda row: row.group), key=lambda row: row.group):
        found.append(pytest.param(list(members), id=group))
    for row in rows:
        if row.mark:
            kind, _, why = row.mark.partition(" ")
            marks = [getattr(pytest.mark, kind)(why)]
            found.append(pytest.param([row], id=f"{row.name}-{kind}", marks=marks))
    return found


def resolve(name: str) -> Any:
    """Return what a dotted name stands for."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            home = importlib.import_module(".".join(parts[:length]))
            return functools.reduce(getattr, parts[length:], home)
        except (ImportError, AttributeError):
            if length == 1:
                raise
    raise AssertionError("a name has at least one part")


def expected(parameters: str) -> inspect.Signature:
    """Return the signature that a row describes; defaults that are no literals are compared as text."""
    arguments = ast.parse(f"def f{parameters.replace('<factory>', '...')}: pass").body[0]
    assert isinstance(arguments, ast.FunctionDef)
    namespace: dict[str, Any] = {}
    exec(compile(ast.Module([arguments], []), "signatures.txt", "exec"), namespace)
    return inspect.signature(namespace["f"])


def problem_of(row: Row) -> str:
    """Say how what there is differs from the row; "" if it does not."""
    try:
        found = resolve(row.name)
    except (ImportError, AttributeError) as error:
        return f"{row.name}: {error}"
    if not row.parameters:
        return ""
    if not callable(found):
        return f"{row.name} cannot be called"
    try:
        signature = inspect.signature(found)
    except (ValueError, TypeError):
        # Compiled, and without a signature in its docstring: the peer has such ones, Aktis none.
        return "" if systems.is_ray() else f"{row.name} does not tell its parameters"
    if difference := compare(expected(row.parameters), signature):
        return f"{row.name}: {difference}; wanted {row.parameters}, there is {signature}"
    return ""


def compare(wanted: inspect.Signature, found: inspect.Signature) -> str:
    """Every parameter must be there with its default, positional ones in order; others must be optional."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    there = [p for p in found.parameters.values() if p.name != "self"]
    names = [p.name for p in there]
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    positions = [p.name for p in there if p.kind == positional and not p.name.startswith("_")]
    asked = [p for p in wanted.parameters.values() if p.kind not in variadic]
    for kind in {p.kind for p in wanted.parameters.values()} & set(variadic):
        if kind not in {p.kind for p in there}:
            return f"takes no {kind.description} parameters"
    for place, parameter in enumerate(asked):
        if parameter.name not in names:
            return f"has no parameter {parameter.name}"
        if parameter.kind == positional and (place >= len(positions) or positions[place] != parameter.name):
            return f"{parameter.name} is not number {place}"
        default = found.parameters[parameter.name].default
        if parameter.default is not ... and default != parameter.default:
            return f"the default of {parameter.name} is {default!r}"
    known = {p.name for p in asked}
    needed = [
        p.name for p in there if p.name not in known and p.kind not in variadic and p.default is p.empty
    ]
    return f"needs {needed} as well" if needed else ""


@pytest.mark.parametrize("rows", cases())
def test_names_and_parameters(rows: list[Row]) -> None:
    assert [problem for row in rows if (problem := problem_of(row))] == []
