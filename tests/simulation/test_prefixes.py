"""The grid as a tree: a branch is the run alone, bit for bit, and what happens on one reaches no other."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from agrbench.cells import Cell
from agrbench.errors import Inapplicable, PluginError
from agrbench.plugins.registry import Registry
from agrbench.results.record import FIELDS
from agrbench.server.judge import Outcome
from agrbench.simulation.log import Log
from agrbench.simulation.prefixes import Tree
from agrbench.simulation.run import simulate
from agrbench.simulation.sampling import Cohort
from tests.helpers import plugins

SMALL: dict[str, Any] = {"clients": 10, "rounds": 20, "start": 10}
ATTACKS = ["none", "scaling", "mimic(warmup=3)", "model_replacement(rounds='first')", "label_flip", "min_max"]
BANISH = '''"""Ban one client in round 5, and weigh by what was sent before."""
import torch
from agrbench.plugins import Defense
from agrbench.plugins.contract import Verdict


def banish(round):
    """Average those whose sign changed since the last round."""
    last = round.memory.get("last", {})
    round.memory["last"] = {client: row.sum() for client, row in zip(round.clients, round.view)}
    kept = torch.tensor([last.get(client, 0) * row.sum() <= 0 for client, row in zip(round.clients, round.view)])
    return Verdict(kept, exclude=round.clients[-1:] if round.number == 5 else ())


defense = Defense(banish)
'''


def cell(defense: str, attack: str, **settings: Any) -> Cell:
    return Cell("digits", defense, attack, **{**SMALL, **settings})


def simulated(record: dict[str, Any]) -> dict[str, Any]:
    """Keep what must repeat bit for bit."""
    return {name: record[name] for name, field in FIELDS.items() if field.repeats and name in record}


@pytest.mark.parametrize(
    ("defense", "settings"),
    [
        ("fldetector(window=3)", {"schedule": "adam(epochs=1,batches=2)"}),
        ("amp+foolsgold", {"schedule": "sgd(momentum=0.9)"}),
        ("centered_clipping", {"malicious": "bernoulli(share=0.3)"}),
        ("amp+fltrust", {"schedule": "adam(epochs=2,batches=2,poisoned='after')"}),
        ("flame", {"partition": "dirichlet(alpha=0.5)", "root": "test"}),
        ("bucketing+median", {"rounds": 23, "start": 20, "malicious": 2}),
        ("sample+banish", {"schedule": "sgd(momentum=0.9)"}),
    ],
)
def test_every_branch_is_the_run_alone_bit_for_bit(tmp_path: Path, defense: str, settings: dict[str, Any]) -> None:
    registry = Registry([plugins.write(tmp_path, "banish", BANISH)])
    tree = Tree(registry)
    for each in [*random.Random(0).sample(ATTACKS, len(ATTACKS)), "none"]:
        one = cell(defense, each, **settings)
        assert simulated(tree.simulate(one)) == simulated(simulate(one, registry)), each


@pytest.mark.parametrize(
    ("defense", "attack"),
    [(name, "min_max") for name in Registry().names("defense")]
    + [("krum", name) for name in Registry().names("attack")],
)
def test_every_plugin_does_on_a_branch_what_it_does_alone(defense: str, attack: str) -> None:
    registry = Registry()
    one = cell(defense, attack, clients=12, malicious=2)
    assert simulated(Tree(registry).simulate(one)) == simulated(simulate(one, registry))


def test_rounds_are_shared_from_the_second_cell_of_a_trunk_on() -> None:
    tree = Tree(Registry())
    shared = [
        tree.simulate(one)["shared_rounds"]
        for one in (
            cell("krum", "label_flip"),
            cell("krum", "none"),
            cell("krum", "min_max"),
            cell("krum", "min_max", seed=1),
            cell("median", "min_max", seed=1),
            cell("median", "none", seed=1, start=20),
            cell("median", "ipm", seed=1, start=20),
        )
    ]
    assert shared == [0, 9, 9, 0, 0, 0, 19]


@pytest.mark.parametrize("settings", [{"malicious": 0}, {"start": 30}])
def test_an_attack_that_never_comes_shares_every_round(settings: dict[str, Any]) -> None:
    tree = Tree(Registry())
    plain = tree.simulate(cell("krum", "none", **settings))
    other = tree.simulate(cell("krum", "scaling", **settings))
    assert other["shared_rounds"] == 20
    assert other["accuracy"] == plain["accuracy"]
    assert other["success"] == [None] * 3


def test_an_attack_that_fails_costs_its_own_cell(tmp_path: Path) -> None:
    bad = plugins.attack(
        tmp_path,
        "bad",
        "attack = Attack(forge=lambda insider: insider.clean.mul_(0) / 0 if insider.number < 13 else 1 / 0)",
    )
    registry = Registry([bad])
    tree = Tree(registry)
    tree.simulate(cell("fldetector(window=3)", "none"))
    with pytest.raises(PluginError, match="forge raised ZeroDivisionError"):
        tree.simulate(cell("fldetector(window=3)", "bad"))
    after = cell("fldetector(window=3)", "mimic")
    record = tree.simulate(after)
    assert record["shared_rounds"] == 9
    assert simulated(record) == simulated(simulate(after, registry))


def test_a_defense_that_fails_before_the_attack_costs_every_cell_for_the_same_reason(tmp_path: Path) -> None:
    text = '"""Fail."""\nfrom agrbench.plugins import Defense\n\ndefense = Defense(lambda round: [][round.number])\n'
    tree = Tree(Registry([plugins.write(tmp_path, "frail", text)]))
    for each in ("none", "min_max"):
        with pytest.raises(PluginError, match="weigh raised IndexError"):
            tree.simulate(cell("frail", each))


def test_what_never_meets_is_refused_before_a_round_is_played() -> None:
    with pytest.raises(Inapplicable, match="adaptive does not rehearse fedinv"):
        Tree(Registry()).simulate(cell("fedinv", "adaptive"))
    with pytest.raises(Inapplicable, match="here n=10, f=4"):
        Tree(Registry()).simulate(cell("krum", "none", malicious=4))


def test_an_attack_that_writes_into_what_it_is_shown_reaches_no_other_cell(tmp_path: Path) -> None:
    rude = plugins.attack(
        tmp_path,
        "rude",
        """
        def spoil(examples):
            examples.features.zero_()
            examples.labels.zero_()
            return examples


        def forge(insider):
            insider.model.data.zero_()  # torch counts no such write
            insider.previous.data.zero_()
            insider.honest.zero_()
            return insider.poisoned


        attack = Attack(poison=lambda shard, rng, attacker: spoil(shard), forge=forge, trigger=spoil)
        """,
    )
    registry = Registry([rude])
    tree = Tree(registry)
    tree.simulate(cell("amp+fltrust", "rude"))
    for after in (cell("amp+fltrust", "scaling"), cell("fang", "none")):
        assert simulated(tree.simulate(after)) == simulated(simulate(after, registry))


@pytest.mark.parametrize("shown", ["model", "previous"])
def test_an_attack_that_writes_into_the_run_is_refused_by_name(tmp_path: Path, shown: str) -> None:
    source = f"""
        def forge(insider):
            insider.{shown}.zero_()
            return insider.clean


        attack = Attack(forge=forge)
    """
    registry = Registry([plugins.attack(tmp_path, "rude", source)])
    with pytest.raises(PluginError, match=r"rude.py: forge wrote into what it was given"):
        simulate(cell("median", "rude"), registry)


def test_a_branch_s_clock_goes_on_from_where_its_trunk_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    trunk, cohort = Log(), Cohort((0,), torch.tensor([0]), torch.tensor([], dtype=torch.long))
    heard = torch.ones(1)
    trunk.played(cohort, Outcome(heard, lambda: heard, None, torch.tensor([False])), 2.0, False)
    now[0] = 107.0
    trunk.stop()
    for began in (200.0, 300.0):
        now[0] = began
        branch = trunk.branch()
        branch.played(cohort, Outcome(heard, lambda: heard, None, torch.tensor([False])), 1.0, False)
        now[0] += 3
        branch.stop()
        assert branch.as_record(10, False)["time"] == {"server_s": 1.5, "round_s": 5.0}


def test_what_other_branches_wait_for_is_not_in_a_cell_s_peak_of_memory(tmp_path: Path) -> None:
    hoard = plugins.write(
        tmp_path,
        "hoard",
        '''
        """Keep 200 MB."""
        import torch
        from agrbench.plugins import Defense


        def hoard(round):
            """Average."""
            if 'kept' not in round.memory:
                round.memory['kept'] = torch.ones(50_000_000)
            return torch.ones(len(round.view)).bool()


        defense = Defense(hoard)
        ''',
    )
    tree = Tree(Registry([hoard]))
    first, second = (tree.simulate(cell("hoard", each, clients=4, rounds=10))["peak_bytes"] for each in ("none", "ipm"))
    plain = tree.simulate(cell("fedavg", "none", clients=4, rounds=10))["peak_bytes"]
    # the interpreter's own memory moves by a few MB
    assert first - plain == pytest.approx(2e8, abs=4e7)
    assert second - plain == pytest.approx(2e8, abs=4e7)
