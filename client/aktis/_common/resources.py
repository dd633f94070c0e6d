"""Amounts of resources in fixed point, so that fractions add up exactly.

One unit of a resource is 10 000 steps: ten times 0.1 CPU is 1 CPU, which floats do not give. ``memory`` and
``object_store_memory`` are bytes, still counted in steps; 64-bit integers hold 900 TB of them.
"""

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Final

from aktis._proto import common_pb2

STEPS_PER_UNIT: Final = 10_000
MAX_STEPS: Final = 2**63 - 1
CPU: Final = "CPU"
GPU: Final = "GPU"
MEMORY: Final = "memory"
OBJECT_STORE_MEMORY: Final = "object_store_memory"
_MAX_NAME_CHARACTERS: Final = 128


def to_steps(name: str, amount: float) -> int:
    """Convert a user's amount to steps, rounding to the nearest.

    Raises:
        TypeError: the amount is not a number.
        ValueError: it is negative, not finite, too large, or positive but less than one step.
    """
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        raise TypeError(f"resource {name!r} must be a number, got {type(amount).__name__} {amount!r}")
    if not math.isfinite(amount) or amount < 0:
        raise ValueError(f"resource {name!r} must be finite and not negative, got {amount!r}")
    steps = amount * STEPS_PER_UNIT if isinstance(amount, int) else round(amount * STEPS_PER_UNIT)
    if amount > 0 and steps == 0:
        raise ValueError(
            f"resource {name!r} is finer than the smallest step {1 / STEPS_PER_UNIT}: got {amount!r}"
        )
    if steps > MAX_STEPS:
        raise ValueError(f"resource {name!r} is larger than {MAX_STEPS // STEPS_PER_UNIT}: got {amount!r}")
    return steps


@functools.lru_cache(maxsize=1024)
def _check_name(name: object) -> None:
    """Raise what is wrong with a name; the same few come again and again."""
    if not isinstance(name, str):
        raise TypeError(f"a resource's name must be a string, got {type(name).__name__} {name!r}")
    if not name or len(name) > _MAX_NAME_CHARACTERS or not name.isprintable():
        raise ValueError(
            f"a resource's name must have 1 to {_MAX_NAME_CHARACTERS} printable characters, got {name!r}"
        )


class ResourceSet(Mapping[str, int]):
    """Immutable amounts by name, in steps. A name that is absent counts as zero; zeros are not stored.

    >>> ResourceSet.of({"CPU": 0.1}).scale(10) == ResourceSet.of({"CPU": 1})
    True
    """

    __slots__ = ("_hash", "_steps")

    def __init__(self, steps: Mapping[str, int] | None = None) -> None:
        """Make a set of amounts that are steps already; for amounts of users see `of`.

        Raises:
            ValueError: an amount is negative or beyond 64 bits.
        """
        kept = {name: value for name, value in (steps or {}).items() if value != 0}
        for name, value in kept.items():
            if value < 0 or value > MAX_STEPS:
                raise ValueError(f"resource {name!r} must be between 0 and {MAX_STEPS} steps, got {value}")
        self._steps = kept
        self._hash: int | None = None

    @classmethod
    def of(cls, amounts: Mapping[str, float]) -> "ResourceSet":
        """Validate a user's amounts, for example ``{"CPU": 0.5, "memory": 2**30}``.

        Raises:
            TypeError, ValueError: a name or an amount is not valid; the message names it.
        """
        for name in amounts:
            _check_name(name)
        return cls({name: to_steps(name, amount) for name, amount in amounts.items()})

    @classmethod
    def from_proto(cls, message: common_pb2.Resources) -> "ResourceSet":
        """Read what a peer sent.

        Raises:
            ValueError: an amount is negative or a name is not valid.
        """
        for name in message.amounts:
            _check_name(name)
        return cls(message.amounts)

    def to_proto(self) -> common_pb2.Resources:
        """Return the message for a peer."""
        return common_pb2.Resources(amounts=self._steps)

    def to_floats(self) -> dict[str, float]:
        """Return amounts in units, as users write them; whole numbers come out exact."""
        return {name: value / STEPS_PER_UNIT for name, value in self._steps.items()}

    def __getitem__(self, name: str) -> int:
        return self._steps.get(name, 0)

    def __iter__(self) -> Iterator[str]:
        return iter(self._steps)

    def __len__(self) -> int:
        return len(self._steps)

    def __contains__(self, name: object) -> bool:
        return name in self._steps

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResourceSet) and self._steps == other._steps

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._steps.items()))
        return self._hash

    def __repr__(self) -> str:
        return f"ResourceSet({self})"

    def __str__(self) -> str:
        if not self._steps:
            return "nothing"
        return ", ".join(f"{value / STEPS_PER_UNIT:g} {name}" for name, value in sorted(self._steps.items()))

    def __add__(self, other: "ResourceSet") -> "ResourceSet":
        if not other._steps:
            return self
        if not self._steps:
            return other
        total = dict(self._steps)
        for name, value in other._steps.items():
            total[name] = total.get(name, 0) + value
            if total[name] > MAX_STEPS:
                return ResourceSet(total)  # which refuses it
        return ResourceSet._of_valid(total)

    def __sub__(self, other: "ResourceSet") -> "ResourceSet":
        """Take ``other`` away.

        Raises:
            ValueError: there is less of something than is taken away; ledgers must never go below zero.
        """
        rest = dict(self._steps)
        for name, value in other._steps.items():
            left = rest.get(name, 0) - value
            if left > 0:
                rest[name] = left
            elif left == 0:
                del rest[name]
            else:
                raise ValueError(f"cannot take {other} from {self}")
        return ResourceSet._of_valid(rest)

    @classmethod
    def _of_valid(cls, steps: dict[str, int]) -> "ResourceSet":
        """Make a set of positive steps that were computed here: ledgers do this all the time."""
        made = cls.__new__(cls)
        made._steps, made._hash = steps, None
        return made

    def fits(self, available: "ResourceSet") -> bool:
        """Say whether this demand can be served out of ``available``."""
        steps = available._steps
        for name, value in self._steps.items():  # noqa: SIM110  half the time of all(), and schedulers live on it
            if steps.get(name, 0) < value:
                return False
        return True

    def missing(self, available: "ResourceSet") -> "ResourceSet":
        """Return by how much this demand exceeds ``available``; empty when it fits."""
        steps = available._steps
        return ResourceSet({name: max(0, value - steps.get(name, 0)) for name, value in self._steps.items()})

    def scale(self, factor: int) -> "ResourceSet":
        """Return every amount times a whole, non-negative number."""
        return ResourceSet({name: value * factor for name, value in self._steps.items()})

    def count_that_fits(self, available: "ResourceSet", limit: int) -> int:
        """Return how many demands like this one ``available`` can serve at once, at most ``limit``."""
        steps = available._steps
        return min([limit, *(steps.get(name, 0) // value for name, value in self._steps.items())])

    def only(self, names: frozenset[str]) -> "ResourceSet":
        """Return the part that has one of these names."""
        return ResourceSet({name: value for name, value in self._steps.items() if name in names})

    def without(self, names: frozenset[str]) -> "ResourceSet":
        """Return the part that has none of these names."""
        return ResourceSet({name: value for name, value in self._steps.items() if name not in names})
