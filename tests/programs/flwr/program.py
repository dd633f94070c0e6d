"""A federated simulation with Flower, whose clients run in actors, beside the same averages by hand."""

import os

os.environ.update(FLWR_TELEMETRY_ENABLED="0", FLWR_DISABLE_UPDATE_CHECK="1")

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

CLIENTS, ROUNDS, RATE = 4, 3, 0.5
seen: dict[str, object] = {}

client_app = ClientApp()
server_app = ServerApp()


def samples(number: int) -> tuple[np.ndarray, np.ndarray]:
    """The data of one client: a line with noise of its own."""
    random = np.random.default_rng(number)
    x = random.normal(size=50 + 10 * number)
    return x, 3 * x + 1 + random.normal(scale=0.1, size=x.size)


def improved(weights: np.ndarray, number: int) -> np.ndarray:
    x, y = samples(number)
    rest = weights[0] * x + weights[1] - y
    return weights - RATE * np.array([(rest * x).mean(), rest.mean()])


@client_app.train()
def train(message: Message, context: Context) -> Message:
    number = int(context.node_config["partition-id"])
    weights = message.content["arrays"].to_numpy_ndarrays()[0]
    metrics = {"num-examples": samples(number)[0].size, "pid": os.getpid()}
    content = {"arrays": ArrayRecord([improved(weights, number)]), "metrics": MetricRecord(metrics)}
    return Message(RecordDict(content), reply_to=message)


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    strategy = FedAvg(
        fraction_train=1,
        fraction_evaluate=0,
        min_train_nodes=CLIENTS,
        min_available_nodes=CLIENTS,
        train_metrics_aggr_fn=lambda records, weighted_by: collect(records),
    )
    result = strategy.start(grid=grid, initial_arrays=ArrayRecord([np.zeros(2)]), num_rounds=ROUNDS)
    seen["weights"] = result.arrays.to_numpy_ndarrays()[0]


def collect(records: list[RecordDict]) -> MetricRecord:
    seen.setdefault("pids", set()).update(record["metrics"]["pid"] for record in records)
    return MetricRecord({"clients": len(records)})


def sequential() -> np.ndarray:
    weights = np.zeros(2)
    sizes = [samples(number)[0].size for number in range(CLIENTS)]
    for _ in range(ROUNDS):
        weights = np.average([improved(weights, number) for number in range(CLIENTS)], axis=0, weights=sizes)
    return weights


if __name__ == "__main__":
    run_simulation(
        server_app,
        client_app,
        num_supernodes=CLIENTS,
        backend_config={"client_resources": {"num_cpus": 1}, "init_args": {"num_cpus": 2}},
    )
    np.testing.assert_allclose(seen["weights"], sequential())
    assert len(seen["pids"]) == 2, "two actors"
    assert os.getpid() not in seen["pids"]
    print("same:", ROUNDS, "rounds in", len(seen["pids"]), "actors")
