"""Values that are little more than memory, and that pickle by itself would copy: how they travel as buffers.

What the reducers return is loaded by name in other processes, which need nothing but this module for it.
"""

import pickle
import sys
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_NATIVE_FORMATS = frozenset("cbB?hHiIlLqQnNfdP")


def reduce_memoryview(view: memoryview) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Pickle a memoryview as one; one that has gaps, or a format that cannot be restored, as its bytes."""
    if view.c_contiguous and view.ndim > 0 and view.format in _NATIVE_FORMATS:
        return restore_memoryview, (pickle.PickleBuffer(view), view.format, view.shape)
    return restore_memoryview, (view.tobytes(), "B", None)


def restore_memoryview(buffer: Any, form: str, shape: tuple[int, ...] | None) -> memoryview:
    """Load what `reduce_memoryview` made; read-only."""
    view = memoryview(buffer).cast("B")
    if shape is not None and 0 not in shape:
        view = view.cast(form, shape)  # type: ignore[call-overload]
    return view.toreadonly()


def reduce_array(array: "np.ndarray[Any, Any]") -> Any:
    """Pickle arrays of dates and durations as the numbers that they are, which have buffers."""
    if array.dtype.kind in "mM" and array.flags.forc:
        return restore_times, (array.view("i8"), array.dtype)
    return array.__reduce_ex__(5)


def restore_times(numbers: "np.ndarray[Any, Any]", dtype: "np.dtype[Any]") -> "np.ndarray[Any, Any]":
    """Load what `reduce_array` made."""
    return numbers.view(dtype)


def add_array_reducer(reducers: MutableMapping[type, Callable[[Any], Any]]) -> bool:
    """Add the reducer of arrays once the program has imported NumPy: we do not do that for it."""
    array_type = getattr(sys.modules.get("numpy"), "ndarray", None)
    if array_type is None:
        return False
    reducers[array_type] = reduce_array
    return True
