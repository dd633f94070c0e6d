"""Nodes of a graph that hold references, as those of persisted collections do: they get the values.

Dask may put such a reference deep into a node when it fuses nodes. So the node is pickled here, with a number
in the place of each reference, and loaded in the worker with the values instead, which are arguments of its
task.
"""

import io
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dask._task_spec import DataNode, Task

import aktis
from aktis._runtime.pickler import Pickler


@dataclass(frozen=True, slots=True)
class Extra:
    """The key of what a node needs besides other nodes; equal to no key of a graph."""

    name: str
    number: int = 0


def with_values(node: Any, needed: dict[Any, aktis.ObjectRef[Any]]) -> Any:
    """Return a node that gets the values of the references in it, which are added to what it needs."""
    if not _holds_reference(node):
        return node
    with io.BytesIO() as file:
        pickler = _Pickler(file, protocol=5)
        pickler.dump(node)
        places = [Extra("reference", number) for number in range(len(pickler.numbers))]
        needed.update(zip(places, pickler.numbers, strict=True))
        return _Pickled(file.getvalue(), places)


def _holds_reference(thing: Any) -> bool:
    if isinstance(thing, aktis.ObjectRef):
        return True
    if isinstance(thing, DataNode):
        return _holds_reference(thing.value)
    if isinstance(thing, Task):  # also Dask's containers of nodes
        return _holds_reference(thing.args) or _holds_reference(thing.kwargs)
    if isinstance(thing, list | tuple | set | frozenset):
        return any(map(_holds_reference, thing))
    return isinstance(thing, dict) and any(map(_holds_reference, thing.values()))


class _Pickler(Pickler):
    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol=protocol)
        self.numbers: dict[aktis.ObjectRef[Any], int] = {}

    def persistent_id(self, thing: object) -> int | None:
        if isinstance(thing, aktis.ObjectRef):
            return self.numbers.setdefault(thing, len(self.numbers))
        return None


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, values: list[Any]) -> None:
        super().__init__(io.BytesIO(data))
        self._values = values

    def persistent_load(self, pid: int) -> Any:
        return self._values[pid]


@dataclass(frozen=True, slots=True)
class _Pickled:
    """A node without its references; is computed like one."""

    data: bytes
    places: list[Extra]

    def __call__(self, values: dict[Any, Any]) -> Any:
        node: Callable[[Mapping[Any, Any]], Any] = _Unpickler(
            self.data, [values.pop(place) for place in self.places]
        ).load()
        return node(values)
