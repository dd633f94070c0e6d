"""Adds up many arrays in a tree of tasks: ``python -m examples.tree_reduce``.

Every inner node is a task whose arguments are the references of two others. The whole tree is submitted at
once; the runtime starts each task when its arguments are there, and no partial sum passes the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import aktis
import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")

LEAVES = 33
SIZE = 100_000


@aktis.remote
def leaf(number: int) -> NDArray[np.int64]:
    return np.full(SIZE, number, dtype=np.int64)


@aktis.remote
def add(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    return left + right


def tree(items: Sequence[Item], combine: Callable[[Item, Item], Item]) -> Item:
    """Combines neighbours until one item is left; the depth is the logarithm of their number."""
    level = list(items)
    while len(level) > 1:
        pairs = [combine(left, right) for left, right in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


def main() -> None:
    with aktis.init():
        leaves = [leaf.remote(number) for number in range(LEAVES)]
        total = aktis.get(tree(leaves, add.remote))
        print(f"sum of {LEAVES} arrays: every element is {total.min()} to {total.max()}")


if __name__ == "__main__":
    main()
