"""Reading and splitting the input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.wordcount.corpus import read, source_files, split, standard_library


def fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_documents_lie_one_after_the_other(tmp_path: Path) -> None:
    fill(tmp_path, {"b.py": b"bb", "a/x.py": b"aaa", "empty.py": b"", "notes.txt": b"no"})
    corpus = read(tmp_path)
    assert corpus.names == ["a/x.py", "b.py", "empty.py"]
    assert corpus.text.tobytes() == b"aaabb"
    assert corpus.offsets.tolist() == [0, 3, 5, 5]
    assert corpus.size_bytes == 5


def test_installed_packages_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path, {"a.py": b"a", "site-packages/b.py": b"b", "lib/dist-packages/c/d.py": b"d"})
    assert [path.name for path in source_files(tmp_path)] == ["a.py"]


def test_a_folder_called_like_installed_packages_may_be_the_source(tmp_path: Path) -> None:
    fill(tmp_path, {"site-packages/b.py": b"b"})
    assert read(tmp_path / "site-packages").names == ["b.py"]


@pytest.mark.parametrize("files", [{}, {"empty.py": b""}])
def test_no_text_is_an_error(files: dict[str, bytes], tmp_path: Path) -> None:
    fill(tmp_path, files)
    with pytest.raises(ValueError, match="no Python source text below"):
        read(tmp_path)


def test_the_standard_library_is_there() -> None:
    assert (standard_library() / "json" / "__init__.py").exists()


@given(st.lists(st.integers(0, 100), min_size=1, max_size=50), st.integers(1, 20))
def test_ranges_cover_every_document_once(sizes: list[int], parts: int) -> None:
    offsets = np.cumsum([0, *sizes])
    ranges = split(offsets, parts)
    assert [number for first, end in ranges for number in range(first, end)] == list(range(len(sizes)))
    assert all(first < end for first, end in ranges)
    assert len(ranges) <= parts


def test_ranges_have_about_equal_bytes() -> None:
    offsets = np.arange(0, 1001, 10)
    assert split(offsets, 4) == [(0, 25), (25, 50), (50, 75), (75, 100)]
