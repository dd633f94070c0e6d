"""A Hamilton dataflow with its graph adapter and its task executor for Ray Core, beside the plain driver."""

import dataflow
import pandas as pd
import ray
from hamilton import base, driver
from hamilton.execution import executors
from hamilton.plugins import h_ray

INPUTS = {"signups": pd.Series([1, 10, 50, 100, 200, 400]), "spend": pd.Series([10, 10, 20, 40, 40, 50])}
WANTED = ["spend_per_signup", "spend_mean", "spend_zero_mean", "process_marks"]


def main() -> None:
    expected = driver.Driver({}, dataflow, adapter=base.DefaultAdapter()).execute(WANTED, inputs=INPUTS)

    adapter = h_ray.RayGraphAdapter(base.DictResult(), ray_init_config={"num_cpus": 2})
    ours = driver.Driver({}, dataflow, adapter=adapter).execute(WANTED, inputs=INPUTS)
    pd.testing.assert_series_equal(ours["spend_per_signup"], expected["spend_per_signup"])
    pd.testing.assert_series_equal(ours["spend_zero_mean"], expected["spend_zero_mean"])
    assert ours["spend_mean"] == expected["spend_mean"]
    mark, of_driver = ours["process_marks"], expected["process_marks"]
    assert mark["pid"] != of_driver["pid"], "the node ran in the driver"
    assert mark["cpus"] == {"CPU": 0.5}, mark
    print("same: graph adapter")
    ray.shutdown()

    expected = parallel_driver(executors.SynchronousLocalTaskExecutor()).execute(["total"])
    ours = parallel_driver(h_ray.RayTaskExecutor(num_cpus=2)).execute(["total"])
    assert ours == expected == {"total": sum(n * n for n in range(10))}, (ours, expected)
    assert not ray.is_initialized(), "the executor ends what it began"
    print("same: task executor")


def parallel_driver(executor: executors.TaskExecutor) -> driver.Driver:
    return (
        driver.Builder()
        .enable_dynamic_execution(allow_experimental_mode=True)
        .with_modules(dataflow)
        .with_remote_executor(executor)
        .build()
    )


if __name__ == "__main__":
    main()
