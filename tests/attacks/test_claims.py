"""What malicious clients claim about their sizes: the shipped attack, the call that asks, and its certificate."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import agrbench
from agrbench import Cell
from agrbench.clients.insider import claim
from agrbench.conformance import claims
from agrbench.errors import AgrbenchError, PluginError
from agrbench.plugins.registry import Registry

REGISTRY = Registry(())
SIZES = torch.tensor([3.0, 40.0, 1.0], dtype=torch.float64)


@pytest.mark.oracle("size_inflation")
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=5), st.sampled_from([0.5, 1.0, 10.0, 1e6]))
def test_size_inflation_claims_a_multiple_of_the_true_sizes(sizes: list[int], factor: float) -> None:
    true = torch.tensor(sizes, dtype=torch.float64)
    claimed = claim(REGISTRY.attack(f"size_inflation(factor={factor})"), true)
    assert claimed.tolist() == [factor * size for size in sizes]
    assert true.tolist() == sizes


@pytest.mark.trap("size_inflation")
def test_size_inflation_claims_ten_times_by_default_and_may_claim_less_than_there_is() -> None:
    assert claim(REGISTRY.attack("size_inflation"), SIZES).tolist() == [30, 400, 10]
    assert claim(REGISTRY.attack("size_inflation(factor=0.5)"), SIZES).tolist() == [1.5, 20, 0.5]


@pytest.mark.trap("size_inflation")
@pytest.mark.parametrize("factor", ["0.0", "-1.0"])
def test_size_inflation_refuses_a_factor_that_leaves_nothing(factor: str) -> None:
    with pytest.raises(AgrbenchError, match=r"factor is .*; write a number above 0"):
        claim(REGISTRY.attack(f"size_inflation(factor={factor})"), SIZES)


@pytest.mark.trap("size_inflation")
@pytest.mark.parametrize("defense", ["median", "fedavg", "multi_krum"])
def test_size_inflation_is_sign_flip_to_a_rule_that_ignores_sizes(defense: str) -> None:
    lied, plain = (
        agrbench.run(Cell("digits", defense, attack, clients=7, malicious=2, rounds=20, start=10))
        for attack in ("size_inflation", "sign_flip")
    )
    assert (lied["loss"], lied["accuracy"]) == (plain["loss"], plain["accuracy"])


@pytest.mark.parametrize("attack", ["sign_flip", "label_flip", "min_max"])
def test_an_attack_that_claims_nothing_claims_the_truth(attack: str) -> None:
    assert claim(REGISTRY.attack(attack), SIZES).tolist() == SIZES.tolist()


def written(folder: Path, body: str) -> Path:
    path = folder / "own.py"
    path.write_text(
        '"""Own."""\nimport torch\nfrom agrbench.plugins import Attack\n'
        f"attack = Attack(forge=lambda insider: -insider.clean, claim={body})\n"
    )
    return path


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("lambda sizes: sizes[:1]", r"claim must return numbers of shape \(3,\), not a tensor of shape \(1,\)"),
        ("lambda sizes: sizes.sum()", r"claim must return numbers of shape \(3,\)"),
        ("lambda sizes: [1, 2, 3]", "not a list"),
        ("lambda sizes: sizes + 1j", "claim must return numbers"),
        ("lambda sizes: 1 / 0", "claim raised ZeroDivisionError"),
    ],
)
def test_a_claim_of_the_wrong_form_names_the_file(body: str, named: str, tmp_path: Path) -> None:
    path = written(tmp_path, body)
    with pytest.raises(PluginError, match=named) as caught:
        claim(Registry((str(path),)).attack("own"), SIZES)
    assert "own.py" in str(caught.value)


@pytest.mark.parametrize("body", ["lambda sizes: sizes.long() * 2", "lambda sizes: sizes.float() * 2"])
def test_a_claim_of_another_type_is_turned_into_float64(body: str, tmp_path: Path) -> None:
    claimed = claim(Registry((str(written(tmp_path, body)),)).attack("own"), SIZES)
    assert claimed.dtype == torch.float64
    assert claimed.tolist() == [6, 80, 2]


def test_nobody_claims_nothing(tmp_path: Path) -> None:
    own = Registry((str(written(tmp_path, "lambda sizes: 1 / 0")),)).attack("own")
    assert claim(own, SIZES[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("body", "refuted"),
    [
        ("lambda sizes: 2 * sizes", []),
        ("lambda sizes: -sizes", ["claims"]),
        ("lambda sizes: sizes / 0", ["claims"]),
        ("lambda sizes: sizes * float('nan')", ["claims"]),
        ("lambda sizes: sizes[:0]", ["claims"]),
        ("lambda sizes: sizes.mul_(2)", ["claims"]),
    ],
)
def test_certificate_of_an_attack_covers_its_claims(body: str, refuted: list[str], tmp_path: Path) -> None:
    found = [str(each) for each in claims(written(tmp_path, body)) if each.refute(10)]
    assert found == refuted


def test_certificate_of_an_attack_that_claims_nothing_does_not_speak_of_claims() -> None:
    assert "claims" in [str(each) for each in claims("size_inflation")]
    assert "claims" not in [str(each) for each in claims("sign_flip")]


def test_inflated_sizes_turn_a_weighted_median_and_not_a_median() -> None:
    rows, sizes = np.array([[1.0], [2.0], [3.0], [-50.0]]), np.array([10.0, 10, 10, 10])
    sizes[3:] = claim(REGISTRY.attack("size_inflation"), torch.from_numpy(sizes[3:])).numpy()
    assert agrbench.aggregate(rows, "median", 1, sizes=sizes) == 1.5
    assert agrbench.aggregate(rows, "median(weighted=True)", 1, sizes=sizes) == -50
