"""The round loop: honest until the attack, the same record every time, nothing that is not finite in the model."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import agrbench
from agrbench.cells import Cell
from agrbench.errors import Inapplicable, PluginError
from agrbench.plugins.registry import Registry
from agrbench.results.record import curves
from agrbench.simulation.prefixes import Tree
from agrbench.simulation.run import Run, simulate
from tests.helpers import plugins

SMALL: dict[str, Any] = {"clients": 10, "rounds": 20, "start": 10}


def run(defense: str, attack: str, plugins: tuple[Path, ...] = (), **settings: Any) -> dict[str, Any]:
    return agrbench.run(Cell("digits", defense, attack, **{**SMALL, **settings}), plugins=plugins)


def evil(folder: Path, rows: str) -> Path:
    return plugins.write(
        folder,
        "evil",
        f'''
        """Send rows that no honest client sends."""
        from agrbench.plugins import Attack

        attack = Attack(forge=lambda insider: {rows})
        ''',
    )


def test_a_cell_repeats_bit_for_bit() -> None:
    assert curves(run("amp+cosden", "label_flip")) == curves(run("amp+cosden", "label_flip"))


def test_seeds_differ() -> None:
    assert curves(run("fedavg", "none")) != curves(run("fedavg", "none", seed=1))


@pytest.mark.parametrize("defense", ["fedavg", "krum", "amp+fltrust", "nnm+median"])
def test_before_the_attack_every_attack_gives_the_same_curve(defense: str) -> None:
    calm, stormy = run(defense, "none"), run(defense, "flip_ascent")
    assert calm["rounds"] == [0, 10, 20]
    # evaluation at 10 is after the first attacked update; all before it is shared
    assert calm["accuracy"][:1] == stormy["accuracy"][:1]
    assert calm["accuracy"][1:] != stormy["accuracy"][1:]
    late = run(defense, "flip_ascent", rounds=30, start=30)
    assert late["accuracy"][:3] == calm["accuracy"]
    assert late["trust"]["malicious_share"][:3] == [None, None, None]


def test_an_attack_lasts_from_start_to_stop_in_every_k_th_round() -> None:
    cell = Cell("digits", "fedavg", "gradient_ascent", clients=10, rounds=9, start=2, stop=8, every=3)
    storm, moved = Run(cell, Registry()), []
    for number in range(1, 10):
        calm = copy.deepcopy(storm.state)
        storm.round(number)
        honest = storm.clean.train(calm.model, number, calm.buffers).clone()
        [mean] = honest.mean(0, keepdim=True)
        # float32: the step of honest updates differs from their mean by rounding alone
        moved.append(bool((storm.state.model - calm.model - mean).abs().max() > 1e-5))
    assert [number for number, attacked in enumerate(moved, 1) if attacked] == [2, 5, 8]


def test_an_attack_may_begin_with_the_first_round() -> None:
    stormy = run("fedavg", "gradient_ascent", rounds=5, start=1)
    assert stormy["rounds"] == [0, 5]
    assert stormy["trust"]["malicious_share"][1] is not None
    late = run("fedavg", "gradient_ascent", rounds=5, start=2)
    assert late["accuracy"] != stormy["accuracy"] or late["loss"] != stormy["loss"]


def test_the_server_moves_the_model_by_its_optimizer_and_remembers_the_combined_step() -> None:
    plain = Run(Cell("digits", "fedavg", "none", **SMALL), Registry())
    moving = Run(Cell("digits", "fedavg", "none", **SMALL, server="sgd(rate=0.5,momentum=0.9)"), Registry())
    for number in (1, 2):
        before, velocity = moving.state.model, moving.state.server.get("velocity", 0.0)
        plain.state.model = before
        step = plain.round(number)[0].step
        moving.round(number)
        assert torch.equal(moving.state.previous, step)
        assert torch.equal(moving.state.model, before + 0.5 * (step + 0.9 * velocity))


@pytest.mark.parametrize("server", ["sgd(momentum=0.9)", "adam", "yogi", "adagrad"])
def test_branches_of_a_run_do_not_share_what_the_server_s_optimizer_keeps(server: str) -> None:
    cells = [Cell("digits", "krum", attack, **SMALL, server=server) for attack in ("none", "lie", "gradient_ascent")]
    tree = Tree(Registry())
    assert [curves(tree.simulate(cell)) for cell in cells] == [curves(simulate(cell, Registry())) for cell in cells]


def test_the_first_attacked_update_is_the_one_of_round_start() -> None:
    first = Run(Cell("digits", "fedavg", "gradient_ascent", **SMALL), Registry())
    calm = Run(Cell("digits", "fedavg", "none", **SMALL), Registry())
    for number in range(1, 10):
        first.round(number)
        calm.round(number)
    assert torch.equal(first.state.model, calm.state.model)
    first.round(10)
    calm.round(10)
    assert not torch.equal(first.state.model, calm.state.model)


def test_plain_averaging_is_the_mean_of_plain_sgd_steps() -> None:
    simulated = Run(Cell("digits", "fedavg", "none", **SMALL), Registry())
    before = simulated.state.model.clone()
    simulated.round(1)
    steps = []
    for shard in simulated.data.shards:
        model = before.clone().requires_grad_()
        first, second = torch.split(model, [65 * 64, 65 * 10])
        hidden = (shard.features.flatten(1) @ first[: 64 * 64].view(64, 64) + first[64 * 64 :]).relu()
        logits = hidden @ second[: 64 * 10].view(64, 10) + second[64 * 10 :]
        loss = torch.nn.functional.cross_entropy(logits, shard.labels)
        steps.append(-simulated.schedule.rate * torch.autograd.grad(loss, model)[0])
    # float32: sums over 64 inputs and 10 clients in another order
    torch.testing.assert_close(simulated.state.model, before + torch.stack(steps).mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", ["NAN", "INF", "BIG", "-INF"])
@pytest.mark.parametrize(
    "defense", ["fedavg", "krum", "median", "amp+cosden", "amp+fang", "nnm+trimmed_mean", "fltrust"]
)
def test_rows_that_are_not_finite_never_reach_the_model(tmp_path: Path, rows: str, defense: str) -> None:
    value = {"NAN": "float('nan')", "INF": "float('inf')", "BIG": "1e30", "-INF": "-float('inf')"}[rows]
    attack = evil(tmp_path, f"insider.clean * 0 + {value}")
    simulated = Run(Cell("digits", defense, "evil", **SMALL), Registry([attack]))
    for number in range(8, 13):
        outcome, _ = simulated.round(number)
        assert bool(simulated.state.model.isfinite().all())
        assert int(outcome.rejected.sum()) == (3 if number >= 10 else 0)
        assert int(outcome.rejected[simulated.cohort.honest].sum()) == 0


@pytest.mark.parametrize("defense", ["fedavg", "krum", "median", "amp+cosden", "amp+fltrust"])
def test_huge_finite_rows_leave_a_finite_model(tmp_path: Path, defense: str) -> None:
    attack = evil(tmp_path, "insider.clean * 0 + 1e17")
    record = run(defense, "evil", (attack,))
    assert record["status"] == "done"
    simulated = Run(Cell("digits", defense, "evil", **SMALL), Registry([attack]))
    for number in range(1, 21):
        simulated.round(number)
        assert bool(simulated.state.model.isfinite().all())


def test_rejected_rows_are_counted_and_honest_ones_apart(tmp_path: Path) -> None:
    record = run("fedavg", "evil", (evil(tmp_path, "insider.clean * float('nan')"),))
    assert (record["rejected"], record["rejected_honest"], record["empty_steps"]) == (3 * 11, 0, 0)


def test_a_rule_that_is_no_longer_defined_takes_empty_steps(tmp_path: Path) -> None:
    rule = plugins.write(
        tmp_path,
        "needs_ten",
        '''
        """Need ten rows."""
        import torch
        from agrbench.plugins import Defense

        defense = Defense(lambda round: torch.ones(len(round.view)), requires=lambda n, f: n >= 10)
        ''',
    )
    record = run("needs_ten", "evil", (rule, evil(tmp_path, "insider.clean * float('nan')")))
    assert record["empty_steps"] == 11
    with pytest.raises(Inapplicable, match="n >= 10, and here n=9"):
        run("needs_ten", "none", (rule,), clients=9)


def test_excluded_clients_are_heard_no_more(tmp_path: Path) -> None:
    rule = plugins.write(
        tmp_path,
        "banish",
        '''
        """Ban the first row that is left."""
        import torch
        from agrbench.plugins import Defense
        from agrbench.plugins.contract import Verdict


        def banish(round):
            """Count the rows."""
            round.memory.setdefault('rows', []).append(round.clients)
            return Verdict(torch.ones(len(round.view)) / len(round.view), exclude=round.clients[:1])


        defense = Defense(banish)
        ''',
    )
    simulated = Run(Cell("digits", "banish", "none", **SMALL), Registry([rule]))
    for number in (1, 2, 3):
        simulated.round(number)
    assert simulated.judge.memories[0]["rows"] == [tuple(range(10)), tuple(range(1, 10)), tuple(range(2, 10))]


class Readings(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count what makes a device's results wait for the host."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(name in str(func) for name in ("_local_scalar_dense", "nonzero", "masked_select")):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("model", ["mlp(64)", "cnn"])
@pytest.mark.parametrize("schedule", ["sgd", "sgd(momentum=0.9,epochs=2)"])
def test_training_reads_no_number_back(schedule: str, model: str) -> None:
    simulated = Run(Cell("digits", "fedavg", "none", schedule=schedule, model=model, **SMALL), Registry())
    simulated.clean.train(simulated.state.model)
    with Readings() as readings:
        simulated.clean.train(simulated.state.model)
    assert not readings.seen


def test_what_a_round_came_to_is_read_only_where_the_model_is_measured() -> None:
    simulated = Run(Cell("digits", "krum", "label_flip", **SMALL), Registry())
    outcome, seconds = simulated.round(10)
    with Readings() as readings:
        simulated.log.played(simulated.cohort, outcome, seconds, True)
    assert not readings.seen


def test_targeted_success_counts_only_inputs_of_other_classes() -> None:
    simulated = Run(Cell("digits", "fedavg", "scaling", **SMALL), Registry())
    assert simulated.probes is not None
    stamped, plain = simulated.probes
    others = simulated.data.test.labels != 0
    assert len(stamped.labels) == int(others.sum()) < len(simulated.data.test.labels)
    assert torch.equal(plain.features, simulated.data.test.features[others])
    assert bool((stamped.features[..., -3:, -3:] == 1).all())
    assert bool((stamped.labels == 0).all()) and bool((plain.labels == 0).all())


def test_success_is_null_before_the_attack_and_for_untargeted_attacks() -> None:
    record = run("fedavg", "scaling", rounds=30, start=20)
    assert record["success"][:2] == [None, None]
    assert all(0 <= value <= 1 for value in record["success"][2:])
    assert run("fedavg", "label_flip")["success"] is None


def test_trust_measures_the_weight_that_malicious_clients_get() -> None:
    plain = run("fedavg", "gradient_ascent")["trust"]
    # three of ten clients, all weighted alike in float32
    assert plain["malicious_share"][1:] == pytest.approx([0.3, 0.3], rel=1e-6)
    assert plain["precision"][1:] == [None, None]
    assert plain["recall"][1:] == [0.0, 0.0]
    chosen = run("krum", "gradient_ascent")["trust"]
    assert chosen["precision"][1:] == [pytest.approx(3 / 9)] * 2
    assert chosen["recall"][1:] == [1.0, 1.0]


def test_the_server_assumes_its_own_bound() -> None:
    assumed = Run(Cell("digits", "trimmed_mean", "none", byzantine=1, **SMALL), Registry())
    assert assumed.cell.bound == 1
    assert len(assumed.data.malicious) == 3
    with pytest.raises(Inapplicable, match="here n=10, f=5"):
        Run(Cell("digits", "trimmed_mean", "none", byzantine=5, **SMALL), Registry())


def test_a_start_after_the_last_round_disables_the_attack() -> None:
    assert run("fedavg", "flip_ascent", start=30)["accuracy"] == run("fedavg", "none", start=30)["accuracy"]


@pytest.mark.parametrize("malicious", [0, 1, 9])
def test_any_number_of_malicious_clients_runs(malicious: int) -> None:
    assert run("fedavg", "min_max", malicious=malicious)["status"] == "done"


def test_adaptive_attacks_see_what_the_whole_stack_would_do(tmp_path: Path) -> None:
    curious = plugins.write(
        tmp_path,
        "curious",
        '''
        """Ask the stack before every round and send the honest update."""
        from agrbench.plugins import Attack


        def forge(insider):
            """Keep the answer to the rows that will be sent."""
            insider.memory.setdefault('steps', []).append(insider.respond(insider.clean))
            return insider.clean


        attack = Attack(forge=forge)
        ''',
    )
    simulated = Run(Cell("digits", "amp+nnm+krum", "curious", **SMALL), Registry([curious]))
    for number in (10, 11):
        simulated.round(number)
        assert torch.equal(simulated.state.attack_memory["steps"][-1], simulated.state.previous)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ("insider.clean[:1]", r"forge must return rows of shape \(3, "),
        ("1 / 0", "forge raised ZeroDivisionError"),
        ("None", "forge must return rows"),
    ],
)
def test_a_broken_attack_is_named(tmp_path: Path, rows: str, complaint: str) -> None:
    attack = evil(tmp_path, rows)
    with pytest.raises(PluginError, match=complaint) as told:
        run("fedavg", "evil", (attack,))
    assert str(attack) in str(told.value)


def test_the_thread_count_is_set_back() -> None:
    before = torch.get_num_threads()
    record = run("fedavg", "none", threads=2)
    assert torch.get_num_threads() == before
    assert record["environment"]["threads"] == 2


def test_records_hold_only_finite_numbers_or_nan_that_becomes_null() -> None:
    record = run("fedavg", "scaling")
    assert all(isinstance(value, float) and math.isfinite(value) for value in record["accuracy"])
    assert record["peak_bytes"] > 0 and record["time"]["alone"]


@pytest.mark.parametrize("defense", ["amp+fang", "amp+median", "nnm+krum", "sample+fltrust"])
def test_a_convolutional_model_runs_through_every_kind_of_stack(tmp_path: Path, defense: str) -> None:
    conv = plugins.write(
        tmp_path,
        "conv",
        '''
        """Digits for a small convolutional network."""
        from torch import nn
        from agrbench.datasets.digits import load
        from agrbench.plugins import Dataset, Source


        def model(shape, classes):
            """Build one convolution and one linear layer."""
            return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes))


        dataset = Dataset(load, model=model, rate=0.5, root_size=50, source=Source("CC BY 4.0"))
        ''',
    )
    record = agrbench.run(Cell("conv", defense, "scaling", **{**SMALL, "rounds": 60, "start": 50}), plugins=(conv,))
    assert record["accuracy"][0] < 0.3
    assert record["accuracy"][5] > 0.5
    assert record["empty_steps"] == 0
