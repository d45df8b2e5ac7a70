"""A federation on digits in Flower's own simulation: `python -m tests.helpers.flower_app DIR APP` writes what happened.

Ten clients train a softmax regression. In the rounds that are asked for it, three of them reverse their updates, or
fail: one sends NaN, one a wrong shape, and one raises. Last, the server app in the file APP has its turn.
"""

import json
import runpy
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Krum
from flwr.simulation import run_simulation
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from agrbench.flower import Robust

CLIENTS, BAD, ROUNDS, TRAINING = 10, 3, 3, 1200
Model = dict[str, NDArray[np.float32]]

features, labels = load_digits(return_X_y=True)
features = (features / 16).astype(np.float32)
client, server = ClientApp(), ServerApp()


def trained(model: Model, x: NDArray[np.float32], y: NDArray[np.int64]) -> Model:
    """Take steps of gradient descent on the cross-entropy."""
    weight, bias = model["weight"], model["bias"]
    for _ in range(20):
        scores = x @ weight.T + bias
        odds = np.exp(scores - scores.max(1, keepdims=True))
        wrong = (odds / odds.sum(1, keepdims=True) - np.eye(10, dtype=np.float32)[y]) / len(y)
        weight, bias = weight - 0.5 * wrong.T @ x, bias - 0.5 * wrong.sum(0)
    return {"weight": weight, "bias": bias}


def accuracy(model: Model) -> float:
    scores = features[TRAINING:] @ model["weight"].T + model["bias"]
    return float((scores.argmax(1) == labels[TRAINING:]).mean())


@client.train()
def train(message: Message, context: Context) -> Message:
    number = int(context.node_config["partition-id"])
    (config,) = message.content.config_records.values()
    mode = config.get("bad")
    model = read(message.content["arrays"])
    new = trained(model, features[number:TRAINING:CLIENTS], labels[number:TRAINING:CLIENTS])
    if number < BAD and mode == "reverse":
        new = {name: model[name] - 5 * (new[name] - model[name]) for name in model}
    elif number < BAD and mode == "fail":
        if number == 2:
            raise RuntimeError("this client never answers")
        new["bias"] = np.full(10, np.nan, np.float32) if number == 0 else np.zeros(3, np.float32)
    content = RecordDict({"arrays": written(new), "metrics": MetricRecord({"num-examples": 120})})
    return Message(content, reply_to=message)


def read(arrays: object) -> Model:
    assert isinstance(arrays, ArrayRecord)
    return {name: array.numpy() for name, array in arrays.items()}


def written(model: Model) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in model.items()})


class Watched(Robust):
    """Keep what the last round was given and what it returned."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = list(replies)
        self.before = read(self._model)
        self.sent = {
            message.metadata.src_node_id: read(message.content["arrays"])
            for message in replies
            if not message.has_error()
        }
        return super().aggregate_train(server_round, replies)


@server.main()
def main(grid: Grid, context: Context) -> None:
    out, app = map(Path, sys.argv[1:])
    common: dict[str, Any] = {"fraction_evaluate": 0.0, "min_available_nodes": CLIENTS}
    for name, bad, strategy in (
        ("fedavg", "reverse", FedAvg(**common)),
        ("flower's krum", "reverse", Krum(num_malicious_nodes=BAD, **common)),
        ("cosden", "reverse", Watched("cosden", BAD, **common)),
        ("amp+krum", "reverse", Watched("amp+krum", BAD, **common)),
        ("median", "fail", Watched("median", BAD, **common)),
        ("krum", "fail", Watched("krum", BAD, **common)),
    ):
        zeros = written({"weight": np.zeros((10, 64), np.float32), "bias": np.zeros(10, np.float32)})
        result = strategy.start(grid, zeros, num_rounds=ROUNDS, train_config=ConfigRecord({"bad": bad}))
        final = read(result.arrays)
        metrics = {number: dict(each) for number, each in result.train_metrics_clientapp.items()}
        (out / f"{name}.json").write_text(json.dumps({"accuracy": accuracy(final), "metrics": metrics}))
        if isinstance(strategy, Watched):
            rows = {f"{node} {part}": array for node, sent in strategy.sent.items() for part, array in sent.items()}
            before = {f"before {part}": array for part, array in strategy.before.items()}
            after = {f"after {part}": array for part, array in final.items()}
            np.savez(out / f"{name}.npz", allow_pickle=False, **rows, **before, **after)
    runpy.run_path(str(app))["main"](grid, context)


if __name__ == "__main__":
    local: Any = {"num_cpus": 2, "include_dashboard": False, "log_to_driver": False}
    run_simulation(server, client, CLIENTS, backend_config={"init_args": local, "client_resources": {"num_cpus": 1}})
