"""Arrays of users as flat bytes: NumPy arrays, and CPU tensors of PyTorch where that is in use."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aktis import _core

CODES: Final = {name: code for code, name in enumerate(_core.collective.DATA_TYPES)}
Bytes = NDArray[np.uint8]


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Array:
    """One array: its bytes in C order, and what to do after they have been changed."""

    data: Bytes
    code: int
    """Number of its type in the native module."""
    count: int
    write_back: Callable[[], None] = _nothing
    """Copies what was received to the user's array, when `data` is not that array's own memory."""

    @property
    def dtype_name(self) -> str:
        """The type as NumPy calls it."""
        return _core.collective.DATA_TYPES[self.code]


def to_read(tensor: Any, what: str = "tensor") -> Array:
    """Take an array of which nothing is changed.

    Raises:
        TypeError: it is no array, or of a type that is not supported.
        ValueError: it is not in main memory.
    """
    array, code = _as_numpy(tensor, what)
    plain = np.ascontiguousarray(array)
    return Array(_flat(plain), code, plain.size)


def to_change(tensor: Any, what: str = "tensor") -> Array:
    """Take an array that is changed in place.

    Raises:
        TypeError: it is no array, or of a type that is not supported.
        ValueError: it is read-only, as arrays from the object store are, or not in main memory.
    """
    array, code = _as_numpy(tensor, what)
    if not array.flags.writeable:
        raise ValueError(
            f"the {what} is read-only, as values of objects are: pass a copy of it, for example {what}.copy()"
        )
    if array.flags.c_contiguous and array.flags.aligned:
        return Array(_flat(array), code, array.size)
    plain = np.array(array, order="C")

    def write_back() -> None:
        array[...] = plain

    return Array(_flat(plain), code, plain.size, write_back)


def _flat(array: NDArray[Any]) -> Bytes:
    return array.reshape(-1).view(np.uint8)


def _as_numpy(tensor: Any, what: str) -> tuple[NDArray[Any], int]:
    if isinstance(tensor, np.ndarray):
        array, name = tensor, tensor.dtype.name
        if not tensor.dtype.isnative:
            raise TypeError(f"the {what} has the byte order of another machine: {tensor.dtype!r}")
    else:
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(tensor, torch.Tensor):
            raise TypeError(
                f"the {what} must be a NumPy array or a CPU tensor of PyTorch, got {type(tensor).__name__}"
            )
        array, name = _of_torch(torch, tensor, what)
    if name not in CODES:
        raise TypeError(f"the {what} has the type {name}; supported are {', '.join(CODES)}")
    return array, CODES[name]


def _of_torch(torch: Any, tensor: Any, what: str) -> tuple[NDArray[Any], str]:
    """Return an array over a tensor's own memory, and the name of its type."""
    if tensor.device.type != "cpu":
        raise ValueError(f"the {what} is on {tensor.device}: only tensors in main memory can be used here")
    name = str(tensor.dtype).removeprefix("torch.")
    plain = tensor.detach()
    if name == "bfloat16":  # which NumPy does not have
        plain = plain.view(torch.int16)
    array: NDArray[Any] = plain.numpy()
    return array, name
