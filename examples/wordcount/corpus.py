"""The input: many small files as one array of bytes, so that it can be shared as one object."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Text = NDArray[np.uint8]
Offsets = NDArray[np.int64]

INSTALLED = frozenset({"site-packages", "dist-packages", "__pycache__"})


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents, one after the other in ``text``; number ``i`` is ``text[offsets[i]:offsets[i + 1]]``."""

    names: list[str]
    text: Text
    offsets: Offsets

    @property
    def size_bytes(self) -> int:
        return int(self.offsets[-1])


def standard_library() -> Path:
    """The folder of the running interpreter's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def source_files(folder: Path) -> Iterator[Path]:
    """Every Python source file below the folder, in order, without what was installed into it."""
    for path in sorted(folder.rglob("*.py")):
        if path.is_file() and INSTALLED.isdisjoint(path.relative_to(folder).parts):
            yield path


def read(folder: Path) -> Corpus:
    """Reads all source files below a folder; ``ValueError`` when there is none with any text."""
    names: list[str] = []
    parts: list[bytes] = []
    for path in source_files(folder):
        names.append(str(path.relative_to(folder)))
        parts.append(path.read_bytes())
    if not any(parts):
        raise ValueError(f"no Python source text below {folder}")
    offsets = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    return Corpus(names, np.frombuffer(b"".join(parts), dtype=np.uint8), offsets)


def split(offsets: Offsets, parts: int) -> list[tuple[int, int]]:
    """Cuts the documents into at most ``parts`` ranges (first, end) of about equally many bytes."""
    documents = len(offsets) - 1
    ideal = np.linspace(0, int(offsets[-1]), parts + 1)[1:-1]
    inner = np.searchsorted(offsets, ideal).tolist()
    edges = sorted({0, documents, *(min(edge, documents) for edge in inner)})
    return list(pairwise(edges))
