"""The pickler for what other processes cannot import; imports cloudpickle, so it is imported when needed.

Some releases of cloudpickle take the file's name out of functions that they pickle by value, which makes
tracebacks without source lines of exceptions that happen in workers. Here it stays.
"""

import io
import types
from collections import ChainMap
from collections.abc import Callable
from typing import Any, ClassVar

import cloudpickle  # type: ignore[import-untyped]

from aktis._runtime.buffers import add_array_reducer, reduce_memoryview

_REPLACEMENT = "<dynamic-code>"
_reduce_code: Callable[[types.CodeType], tuple[Any, ...]] = cloudpickle.Pickler.dispatch_table[types.CodeType]


def _reduce_code_with_file(code: types.CodeType) -> tuple[Any, ...]:
    reducer, arguments, *rest = _reduce_code(code)
    named = tuple(
        code.co_filename if isinstance(item, str) and item == _REPLACEMENT else item for item in arguments
    )
    return (reducer, named, *rest)


custom_reducers: dict[type, Callable[[Any], tuple[Any, ...]]] = {}
"""How the instances of a class are pickled, as the program has registered (`aktis.util.serialization`)."""


_reducers: dict[type, Callable[[Any], Any]] = {
    types.CodeType: _reduce_code_with_file,
    memoryview: reduce_memoryview,
}
_knows_arrays = False


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, with the program's own reducers first; code objects keep the name of their file."""

    dispatch_table: ClassVar = ChainMap(
        custom_reducers,
        _reducers,
        cloudpickle.Pickler.dispatch_table,
    )


def dumps(value: object, buffer_callback: Callable[[Any], Any] | None = None) -> bytes:
    """Pickle by value what other processes cannot import, in protocol 5."""
    global _knows_arrays
    _knows_arrays = _knows_arrays or add_array_reducer(_reducers)
    with io.BytesIO() as file:
        Pickler(file, protocol=5, buffer_callback=buffer_callback).dump(value)
        return file.getvalue()
