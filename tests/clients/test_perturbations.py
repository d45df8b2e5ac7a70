"""Directions of attacks: computed block by block as from all columns at once, however many threads there are."""

from __future__ import annotations

import pytest
import torch

from agrbench.clients import perturbations
from agrbench.server import geometry
from agrbench.threads import using


@pytest.mark.parametrize("columns", [1, 63, 64, 65, 1000])
def test_deviations_and_the_way_to_the_diameter_are_those_of_all_columns_at_once(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geometry, "BLOCK", 64)
    rows = torch.randn(7, columns, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 5
    p = perturbations.against(rows, "std")
    # float64: only the order of additions differs
    torch.testing.assert_close(p, -rows.std(0), rtol=1e-12, atol=0)
    reached = rows.mean(0) + perturbations.within(rows, p) * p
    # The root's two terms nearly cancel.
    assert float(torch.cdist(reached[None], rows).max() / torch.cdist(rows, rows).max()) == pytest.approx(1, rel=1e-6)


def test_the_number_of_threads_changes_no_bit_of_a_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "BLOCK", 64)
    rows = torch.randn(7, 3000, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found = []
    for threads in (1, 2, 3):
        with using(threads):
            p = perturbations.against(rows, "std")
            found.append((p.tolist(), float(perturbations.within(rows, p)), geometry.row_norms(rows).tolist()))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("value", [0.1, -3e30, 1e-300])
def test_columns_of_equal_values_deviate_by_nothing(value: float) -> None:
    assert not perturbations.against(torch.full((11, 3), value, dtype=torch.float64), "std").any()
