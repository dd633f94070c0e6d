"""A parameter server: workers compute gradients, an actor holds the weights.

``python -m examples.parameter_server`` fits a linear model by stochastic gradient descent. Each worker takes
the latest weights, computes a gradient on its own part of the data and hands it in as soon as it is ready;
nobody waits for the slowest.
"""

from __future__ import annotations

import aktis
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

FEATURES = 20
SAMPLES_PER_WORKER = 2_000
WORKERS = 4
STEPS = 200
LEARNING_RATE = 0.1
TRUE_WEIGHTS: Vector = np.linspace(-1.0, 1.0, FEATURES)


class ParameterServer:
    def __init__(self, size: int) -> None:
        self.weights: Vector = np.zeros(size)

    def apply(self, gradient: Vector) -> Vector:
        """Makes one step and returns the new weights."""
        self.weights = self.weights - LEARNING_RATE * gradient
        return self.weights


class Worker:
    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.inputs: Vector = generator.normal(size=(SAMPLES_PER_WORKER, FEATURES))
        self.targets: Vector = self.inputs @ TRUE_WEIGHTS + generator.normal(
            scale=0.01, size=SAMPLES_PER_WORKER
        )

    def gradient(self, weights: Vector) -> Vector:
        error = self.inputs @ weights - self.targets
        return self.inputs.T @ error / SAMPLES_PER_WORKER


# They compute little and wait a lot, so they shall not occupy a processor each.
RemoteServer = aktis.remote(num_cpus=0)(ParameterServer)
RemoteWorker = aktis.remote(num_cpus=0)(Worker)


def main() -> None:
    with aktis.init():
        server = RemoteServer.remote(FEATURES)
        workers = [RemoteWorker.remote(seed) for seed in range(WORKERS)]
        weights = aktis.put(np.zeros(FEATURES))
        running = {worker.gradient.remote(weights): worker for worker in workers}
        # Everybody is there before the first step: a gradient of long ago would throw the weights back.
        aktis.wait(list(running), num_returns=WORKERS)
        for _ in range(STEPS):
            (gradient,), _ = aktis.wait(list(running))
            worker = running.pop(gradient)
            # The gradient goes from the worker to the server by reference; the driver never sees it.
            weights = server.apply.remote(gradient)
            running[worker.gradient.remote(weights)] = worker
        error = float(np.abs(aktis.get(weights) - TRUE_WEIGHTS).max())
        print(f"largest error of a weight after {STEPS} steps: {error:.4f}")


if __name__ == "__main__":
    main()
