"""Every registered defense and stage: it runs under attack, and its variants and stacks do."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import agrbench
from agrbench import Cell, Layout
from agrbench.conformance import claims
from agrbench.errors import Inapplicable
from agrbench.plugins.registry import Registry
from agrbench.simulation import suites
from agrbench.simulation.grid import expand
from tests.helpers.updates import by_size

REGISTRY = Registry()
SUITE = suites.read("catalogue")
CELLS = expand(SUITE.grids, REGISTRY)
SHAPES = [(5, 4), (4,), (4, 3), (3,)]
WIDTH = Layout.of_shapes(SHAPES).parameters


def defined(stack: str) -> bool:
    try:
        REGISTRY.stack(stack).check(20, 4)
    except Inapplicable:
        return False
    return True


STACKS = [stack for stack in dict.fromkeys(cell.defense for cell in CELLS) if defined(stack)]


def drawn(seed: int, scale: float = 1.0) -> Tensor:
    return torch.from_numpy(scale * np.random.default_rng(seed).normal(size=(20, WIDTH)) + scale / 2).float()


def test_suite_names_every_defense_stage_and_attack() -> None:
    """A new plugin file makes this red until the suite has it."""
    plugins = [(entry.kind, entry.name) for cell in CELLS for entry in REGISTRY.plugins_of(cell)]
    for kind in ("defense", "stage", "attack"):
        assert {name for of, name in plugins if of == kind} == set(REGISTRY.names(kind))


def test_suite_has_every_rule_in_both_forms_where_both_exist() -> None:
    for name in REGISTRY.names("defense"):
        record = REGISTRY.stack(name).defense.record
        assert name in STACKS
        assert (f"amp+{name}" in STACKS) == (record.amplifier is not None)
        assert (record.amplifier is None) == ("amplified" in record.waives)


@pytest.mark.parametrize("stack", STACKS)
def test_stack_goes_through_a_run(stack: str) -> None:
    """Fourteen rounds: four attacked, and enough for rules that begin to judge when they have seen ten."""
    record = agrbench.run(Cell("digits", stack, "min_max", clients=20, malicious=4, rounds=14, start=10))
    assert (record["status"], record["reason"], record["empty_steps"]) == ("done", None, 0)
    assert all(np.isfinite(record["loss"]))


ORDINARY = ["shape", "finite", "length", "untouched", "determinism"]


@pytest.mark.parametrize("stack", [stack for stack in STACKS if "+" in stack])
def test_stack_gives_finite_steps_alike_twice_and_changes_nothing_that_it_is_given(stack: str) -> None:
    """What every rule must do alone, of the stacks of the suite: amplified forms, and rules behind row stages."""
    for claim in claims(stack):
        if str(claim) in ORDINARY:
            claim.verify(4)


def test_stack_that_is_not_defined_is_skipped_with_a_reason() -> None:
    reasons = {}
    for stack in dict.fromkeys(cell.defense for cell in CELLS):
        try:
            REGISTRY.stack(stack).check(20, 4)
        except Inapplicable as reason:
            reasons[stack] = str(reason)
    assert "4 * f + 3 <= n, and here n=10, f=4" in reasons["bucketing+bulyan"]
    assert "foolsgold cannot follow bucketing" in reasons["bucketing+foolsgold"]
    assert "a pooled row is not a gradient" in reasons["amp+fedinv"]
    assert set(reasons) & set(REGISTRY.names("defense")) == set()


def test_plugin_file_fits_a_screen() -> None:
    for kind in ("defense", "stage"):
        for name in REGISTRY.names(kind):
            assert len(REGISTRY.entry(kind, name).path.read_text().splitlines()) <= 80, name


def variants() -> list[Any]:
    from agrbench.cli import list as listing

    specs = []
    for kind in ("defense", "stage"):
        for name in REGISTRY.names(kind):
            for words in listing.variants(REGISTRY.entry(kind, name)).split("`")[1::2]:
                if "=" in words and not words.startswith(f"{name}("):
                    specs.append(pytest.param(kind, f"{name}({words})", id=f"{name}({words})"))
    return specs


@pytest.mark.parametrize(("kind", "spec"), variants())
def test_named_variant_can_be_typed(kind: str, spec: str) -> None:
    canonical = REGISTRY.canonical(kind, spec)
    assert "(" in canonical, "it is the default, not a variant"
    stack = canonical if kind == "defense" else f"{canonical}+median"
    layout = None if kind == "defense" else SHAPES
    rows = drawn(0)
    sources: dict[str, Any] = {"root": rows[0], "evaluate": by_size, "previous": rows[1], "model": rows[2]}
    sources["sizes"] = torch.arange(1, 21)
    assert agrbench.aggregate(rows, stack, 4, layout, **sources).isfinite().all()
