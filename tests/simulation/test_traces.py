"""Traces: they keep what a run does, change nothing of it, and find in mirrors what decides otherwise."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agrbench.cells import Cell
from agrbench.plugins.registry import Registry
from agrbench.simulation.prefixes import Tree
from agrbench.simulation.run import simulate
from agrbench.simulation.traces import FACTOR, trace
from tests.helpers import plugins

CELL = Cell("digits", "foolsgold", "lie", clients=9, sample=7, malicious=2, rounds=14, model="mlp(4)", start=10)
MIRRORS = ("renumbered", "reordered", "scaled")
RULES = {
    "by_place": ("reordered", "round.view.new_tensor(range(round.n))"),
    "by_number": ("renumbered", "round.view.new_tensor(round.clients)"),
    "by_size": ("scaled", "round.norms"),
    "honest": ("", "round.norms / round.norms.sum()"),
}


def test_trace_measures_what_a_simulation_does_with_or_without_mirrors() -> None:
    tree = Tree(Registry())
    plain, mirrored = trace(CELL, tree), trace(CELL, tree, MIRRORS)
    measured = simulate(CELL, tree.registry)
    del measured["time"]
    assert plain.measured == mirrored.measured == measured
    for one, other in zip(plain.rounds, mirrored.rounds, strict=True):
        assert torch.equal(one.updates, other.updates)
        assert torch.equal(one.step, other.step)
        assert not other.mirrored
    assert plain.remembers


def test_rounds_have_the_rows_of_the_clients_that_were_drawn() -> None:
    played = trace(CELL, Tree(Registry()))
    assert [each.number for each in played.rounds] == list(range(1, 15))
    assert all(len(each.clients) == len(each.updates) == 7 for each in played.rounds)
    assert all(not each.malicious for each in played.rounds[:9])
    assert any(each.malicious for each in played.rounds[9:])
    rows = [each.updates[list(each.malicious)] for each in played.rounds if len(each.malicious) == 2]
    assert rows
    assert all(torch.equal(one[0], one[1]) for one in rows), "lie sends the same row from all"


def test_step_of_averaging_is_the_mean_of_the_rows() -> None:
    for each in trace(replace(CELL, defense="fedavg"), Tree(Registry())).rounds:
        torch.testing.assert_close(each.step, each.updates.mean(0))


@pytest.mark.parametrize("name", RULES)
def test_mirror_shows_what_a_rule_depends_on(name: str, tmp_path: Path) -> None:
    expected, weights = RULES[name]
    path = plugins.defense(tmp_path, name, f"defense = Defense(lambda round: {weights}, amplifier=None)")
    played = trace(replace(CELL, defense=name, rounds=3), Tree(Registry([path])), MIRRORS)
    assert not played.fault
    assert [set(each.mirrored) for each in played.rounds] == [{expected} - {""}] * 3


def test_scaled_mirror_is_scaled_back(tmp_path: Path) -> None:
    path = plugins.defense(tmp_path, "by_size", "defense = Defense(lambda round: round.norms)")
    for each in trace(replace(CELL, defense="by_size", rounds=3), Tree(Registry([path])), MIRRORS).rounds:
        scaled = each.mirrored["scaled"]
        assert isinstance(scaled, torch.Tensor)
        torch.testing.assert_close(scaled, FACTOR * each.step)


def test_fault_ends_a_trace_and_is_kept(tmp_path: Path) -> None:
    path = plugins.rule(
        tmp_path, "late", "def weigh(round):\n    return round.norms if round.number < 3 else torch.ones(1)"
    )
    played = trace(replace(CELL, defense="late"), Tree(Registry([path])))
    assert len(played.rounds) == 2
    assert "late.py: weigh raised TypeError" in played.fault


def test_mirrors_look_at_each_so_many_rounds_only(tmp_path: Path) -> None:
    path = plugins.defense(tmp_path, "by_size", "defense = Defense(lambda round: round.norms)")
    played = trace(replace(CELL, defense="by_size"), Tree(Registry([path])), MIRRORS, every=4)
    assert [each.number for each in played.rounds if each.mirrored] == [4, 8, 12]
