"""Estimates pi by throwing darts: ``python -m examples.monte_carlo_pi``.

Many independent tasks, taken as they finish, so that the estimate improves before everybody is done.
"""

from __future__ import annotations

import random

import aktis

TASKS = 40
DARTS_PER_TASK = 50_000


@aktis.remote
def throw(darts: int, seed: int) -> int:
    """How many of the darts land in the quarter circle."""
    dice = random.Random(seed)
    return sum(dice.random() ** 2 + dice.random() ** 2 <= 1.0 for _ in range(darts))


def main() -> None:
    with aktis.init():
        pending = [throw.remote(DARTS_PER_TASK, seed) for seed in range(TASKS)]
        hits = thrown = 0
        while pending:
            finished, pending = aktis.wait(pending, num_returns=min(10, len(pending)))
            hits += sum(aktis.get(finished))
            thrown += DARTS_PER_TASK * len(finished)
            print(f"{thrown:>9} darts: pi is about {4 * hits / thrown:.5f}")


if __name__ == "__main__":
    main()
