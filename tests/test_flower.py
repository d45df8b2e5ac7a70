"""Flower's strategy: in Flower's own simulation, and message by message."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

import agrbench
from agrbench.errors import AgrbenchError
from agrbench.flower import Robust
from tests.helpers.project import ROOT

BYZANTINE = 3
PARTS = ("weight", "bias")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the server app of the documentation, and all other scenarios, in one simulation with ten clients."""
    folder = tmp_path_factory.mktemp("flower")
    page = (ROOT / "docs" / "deploying.md").read_text()
    ((name, app),) = re.findall(r"```python\n# save as (server_app\.py)\n(.*?)```", page, re.DOTALL)
    (folder / name).write_text(app)
    environment = os.environ | {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "tests.helpers.flower_app", str(folder), str(folder / name)]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    (folder / "log").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def told(simulated: Path, name: str) -> Any:
    return json.loads((simulated / f"{name}.json").read_text())


def test_robust_rules_learn_in_a_simulation_where_averaging_fails(simulated: Path) -> None:
    accuracy = {name: told(simulated, name)["accuracy"] for name in ("fedavg", "flower's krum", "cosden", "amp+krum")}
    assert accuracy.pop("fedavg") < 0.3
    assert min(accuracy.values()) > 0.75, accuracy


@pytest.mark.parametrize("spec", ["cosden", "amp+krum", "median"])
def test_the_global_model_is_what_aggregate_makes_of_the_same_replies(simulated: Path, spec: str) -> None:
    arrays = np.load(simulated / f"{spec}.npz")
    nodes = sorted({int(name.split()[0]) for name in arrays if name.split()[0].isdigit()})
    before = {part: arrays[f"before {part}"] for part in PARTS}
    updates = [
        {part: torch.from_numpy(arrays[f"{node} {part}"] - before[part]) for part in PARTS}
        for node in nodes
        if arrays[f"{node} bias"].shape == (10,) and np.isfinite(arrays[f"{node} bias"]).all()
    ]
    assert len(updates) == (7 if spec == "median" else 10)
    step = agrbench.aggregate(updates, spec, byzantine=BYZANTINE)
    for part in PARTS:
        np.testing.assert_allclose(arrays[f"after {part}"], before[part] + step[part].numpy(), rtol=1e-5, atol=1e-6)


def test_clients_that_reverse_weigh_nothing(simulated: Path) -> None:
    for metrics in told(simulated, "cosden")["metrics"].values():
        weights = [value for name, value in metrics.items() if name.startswith("weight-")]
        assert (metrics["kept"], metrics["rejected"], weights.count(0.0)) == (10, 0, BYZANTINE)


def test_training_goes_on_without_clients_that_send_nan_or_a_wrong_shape_or_nothing(simulated: Path) -> None:
    found, log = told(simulated, "median"), (simulated / "log").read_text()
    assert found["accuracy"] > 0.75
    assert [(each["kept"], each["rejected"], each["skipped"]) for each in found["metrics"].values()] == [(7, 3, 0)] * 3
    for reason in ("its update is not finite", "its 'bias' is of shape (3,)", "Message: this client never answers"):
        assert re.search(rf"round 3: left node \d+ out: .*{re.escape(reason)}", log), reason


def test_rounds_with_too_few_replies_are_skipped_and_leave_the_model(simulated: Path) -> None:
    found, arrays = told(simulated, "krum"), np.load(simulated / "krum.npz")
    assert [each["skipped"] for each in found["metrics"].values()] == [1, 1, 1]
    assert not arrays["after weight"].any()
    log = (simulated / "log").read_text()
    assert "round 3: skipped, the global model stays as it is: krum requires 2 * f + 2 < n, and here n=7, f=3" in log


def test_the_server_app_of_the_documentation_trains(simulated: Path) -> None:
    final = torch.load(simulated / "final.pt")
    assert final["weight"].shape == (10, 64)
    assert final["weight"].abs().max() > 0.2  # a new layer begins within 1/8


@pytest.fixture(autouse=True)
def task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process make messages, which newer versions of Flower leave to a running app."""
    with contextlib.suppress(ImportError):
        identity = importlib.import_module("flwr.supercore.task_identity").TaskIdentity
        for name in ("_task_id", "_run_id", "_node_id"):
            monkeypatch.setattr(identity, name, 1)


class Nodes(Grid):
    """Nodes that answer at once: `answer(message)` returns a reply, or `None` for none."""

    def __init__(self, ids: Iterable[int], answer: Callable[[Message], Message | None]) -> None:
        self.ids, self.answer = list(ids), answer

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any: ...

    def create_message(self, *args: Any, **named: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return self.ids

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return [reply for message in messages if (reply := self.answer(message)) is not None]


def arrays(*values: float) -> ArrayRecord:
    return ArrayRecord({"w": Array(np.array(values, np.float32))})


def reply(message: Message, record: ArrayRecord, **metrics: Any) -> Message:
    return Message(RecordDict({"arrays": record, "metrics": MetricRecord(metrics)}), reply_to=message)


def sends(value: float, examples: float = 1) -> Callable[[Message], Message]:
    return lambda message: reply(message, arrays(value), **{"num-examples": examples})


def start(strategy: Robust, answers: Mapping[int, Callable[[Message], Message | None]], rounds: int = 1) -> Any:
    grid = Nodes(answers, lambda message: answers[message.metadata.dst_node_id](message))
    return strategy.start(grid, arrays(1.0), num_rounds=rounds)


def robust(spec: str, byzantine: int = 0, **more: Any) -> Robust:
    return Robust(spec, byzantine, **{"min_train_nodes": 5, "fraction_evaluate": 0.0, **more})


def final(result: Any) -> float:
    return float(result.arrays["w"].numpy()[0])


def test_whatever_clients_send_is_left_out_counted_and_never_fatal(caplog: pytest.LogCaptureFixture) -> None:
    two = RecordDict({"a": arrays(2.0), "b": arrays(3.0)})
    answers = {
        4: lambda message: None,
        3: lambda message: Message(two, reply_to=message),
        1: sends(2.0),
        2: sends(4.0),
        5: lambda message: Message(Error(0, "line\n" * 100 + "the end"), reply_to=message),
        6: lambda message: reply(message, ArrayRecord({"w": Array("float32", (1,), "numpy.ndarray", b"no array")})),
        7: lambda message: reply(message, ArrayRecord({"w": Array(np.array([2], np.int64))})),
        8: lambda message: reply(message, ArrayRecord({"other": Array(np.ones(1, np.float32))})),
        9: lambda message: reply(message, ArrayRecord({"w": Array(np.array([1e300]))})),
        10: lambda message: reply(message, ArrayRecord({"w": Array(np.ones(1, np.longdouble))})),
    }
    result = start(robust("median", min_train_nodes=10), answers)
    assert final(result) == 3.0
    assert dict(result.train_metrics_clientapp[1]) == {
        "kept": 2, "rejected": 8, "skipped": 0, "weight-1": 0.5, "weight-2": 0.5,
    }  # fmt: skip
    lines = [record.getMessage() for record in caplog.records if "left node" in record.getMessage()]
    assert len(lines) == 8
    assert "round 1: left node 4 out: it sent no reply" in lines
    assert all("\n" not in line and len(line) < 250 for line in lines)


def test_examples_count_only_where_a_rule_is_weighted() -> None:
    answers = {1: sends(2.0, 3), 2: sends(6.0, 1), 3: sends(2.0, 0), 4: sends(2.0, 0), 5: sends(2.0, 0)}
    assert final(start(robust("fedavg"), answers)) == pytest.approx(2.8)
    assert final(start(robust("fedavg(weighted=True)"), answers)) == pytest.approx(3.0)


def test_evaluations_that_cannot_be_averaged_are_left_out() -> None:
    def evaluated(message: Message, metrics: dict[str, Any]) -> Message:
        if message.metadata.message_type == "train":
            return sends(2.0)(message)
        return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)

    good = {"num-examples": 1, "accuracy": 0.5}
    bad: list[dict[str, Any]] = [{}, good | {"accuracy": float("nan")}, good | {"accuracy": [1.0]}, {"num-examples": 0}]
    metrics = dict(enumerate([good, *bad, good | {"accuracy": 1.0, "num-examples": 3}], start=1))
    answers = {node: lambda message, node=node: evaluated(message, metrics[node]) for node in metrics}
    result = start(robust("median", fraction_evaluate=1.0), answers)
    assert dict(result.evaluate_metrics_clientapp[1]) == {"accuracy": 0.875}


def test_what_clients_measure_in_training_is_reported_only_if_asked_for() -> None:
    answers = {
        node: lambda message: reply(message, arrays(2.0), loss=2.0, kept=99, **{"num-examples": 1})
        for node in range(1, 6)
    }
    assert "loss" not in start(robust("median"), answers).train_metrics_clientapp[1]
    asked = robust(
        "median", train_metrics_aggr_fn=lambda records, key: MetricRecord({"loss": len(records), "kept": 99})
    )
    metrics = start(asked, answers).train_metrics_clientapp[1]
    assert (metrics["loss"], metrics["kept"]) == (5, 5)


def test_a_wrong_spec_is_refused_at_once_and_a_rule_that_lacks_something_in_the_first_round() -> None:
    with pytest.raises(AgrbenchError, match="did you mean krum"):
        Robust("kurm")
    with pytest.raises(AgrbenchError, match="pass root="):
        start(robust("fltrust"), {node: sends(2.0) for node in range(1, 6)})


def test_without_flower_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "agrbench.flower")
    monkeypatch.setitem(sys.modules, "flwr.app", None)
    with pytest.raises(ImportError, match=r"python -m pip install 'agrbench\[flower\]'"):
        importlib.import_module("agrbench.flower")
