"""pandas in parallel through Modin's engine for Ray Core, beside pandas itself."""

import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.update(MODIN_ENGINE="ray", MODIN_CPUS="2", MODIN_MEMORY=str(256 << 20), MODIN_NPARTITIONS="4")

import modin.pandas as mpd
import numpy as np
import pandas
import ray
from modin.config import Engine
from pandas.testing import assert_frame_equal, assert_series_equal

ROWS = 20_000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        sample().to_csv(path, index=False)
        ours, expected = computed(mpd, path), computed(pandas, path)
    for what, value in expected.items():
        check = assert_series_equal if isinstance(value, pandas.Series) else assert_frame_equal
        check(ours[what]._to_pandas(), value)
        print("same:", what)
    try:
        ours["read"].apply(lambda column: column["no such label"]).sum()
    except KeyError as error:
        print("an error of a partition:", error.args)
    else:
        raise AssertionError("the error of a partition is lost")
    assert Engine.get() == "Ray"
    assert ray.cluster_resources()["CPU"] == 2


def sample() -> pandas.DataFrame:
    random = np.random.default_rng(7)
    return pandas.DataFrame(
        {
            "key": random.integers(0, 50, ROWS),
            "x": random.normal(size=ROWS),
            "y": random.integers(0, 1_000, ROWS).astype(float),
            "name": random.choice(["red", "green", "blue"], ROWS),
        }
    )


def computed(pd: Any, path: Path) -> dict[str, Any]:
    """Return what one of the two libraries makes of a table."""
    table = pd.read_csv(path)
    weights = pd.DataFrame({"key": range(50), "weight": np.linspace(0, 1, 50)})
    return {
        "read": table,
        "groupby": table.groupby("key").agg({"x": "mean", "y": "sum"}),
        "groupby of two": table.groupby(["key", "name"])["y"].max(),
        "merge": table.merge(weights, on="key"),
        "apply": table[["x", "y"]].apply(lambda row: row["x"] * row["y"], axis=1),
        "sort": table.sort_values(["key", "x"]),
        "describe": table.describe(),
        "pivot": table.pivot_table("y", "key", "name", "mean"),
        "concat": pd.concat([table, table]),
    }


if __name__ == "__main__":
    main()
