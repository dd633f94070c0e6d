"""Tensors of PyTorch as bytes, with a stand-in for it: what Aktis uses of tensors, over arrays of NumPy."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from aktis.util.collective.arrays import to_change, to_read


class Tensor:
    """A tensor that shares the memory of an array."""

    def __init__(self, array: Any, dtype: str, device: str = "cpu") -> None:
        self.array, self.dtype, self.device = array, f"torch.{dtype}", SimpleNamespace(type=device)
        self.gradient = True

    def detach(self) -> "Tensor":
        plain = Tensor(self.array, self.dtype.removeprefix("torch."))
        plain.gradient = False
        return plain

    def view(self, dtype: str) -> "Tensor":
        assert not self.gradient
        return Tensor(self.array.view(dtype), dtype).detach()

    def numpy(self) -> Any:
        assert not self.gradient, "PyTorch refuses"
        assert "bfloat16" not in self.dtype, "NumPy has no such type"
        return self.array


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("torch")
    vars(module).update(Tensor=Tensor, int16="int16")
    monkeypatch.setitem(sys.modules, "torch", module)


def test_a_tensor_is_changed_in_its_own_memory() -> None:
    memory = np.zeros(3, np.float32)
    array = to_change(Tensor(memory, "float32"))
    assert (array.dtype_name, array.count) == ("float32", 3)
    array.data[:] = np.array([1, 2, 3], np.float32).view(np.uint8)
    array.write_back()
    assert memory.tolist() == [1, 2, 3]


def test_a_tensor_that_is_not_contiguous_is_written_back() -> None:
    memory = np.zeros((2, 2), np.int64)
    array = to_change(Tensor(memory.T, "int64"))
    array.data[:] = np.arange(4).view(np.uint8)
    array.write_back()
    assert memory.T.tolist() == [[0, 1], [2, 3]]


def test_bfloat16_has_a_type_of_its_own() -> None:
    assert to_read(Tensor(np.zeros(2, np.uint16), "bfloat16")).dtype_name == "bfloat16"


def test_what_is_not_in_main_memory_or_has_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="only tensors in main memory"):
        to_read(Tensor(np.zeros(1, np.float32), "float32", device="cuda"))
    with pytest.raises(TypeError, match="float8_e4m3fn"):
        to_change(Tensor(np.zeros(1, np.uint8), "float8_e4m3fn"))
    with pytest.raises(TypeError, match="got list"):
        to_read([1.0])
