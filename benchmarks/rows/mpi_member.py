"""One of the processes that ``mpirun`` starts: reduces an array so many times per line that rank 0 gets."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def main(size_bytes: int, count: int) -> None:
    from mpi4py import MPI

    world: Any = MPI.COMM_WORLD
    array = np.ones(size_bytes // 4, dtype=np.float32)
    while True:
        if world.rank == 0:
            print("ready", flush=True)
        goes_on = sys.stdin.readline() == "go\n" if world.rank == 0 else None
        if not world.bcast(goes_on, root=0):
            return
        for _ in range(count):
            world.Allreduce(MPI.IN_PLACE, array)
        array.fill(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
