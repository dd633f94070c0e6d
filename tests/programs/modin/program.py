"""pandas in parallel through Modin's engine for Ray Core, beside pandas itself."""

import os
import tempfile
from pathlib import Path

os.environ.update(MODIN_ENGINE="ray", MODIN_CPUS="2", MODIN_MEMORY=str(256 << 20), MODIN_NPARTITIONS="4")

import modin.pandas as mpd
import numpy as np
import pandas
import ray
from modin.config import Engine, NPartitions
from pandas.testing import assert_frame_equal, assert_series_equal

ROWS = 20_000


def main() -> None:
    random = np.random.default_rng(7)
    table = pandas.DataFrame(
        {
            "key": random.integers(0, 50, ROWS),
            "x": random.normal(size=ROWS),
            "y": random.integers(0, 1_000, ROWS).astype(float),
            "name": random.choice(["red", "green", "blue"], ROWS),
        }
    )
    other = pandas.DataFrame({"key": range(50), "weight": np.linspace(0, 1, 50)})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        table.to_csv(path, index=False)
        compare("read_csv", mpd.read_csv(path), pandas.read_csv(path))
    ours, weights = mpd.DataFrame(table), mpd.DataFrame(other)
    compare("groupby", ours.groupby("key").agg({"x": "mean", "y": "sum"}), table.groupby("key").agg({"x": "mean", "y": "sum"}))
    compare("groupby of two", ours.groupby(["key", "name"])["y"].max(), table.groupby(["key", "name"])["y"].max())
    compare("merge", ours.merge(weights, on="key"), table.merge(other, on="key"))
    compare("apply", ours[["x", "y"]].apply(lambda row: row["x"] * row["y"], axis=1), table[["x", "y"]].apply(lambda row: row["x"] * row["y"], axis=1))
    compare("sort", ours.sort_values(["key", "x"]), table.sort_values(["key", "x"]))
    compare("describe", ours.describe(), table.describe())
    compare("pivot", ours.pivot_table("y", "key", "name", "mean"), table.pivot_table("y", "key", "name", "mean"))
    compare("concat", mpd.concat([ours, ours]), pandas.concat([table, table]))
    try:
        ours.apply(lambda column: column["no such label"])
        ours.sum()
    except KeyError as error:
        print("an error of a partition:", "no such label" in str(error))
    print("engine", Engine.get(), NPartitions.get(), int(ray.cluster_resources()["CPU"]))


def compare(what: str, ours: object, expected: object) -> None:
    own = ours._to_pandas()
    check = assert_series_equal if isinstance(expected, pandas.Series) else assert_frame_equal
    check(own, expected)
    print("same:", what)


if __name__ == "__main__":
    main()
