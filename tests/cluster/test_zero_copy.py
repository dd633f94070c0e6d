"""Values that are read in place: in the arena, read-only, aligned; they outlive their reference."""

import gc
import pickle
from collections.abc import Iterator
from typing import Any

import aktis
import numpy as np
import pytest

from tests.support.arena import address_of, in_arena
from tests.support.clients import embedded
from tests.support.keepers import LARGE, STORE_BYTES, Keeper, assert_room_in_store, call
from tests.support.references import Freed

pytestmark = pytest.mark.xdist_group("zero_copy")
COUNT = 1 << 17


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    impatient = {"plasma.create_timeout_ms": 2_000}
    with embedded(num_cpus=2, object_store_memory=STORE_BYTES, _system_config=impatient):
        yield


def stored(value: Any) -> Any:
    """Return the value as a reader has it, without a reference to its object."""
    return aktis.get(aktis.put(value))


def assert_in_place(array: Any) -> None:
    assert in_arena(address_of(array))
    assert address_of(array) % 64 == 0
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


DTYPES = [
    "?", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8", "c16", "g", ">i4", "S8", "U4", "V16",
    "M8[ns]", "M8[D]", "m8[s]", [("a", "i4"), ("b", ">f8", (2,)), ("c", "S3")],
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_arrays_of_every_type_of_number_text_time_and_record(dtype: Any) -> None:
    array = np.frombuffer(np.random.default_rng(7).bytes(COUNT * np.dtype(dtype).itemsize), "u1")
    array = (array & 1).view(dtype)  # no NaN, and valid text
    result = stored(array)
    assert_in_place(result)
    assert result.dtype == array.dtype
    assert result.tobytes() == array.tobytes()


LAYOUTS = {
    "two dimensions": np.arange(COUNT).reshape(512, -1),
    "Fortran": np.asfortranarray(np.arange(COUNT).reshape(512, -1)),
    "transposed": np.arange(COUNT).reshape(32, 16, -1).transpose(1, 2, 0),
    "read-only": np.frombuffer(bytes(COUNT * 8)),
}


@pytest.mark.parametrize("array", LAYOUTS.values(), ids=LAYOUTS)
def test_arrays_of_every_layout_without_gaps(array: Any) -> None:
    result = stored(array)
    assert_in_place(result)
    assert np.array_equal(result, array)
    assert (result.flags.f_contiguous, result.flags.c_contiguous) == (
        array.flags.f_contiguous,
        array.flags.c_contiguous,
    )


FALLBACKS = {
    "with gaps": np.arange(2 * COUNT)[::2],
    "backwards": np.arange(COUNT)[::-1],
    "broadcast": np.broadcast_to(np.float64(3), (512, COUNT // 512)),
    "objects": np.array([None, "a", 1.5, ("t",)] * COUNT, object),
    "masked": np.ma.masked_array(np.arange(COUNT), np.arange(COUNT) % 2 == 0),
    "times with gaps": np.arange(2 * COUNT).view("M8[s]")[::2],
}


@pytest.mark.parametrize("array", FALLBACKS.values(), ids=FALLBACKS)
def test_other_arrays_are_copied_whole_and_are_the_readers_own(array: Any) -> None:
    result = stored(array)
    assert type(result) is type(array)
    assert (result.dtype, result.shape) == (array.dtype, array.shape)
    assert np.array_equal(result, array)
    assert not in_arena(address_of(result))
    result[...] = array


def test_many_buffers_of_one_value_are_each_in_place() -> None:
    value = {"a": [np.ones(COUNT), np.zeros(3, "i1")], "b": (np.arange(COUNT, dtype="i2"), "text")}
    result = stored(value)
    for array in (*result["a"], result["b"][0]):
        assert_in_place(array)
    assert result["a"][0].sum() == COUNT
    assert result["a"][1].tolist() == [0, 0, 0]
    assert result["b"][0][-1] == np.arange(COUNT, dtype="i2")[-1]


def test_views_of_what_was_read_are_in_place_too() -> None:
    view = stored(np.arange(COUNT))[10:].reshape(-1, 2)[::3]
    gc.collect()
    assert in_arena(address_of(view))
    assert view[0].tolist() == [10, 11]
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1


def test_an_array_pins_its_object_until_it_goes() -> None:
    ref = aktis.put(np.full(LARGE, 7, np.uint8))
    freed = Freed(ref)
    array = aktis.get(ref)[1:]
    del ref
    assert freed.wait()  # as an object; its memory is still read
    with pytest.raises(aktis.exceptions.ObjectStoreFullError, match="deleted ones still being read 30"):
        aktis.put(np.zeros(STORE_BYTES - LARGE, np.uint8))
    assert array.sum() == 7 * (LARGE - 1)
    del array
    assert_room_in_store()


def test_arguments_and_results_are_read_in_place() -> None:
    @aktis.remote
    def look(array: Any, keyword: Any) -> tuple[bool, bool, bool]:
        return in_arena(address_of(array)), in_arena(address_of(keyword["x"])), array.flags.writeable

    @aktis.remote
    def make() -> Any:
        return np.arange(COUNT)

    array = np.arange(COUNT)
    assert aktis.get(look.remote(aktis.put(array), keyword={"x": array})) == (True, True, False)
    assert_in_place(aktis.get(make.remote()))
    keeper = Keeper.remote()
    call(keeper.keep, [aktis.put(array)])
    assert call(keeper.__aktis_call__, lambda self: in_arena(address_of(aktis.get(self.kept[0]))))


def test_small_arrays_travel_in_messages_and_are_read_only() -> None:
    result = stored(np.arange(3))
    assert not in_arena(address_of(result))
    assert address_of(result) % 64 == 0
    assert not result.flags.writeable


# ---- memory without NumPy ----


def address_of_memory(view: memoryview) -> int:
    return address_of(np.frombuffer(view, np.uint8))


@pytest.mark.parametrize("make", [bytes, bytearray, lambda data: memoryview(bytearray(data))])
def test_bytes_like_values_keep_their_type(make: Any) -> None:
    for size in (0, 10, COUNT * 8):
        value = make(bytes(range(10)) * (size // 10))
        for result in (stored(value), stored([value])[0]):
            assert type(result) is type(value)
            assert result == value


def test_a_memoryview_is_read_in_place() -> None:
    numbers: Any = np.arange(COUNT, dtype="i4").reshape(2, -1)
    result = stored(memoryview(numbers))
    assert (result.format, result.shape, result.readonly) == ("i", (2, COUNT // 2), True)
    assert in_arena(address_of_memory(result))
    assert np.array_equal(np.asarray(result), numbers)
    assert stored(memoryview(bytes(COUNT * 8))[::2]) == bytes(COUNT * 4)
    buffer = stored(pickle.PickleBuffer(bytearray(COUNT * 8)))
    assert in_arena(address_of_memory(buffer))


def test_bytes_are_copied_out_because_they_own_their_memory() -> None:
    assert not in_arena(address_of_memory(memoryview(stored(bytes(COUNT * 8)))))


# ---- pandas and Arrow ----


def test_data_frames() -> None:
    import pandas

    frame = pandas.DataFrame(
        {"n": np.arange(COUNT), "x": np.ones(COUNT), "when": np.arange(COUNT).view("M8[ns]"), "s": "text"}
    )
    result = stored(frame)
    pandas.testing.assert_frame_equal(result, frame)
    for column in ("n", "x", "when"):
        array = result[column].array
        assert in_arena(address_of(np.asarray(array))), column
    series = stored(pandas.Series(np.arange(COUNT, dtype="f4"), index=np.arange(COUNT)))
    assert in_arena(address_of(series.to_numpy()))
    changed = result.assign(n=result["n"] + 1)
    assert changed["n"].iloc[0] == 1


def test_arrow_tables_arrays_and_buffers() -> None:
    import pyarrow as arrow

    table = arrow.table({"n": np.arange(COUNT), "s": ["text", None] * (COUNT // 2)})
    result = stored({"table": table, "array": table["n"].chunk(0), "buffer": arrow.py_buffer(bytes(COUNT))})
    assert result["table"].equals(table)
    assert result["array"].equals(table["n"].chunk(0))
    assert result["buffer"].to_pybytes() == bytes(COUNT)
    columns = [column.chunk(0) for column in result["table"].columns]
    buffers = [*columns[0].buffers(), *columns[1].buffers(), *result["array"].buffers(), result["buffer"]]
    for buffer in buffers:
        assert buffer is None or in_arena(buffer.address)
    assert not result["buffer"].is_mutable
    batch = stored(arrow.record_batch({"n": np.arange(COUNT)}))
    assert in_arena(batch.column(0).buffers()[1].address)
    assert batch.column(0).buffers()[1].address % 64 == 0
