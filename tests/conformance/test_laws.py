"""The laws of aggregation rules, one by one, and the coefficients that are proven of them."""

from pathlib import Path

import pytest
import torch

from agrbench.conformance import Case, Violation, coefficients, laws
from agrbench.conformance.cases import literal
from agrbench.conformance.strategies import bound, legal
from agrbench.plugins.registry import Registry
from tests.helpers import plugins

REGISTRY = Registry()


def test_laws_speak_of_the_largest_bound_and_of_none() -> None:
    pairs = legal(REGISTRY.stack("krum"))
    assert {(3, 0), (5, 1), (11, 0), (11, 4)} <= set(pairs)
    assert (4, 1) not in pairs


def test_tie_may_go_to_whoever_ties_and_to_nobody_else(tmp_path: Path) -> None:
    tied = Case("krum", [[0, 0], [1, 0], [2, 0], [3, 0]])
    backwards = [3, 2, 1, 0]
    with pytest.raises(AssertionError):
        assert torch.equal(tied.step(), tied.but(updates=tied.updates[backwards]).step())
    laws.ties(tied, backwards)
    body = "defense = Defense(lambda round: (round.norms * 0).index_fill(0, round.norms.long()[:1] * 0, 1.0))"
    path = plugins.defense(tmp_path, "first", body)
    with pytest.raises(Violation, match="in the order"):
        laws.ties(tied.but(stack="first", plugins=(str(path),)), backwards)


def test_literal_is_read_back_as_the_case_that_it_was(tmp_path: Path) -> None:
    case = Case("amp+krum", [[0.1, -0.0], [1e-30, 1e15], [3, 4]], 0, ((1, 2),), root=[0.5, 0], seed=2, dtype="float32")
    again = eval(literal(case), {"Case": Case})
    assert torch.equal(again.updates, case.updates)
    assert (again.layout, again.seed, again.dtype, again.stack) == (case.layout, 2, "float32", "amp+krum")
    assert torch.equal(again.root, case.root)


def test_blind_spot_breaks_what_is_proven_of_the_base_rule_and_not_the_base_rule() -> None:
    base, amplified = coefficients.measure("krum", (), 5), coefficients.measure("amp+krum", (), 5)
    assert base is not None
    assert amplified is not None
    assert not base.how
    assert "below what the view shows" in amplified.how
    assert amplified.found > 1e9
    assert amplified.honest is not None
    assert coefficients.coefficient(amplified.case, amplified.honest) == amplified.found


def test_coefficient_is_the_largest_over_the_honest_subsets() -> None:
    case = Case("fedavg", [[0.0], [2.0], [9.0]], 1)
    # The mean of all is 11 / 3; of 0 and 2 it is 1, and so is their variance; of 0 and 9 it is 4.5.
    assert coefficients.coefficient(case) == pytest.approx((11 / 3 - 1) ** 2)
    assert coefficients.coefficient(case, [0, 2]) == pytest.approx((11 / 3 - 4.5) ** 2 / 4.5**2)


def test_nnm_lowers_what_is_proven() -> None:
    alone, mixed = (bound(REGISTRY.stack(stack), 20, 2)[0] for stack in ("krum", "nnm+krum"))
    assert alone is not None
    assert alone == pytest.approx(6 * 18 / 15)
    assert mixed == pytest.approx(16 / 18 * (alone + 1))
    assert bound(REGISTRY.stack("amp+krum"), 20, 2)[0] is None
    assert bound(REGISTRY.stack("krum(power=1)"), 20, 2)[0] is None
