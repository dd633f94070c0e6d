"""Nodes of a dataflow: each function is one, and its parameters are the nodes that it depends on."""

import os

import pandas as pd
from hamilton.function_modifiers.metadata import ray_remote_options
from hamilton.htypes import Collect, Parallelizable


def spend_per_signup(spend: pd.Series, signups: pd.Series) -> pd.Series:
    return spend / signups


def spend_mean(spend: pd.Series) -> float:
    return spend.mean()


def spend_zero_mean(spend: pd.Series, spend_mean: float) -> pd.Series:
    return spend - spend_mean


@ray_remote_options(num_cpus=0.5)
def process_marks(spend_mean: float) -> dict:
    import ray

    cpus = ray.get_runtime_context().get_assigned_resources() if ray.is_initialized() else {}
    return {"pid": os.getpid(), "cpus": cpus}


def number() -> Parallelizable[int]:
    yield from range(10)


def square(number: int) -> int:
    return number * number


def total(square: Collect[int]) -> int:
    return sum(square)
