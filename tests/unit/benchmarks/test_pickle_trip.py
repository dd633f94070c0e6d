"""The limit rows do what they claim: every call is answered, in frames of its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.rows.pickle_trip import FrameReader, frame, pipelined, split_frames, synchronous


@given(st.lists(st.binary(max_size=40)), st.integers(1, 64))
def test_frames_survive_any_cut_of_the_stream(values: list[bytes], cut: int) -> None:
    stream = b"".join(frame(value) for value in values)
    chunks = [stream[start : start + cut] for start in range(0, len(stream), cut)]
    reader = FrameReader(lambda _: chunks.pop(0) if chunks else b"")
    bodies: list[bytes] = []
    while found := reader.read():
        bodies += found
    assert [frame(value)[4:] for value in values] == bodies


def test_the_rest_is_kept() -> None:
    whole = frame("x")
    assert split_frames(whole + whole[:5]) == ([whole[4:]], whole[:5])


def test_loads_run_and_close() -> None:
    for load in (synchronous(), pipelined()):
        load.step()
        load.step()
        load.close()
