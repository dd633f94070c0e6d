"""A search by pymoo whose problem is evaluated in tasks, beside the sequential one."""

import os

import numpy as np
import ray
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.problem import ElementwiseProblem
from pymoo.optimize import minimize
from pymoo.parallelization.ray import RayParallelization


class Sphere(ElementwiseProblem):
    """A point is the better the nearer it is to one half in each coordinate."""

    def __init__(self, **options):
        super().__init__(n_var=6, n_obj=1, xl=0, xu=1, **options)
        self.processes = set()

    def _evaluate(self, x, out, *args, **kwargs):
        out["F"] = np.sum((x - 0.5) ** 2)
        out["process"] = os.getpid()


def main() -> None:
    ray.init(num_cpus=2)
    ours = search(elementwise_runner=RayParallelization({"num_cpus": 0.5}))
    expected = search()
    np.testing.assert_array_equal(ours.X, expected.X)
    np.testing.assert_array_equal(ours.F, expected.F)
    workers = {int(p) for p in ours.pop.get("process")}
    assert os.getpid() not in workers, "evaluated in the driver"
    print("same:", float(ours.F[0]) < 0.05, "in other processes")


def search(**options):
    return minimize(Sphere(**options), GA(pop_size=20), ("n_gen", 15), seed=1)


if __name__ == "__main__":
    main()
