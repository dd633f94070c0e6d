"""Names of backends and of reductions."""

from enum import Enum, StrEnum
from typing import Final


class ReduceOp(Enum):
    """How arrays are reduced, element by element."""

    SUM = 0
    PRODUCT = 1
    MIN = 2
    MAX = 3


class Backend(StrEnum):
    """How the members of a group exchange arrays."""

    AUTO = "auto"
    """Shared memory when all members are on one node, else TCP."""
    SHM = "shm"
    TCP = "tcp"
    GLOO = "gloo"
    """The name of another library for arrays in main memory; taken for AUTO."""
    NCCL = "nccl"
    """For arrays on GPUs; refused."""

    @classmethod
    def parse(cls, name: str) -> "Backend":
        """Return the backend of this name, in upper or lower case; GLOO is AUTO.

        Raises:
            TypeError, ValueError: it is no name, or not one of a backend that there is here.
        """
        if not isinstance(name, str):
            raise TypeError(f"backend must be a str, got {type(name).__name__} {name!r}")
        text = str(name.value if isinstance(name, Backend) else name).lower()
        if text == "nccl":
            raise ValueError(
                "backend 'nccl' is for arrays on GPUs, which collective groups here do not move: use "
                "backend='auto' with arrays in main memory"
            )
        if text not in OFFERED:
            raise ValueError(f"there is no backend {name!r}; there are {', '.join(sorted(OFFERED))}")
        found = cls(text)
        return cls.AUTO if found is cls.GLOO else found


OFFERED: Final = frozenset({"auto", "shm", "tcp", "gloo"})
