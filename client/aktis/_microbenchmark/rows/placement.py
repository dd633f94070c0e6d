"""Placement groups."""

from __future__ import annotations

import importlib

from ..model import Api, Load, NotOfferedError, Row

GROUPS_PER_STEP = 10
READY_TIMEOUT_S = 30
# Small enough that a whole step fits on one processor.
BUNDLE_CPUS = 0.01


def create_and_remove(api: Api, clients: int) -> Load:
    util = importlib.import_module(f"{api.__name__}.util")
    create = getattr(util, "placement_group", None)
    remove = getattr(util, "remove_placement_group", None)
    if create is None or remove is None:
        raise NotOfferedError(f"{api.__name__}.util has no placement_group or no remove_placement_group")

    def step() -> None:
        groups = [create([{"CPU": BUNDLE_CPUS}]) for _ in range(GROUPS_PER_STEP)]
        for group in groups:
            if not group.wait(READY_TIMEOUT_S):
                raise AssertionError(f"a placement group was not ready after {READY_TIMEOUT_S} s")
        for group in groups:
            remove(group)

    return Load(step=step, amount=GROUPS_PER_STEP)


ROWS = (Row("placement group create and remove", "groups/s", create_and_remove),)
