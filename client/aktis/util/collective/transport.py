"""What a way of exchanging arrays offers to a group; the arrays are bytes in C order."""

from collections.abc import Sequence
from typing import Protocol

from aktis.util.collective.arrays import Bytes


class Transport(Protocol):
    """One member's connection to the others; ``dtype`` and ``op`` are numbers of the native module.

    One thread at a time calls a collective operation, one ``send`` and one ``receive``. All raise
    ``TimeoutError`` and ``RuntimeError`` when the group cannot go on, ``ValueError`` when the members call
    different things, after which it can.
    """

    def barrier(self, timeout_s: float) -> None: ...

    def all_reduce(self, data: Bytes, dtype: int, op: int, timeout_s: float) -> None: ...

    def reduce(self, data: Bytes, dtype: int, op: int, root: int, timeout_s: float) -> None: ...

    def broadcast(self, data: Bytes, dtype: int, root: int, timeout_s: float) -> None: ...

    def all_gather(self, data: Bytes, outputs: Sequence[Bytes], dtype: int, timeout_s: float) -> None: ...

    def reduce_scatter(
        self, inputs: Sequence[Bytes], output: Bytes, dtype: int, op: int, timeout_s: float
    ) -> None: ...

    def send(self, data: Bytes, dtype: int, to: int, timeout_s: float) -> None: ...

    def receive(self, data: Bytes, dtype: int, source: int, timeout_s: float) -> None: ...
