"""Tasks and objects in one minute: ``python -m examples.quickstart``."""

from __future__ import annotations

from typing import Any

import aktis
import numpy as np
from numpy.typing import NDArray


@aktis.remote
def square(number: int) -> int:
    return number * number


@aktis.remote
def total(*numbers: int) -> int:
    return sum(numbers)


@aktis.remote
def mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())


@aktis.remote(num_returns=2)
def divide(dividend: int, divisor: int) -> tuple[int, int]:
    return divmod(dividend, divisor)


def main() -> None:
    with aktis.init():
        # A call returns at once with a reference; the tasks run side by side.
        squares = [square.remote(number) for number in range(10)]
        print("squares:", aktis.get(squares))

        # References are arguments like any other: this task starts when its arguments are there.
        print("sum of squares:", aktis.get(total.remote(*squares)))

        # A large object is stored once and read in place by every task.
        values = aktis.put(np.arange(1_000_000, dtype=np.float64))
        print("means:", aktis.get([mean.remote(values) for _ in range(3)]))

        # Two results are two references (which the type of the function cannot tell, hence Any).
        parts: Any = divide.remote(47, 10)
        quotient, remainder = aktis.get(list(parts))
        print("47 = 10 *", quotient, "+", remainder)

        # An exception in a task is raised where its result is asked for, with its own type.
        try:
            aktis.get(divide.remote(1, 0))
        except ZeroDivisionError:
            print("the task divided by zero, and we caught it")


if __name__ == "__main__":
    main()
