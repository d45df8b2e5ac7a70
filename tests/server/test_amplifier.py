"""The amplifier's laws, what is *not* a law, and its controls (AgrAmplifier, 2022, Algorithm 1)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import ceil, inf
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

import agrbench
from agrbench import amplify
from agrbench.errors import AgrbenchError, Inapplicable
from agrbench.layout import Layout
from agrbench.plugins import Stage
from agrbench.plugins.contract import Columns
from agrbench.plugins.registry import Registry
from agrbench.server import amplifier
from agrbench.server.amplifier import Patches
from agrbench.threads import using
from tests.helpers import oracles_amplifier as oracle
from tests.helpers.shapes import in_torchs_order

Shapes = list[tuple[int, ...]]

# ---------------------------------------------------------------- random layouts and updates

LINEAR: st.SearchStrategy[tuple[int, ...]] = st.tuples(st.integers(1, 12), st.integers(1, 12))
CONVOLUTION: st.SearchStrategy[tuple[int, ...]] = st.tuples(
    st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)
)
VECTOR: st.SearchStrategy[tuple[int, ...]] = st.tuples(st.integers(1, 15))
KERNELS = st.integers(1, 9)
DTYPES = st.sampled_from([torch.float32, torch.float64])
KINDS = st.sampled_from(["normal", "ties", "wide", "negative", "equal"])
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def layouts(draw: st.DrawFn) -> Shapes:
    """Draw one to four layers: linear or convolutional with or without bias, or of one dimension."""
    shapes: Shapes = []
    for _ in range(draw(st.integers(1, 4))):
        shape: tuple[int, ...] = draw(st.one_of(LINEAR, CONVOLUTION, VECTOR))
        shapes.append(shape)
        if len(shape) > 1 and draw(st.booleans()):
            shapes.append((shape[1] if len(shape) == 2 else shape[0],))
    assume(not in_torchs_order(shapes))
    return shapes


def updates(kind: str, seed: int, clients: int, parameters: int, dtype: torch.dtype) -> Tensor:
    """Make random updates: plain, full of ties and zeros, of very different sizes, all below 0, or all alike."""
    rng = torch.Generator().manual_seed(seed)
    normal = torch.randn(clients, parameters, generator=rng, dtype=dtype)
    if kind == "ties":
        return normal.round().clamp(-2, 2) / 2
    if kind == "wide":
        return normal * 10 ** (16 * torch.rand(clients, parameters, generator=rng, dtype=dtype) - 8)
    if kind == "negative":
        return -normal.abs()
    return normal[:, :1].expand(clients, parameters).clone() if kind == "equal" else normal


@dataclass(frozen=True)
class Case:
    """Updates of several clients, the shapes of their layers, and a kernel."""

    shapes: Shapes
    kernel: int
    rows: Tensor

    @property
    def patches(self) -> oracle.Patches:
        return oracle.patches(self.shapes, self.kernel)

    def pooled(self, rows: Tensor | None = None) -> Tensor:
        return amplify(self.rows if rows is None else rows, self.shapes, self.kernel)

    def restored(self, rows: Tensor | None = None) -> Tensor:
        return amplify(self.rows if rows is None else rows, self.shapes, self.kernel, restore=True)


def parameters(shapes: Shapes) -> int:
    return sum(oracle.size(shape) for shape in shapes)


@st.composite
def cases(draw: st.DrawFn, shapes: st.SearchStrategy[Shapes] | None = None) -> Case:
    """Draw a layout, a kernel and the updates of one to four clients."""
    layers = draw(layouts() if shapes is None else shapes)
    rows = updates(draw(KINDS), draw(SEEDS), draw(st.integers(1, 4)), parameters(layers), draw(DTYPES))
    return Case(layers, draw(KERNELS), rows)


LINEAR_LAYOUTS: st.SearchStrategy[Shapes] = st.lists(st.one_of(LINEAR, VECTOR), min_size=1, max_size=4).filter(
    lambda shapes: not in_torchs_order(shapes)
)


@cache
def stage(spec: str) -> Stage:
    """Load one column stage by its spec."""
    return Registry().stack(f"{spec}+fedavg").stages[0].record


def columns(spec: str, shapes: Shapes, restore: bool = False, seed: int = 0) -> Columns:
    """Prepare a column stage for a layout, as a run with this seed would."""
    build = stage(spec).columns
    assert build is not None
    prepared: Columns = build(Layout.of_shapes(shapes), torch.Generator().manual_seed(seed), restore)
    return prepared


def as_tensor(rows: list[list[float]], like: Tensor) -> Tensor:
    """Read an oracle's answer; its values are entries of `like`, so that nothing is rounded."""
    return torch.tensor(rows, dtype=like.dtype)


def another(case: Case, kind: str, seed: int) -> Tensor:
    """Make other updates of the same clients, layout and dtype."""
    return updates(kind, seed, len(case.rows), case.rows.shape[1], case.rows.dtype)


def lowest_below(rows: Tensor) -> Tensor:
    """Give the next number below each entry."""
    return torch.nextafter(rows, torch.full_like(rows, -inf))


# ---------------------------------------------------------------- the definition


@pytest.mark.oracle("amp")
@given(cases())
def test_pooled_is_the_largest_value_of_each_patch(case: Case) -> None:
    assert torch.equal(case.pooled(), as_tensor(oracle.pooled(case.rows.tolist(), case.patches), case.rows))


@pytest.mark.oracle("amp")
@given(cases())
def test_restored_keeps_the_first_largest_value_of_each_patch_in_place(case: Case) -> None:
    assert torch.equal(case.restored(), as_tensor(oracle.restored(case.rows.tolist(), case.patches), case.rows))


CHOICES: dict[str, oracle.Choose] = {"value": oracle.largest, "magnitude": oracle.strongest}
FOLDS: dict[str, Callable[[Shapes, int], oracle.Patches]] = {
    "layers": oracle.patches,
    "released": oracle.released_patches,
}


@pytest.mark.oracle("amp")
@pytest.mark.parametrize("by", CHOICES)
@pytest.mark.parametrize("fold", FOLDS)
@given(case=cases())
def test_every_form_of_the_stage_is_the_definition(by: str, fold: str, case: Case) -> None:
    patches = FOLDS[fold](case.shapes, case.kernel)
    assume(patches)
    spec = f"amp(kernel={case.kernel}, by={by!r}, fold={fold!r})"
    pooled, restored = columns(spec, case.shapes), columns(spec, case.shapes, restore=True)
    rows = case.rows.tolist()
    assert torch.equal(pooled.view(case.rows), as_tensor(oracle.pooled(rows, patches, CHOICES[by]), case.rows))
    kept = oracle.restored(rows, patches, CHOICES[by])
    if fold == "released":
        kept = oracle.released_restored(rows, case.shapes, case.kernel, CHOICES[by])
    assert torch.equal(restored.view(case.rows), as_tensor(kept, case.rows))
    assert pooled.feature_of is not None
    assert pooled.feature_of.tolist() == oracle.feature_of(patches, case.rows.shape[1])
    assert restored.feature_of is None
    assert pooled.layout.parameters == len(patches)
    assert restored.layout == Layout.of_shapes(case.shapes)


@pytest.mark.trap("amp")
def test_the_first_of_several_equal_values_is_kept_reading_row_by_row() -> None:
    square = torch.tensor([[0.0, 3.0, 3.0, 3.0]])
    assert amplify(square, [(2, 2)], restore=True).tolist() == [[0.0, 3.0, 0.0, 0.0]]
    assert amplify(square.flip(1), [(2, 2)], restore=True).tolist() == [[3.0, 0.0, 0.0, 0.0]]
    # a convolution (2, 1, 2, 1) folds to [[a, c], [b, d]]: of b and c, equal, c comes first
    assert amplify(torch.tensor([[0.0, 3.0, 3.0, 0.0]]), [(2, 1, 2, 1)], restore=True).tolist() == [
        [0.0, 0.0, 3.0, 0.0]
    ]


def test_a_bias_is_one_more_row_of_its_layer() -> None:
    layer = torch.tensor([[1.0, 2.0, 3.0, 4.0, 9.0, 8.0]])  # weights [[1, 2], [3, 4], [9, 8]] with the last as bias
    assert amplify(layer, [(2, 2), (2,)], kernel=3).tolist() == [[9.0]]
    assert amplify(layer, [(2, 2), (2,)], kernel=2).tolist() == [[4.0, 9.0]]


def test_a_vector_of_its_own_is_pooled_along_its_length() -> None:
    assert amplify(torch.tensor([[1.0, 5.0, 2.0, 4.0, 3.0]]), [(5,)], kernel=2).tolist() == [[5.0, 4.0, 3.0]]


@pytest.mark.trap("amp")
def test_patches_never_cross_from_one_layer_to_the_next() -> None:
    rows = torch.tensor([[1.0, 2.0, 3.0, -4.0, -5.0]])
    assert amplify(rows, [(1, 3), (1, 2)], kernel=9).tolist() == [[3.0, -4.0]]


@pytest.mark.trap("amp")
def test_the_released_fold_drops_the_ragged_edge_and_the_output_bias_when_pooled() -> None:
    # (2, 3), (3,), (3, 1), (1,) as torch stores them: weights by output, then bias; folded to width 3 that is
    # [[0, 3, 1], [4, 2, 5], [6, 7, 8], [9, 10, 11]] with 12 left over; kernel 2 drops the third column too
    rows = torch.arange(13.0)[None]
    shapes: Shapes = [(2, 3), (3,), (3, 1), (1,)]
    prepared = columns("amp(fold='released')", shapes)
    assert prepared.view(rows).tolist() == [[4.0, 10.0]]
    assert prepared.feature_of is not None
    assert prepared.feature_of.tolist() == [0, -1, 0, 0, 0, -1, 1, 1, -1, 1, 1, -1, -1]


def test_the_released_fold_zeroes_the_ragged_edge_and_keeps_the_output_bias_when_restored() -> None:
    rows = torch.arange(13.0)[None]
    prepared = columns("amp(fold='released')", [(2, 3), (3,), (3, 1), (1,)], restore=True)
    assert prepared.view(rows).tolist() == [[0.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 10.0, 0.0, 12.0]]


@pytest.mark.trap("amp")
def test_the_released_fold_never_pools_the_output_bias_even_if_it_fills_a_row() -> None:
    # (1, 2), (2,), (2, 2), (2,): without the bias of two outputs there are four rows of width 2, and with it five
    rows = torch.arange(10.0)[None]
    shapes: Shapes = [(1, 2), (2,), (2, 2), (2,)]
    assert columns("amp(fold='released',kernel=1)", shapes).view(rows).shape == (1, 8)
    assert columns("amp(fold='released')", shapes, restore=True).view(rows)[0, -2:].tolist() == [8.0, 9.0]


# ---------------------------------------------------------------- laws of the pooled form


@given(cases())
def test_pooled_width_is_the_sum_of_ceilings(case: Case) -> None:
    heights_and_widths = [(len(matrix), len(matrix[0])) for matrix in oracle.folded(case.shapes)]
    width = sum(ceil(high / case.kernel) * ceil(wide / case.kernel) for high, wide in heights_and_widths)
    assert case.pooled().shape == (len(case.rows), width)


@given(cases())
def test_kernel_one_is_the_fold_alone(case: Case) -> None:
    fold = [c for matrix in oracle.folded(case.shapes) for row in matrix for c in row]
    assert sorted(fold) == list(range(case.rows.shape[1]))
    assert torch.equal(amplify(case.rows, case.shapes, kernel=1), case.rows[:, fold])


@given(cases(LINEAR_LAYOUTS))
def test_kernel_one_changes_nothing_on_linear_layouts(case: Case) -> None:
    assert torch.equal(amplify(case.rows, case.shapes, kernel=1), case.rows)


@given(cases())
def test_kernel_one_restored_changes_nothing(case: Case) -> None:
    assert torch.equal(amplify(case.rows, case.shapes, kernel=1, restore=True), case.rows)


@given(cases())
def test_a_kernel_as_large_as_the_layers_leaves_one_value_a_layer(case: Case) -> None:
    layers = oracle.folded(case.shapes)
    largest = [case.rows[:, [c for row in matrix for c in row]].amax(1) for matrix in layers]
    assert torch.equal(amplify(case.rows, case.shapes, kernel=45), torch.stack(largest, 1))


@given(cases())
def test_each_row_is_pooled_by_itself(case: Case) -> None:
    alone = [(case.pooled(row[None]), case.restored(row[None])) for row in case.rows]
    assert torch.equal(case.pooled(), torch.cat([pooled for pooled, _ in alone]))
    assert torch.equal(case.restored(), torch.cat([restored for _, restored in alone]))


@given(cases(), SEEDS)
def test_raising_entries_never_lowers_a_pooled_value(case: Case, seed: int) -> None:
    raised = case.rows + another(case, "negative", seed).abs().round()
    assert (case.pooled(raised) >= case.pooled()).all()


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0, inf])
@given(case=cases(), kind=KINDS, seed=SEEDS)
def test_pooling_never_makes_distances_grow(power: float, case: Case, kind: str, seed: int) -> None:
    other = another(case, kind, seed)
    before = torch.linalg.vector_norm(case.rows.double() - other.double(), ord=power, dim=1)
    after = torch.linalg.vector_norm(case.pooled().double() - case.pooled(other).double(), ord=power, dim=1)
    # the law is exact on real numbers; the two norms add up to 600 terms in float64, in different orders
    assert (after <= before * (1 + 1e-12)).all()


@given(cases(), st.integers(-20, 20))
def test_pooling_commutes_with_scaling_by_powers_of_two(case: Case, exponent: int) -> None:
    scale = 2.0**exponent
    assert torch.equal(case.pooled(case.rows * scale), case.pooled() * scale)
    assert torch.equal(case.restored(case.rows * scale), case.restored() * scale)


@given(cases(), st.floats(0, 1e6))
def test_pooling_commutes_with_scaling_by_any_number_that_is_not_negative(case: Case, scale: float) -> None:
    # exactly: rounding keeps the order of products, so the largest product is the product of the largest
    assert torch.equal(case.pooled(case.rows * scale), case.pooled() * scale)


@given(cases(), st.floats(-1e6, 1e6))
def test_pooling_commutes_with_adding_one_constant_to_all_entries(case: Case, constant: float) -> None:
    # exactly: rounding keeps the order of sums, so the largest sum is the sum with the largest
    assert torch.equal(case.pooled(case.rows + constant), case.pooled() + constant)


@given(cases(), SEEDS)
def test_permutations_inside_patches_change_no_pooled_value(case: Case, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    permuted = case.rows.clone()
    for patch in case.patches:
        permuted[:, patch] = case.rows[:, [patch[i] for i in torch.randperm(len(patch), generator=rng).tolist()]]
    assert torch.equal(case.pooled(permuted), case.pooled())


@given(cases(), KERNELS)
def test_pooling_twice_is_pooling_once_with_the_product_of_the_kernels(case: Case, then: int) -> None:
    first = columns(f"amp(kernel={case.kernel})", case.shapes)
    build = stage(f"amp(kernel={then})").columns
    assert build is not None
    second: Columns = build(first.layout, torch.Generator(), False)
    once = columns(f"amp(kernel={case.kernel * then})", case.shapes)
    assert torch.equal(second.view(first.view(case.rows)), once.view(case.rows))
    assert first.feature_of is not None and second.feature_of is not None and once.feature_of is not None
    assert torch.equal(second.feature_of[first.feature_of], once.feature_of)
    assert second.layout == once.layout


# ---------------------------------------------------------------- laws of the restored form


@given(cases())
def test_restored_keeps_shape_and_dtype(case: Case) -> None:
    restored = case.restored()
    assert restored.shape == case.rows.shape
    assert restored.dtype == case.rows.dtype


@given(cases())
def test_restored_keeps_one_entry_a_patch_and_writes_0_elsewhere(case: Case) -> None:
    restored = case.restored()
    for patch in case.patches:
        kept = restored[:, patch] != 0
        assert (kept.sum(1) <= 1).all()
        assert torch.equal(restored[:, patch][kept], case.rows[:, patch][kept])
        # one entry and zeros: their sum is that entry, and the largest of the patch, without rounding
        assert torch.equal(restored[:, patch].sum(1), case.rows[:, patch].amax(1))


@given(cases())
def test_pooling_the_restored_is_the_pooled_cut_off_at_0_where_a_patch_has_more_than_one_entry(case: Case) -> None:
    single = torch.tensor([len(patch) == 1 for patch in case.patches])
    expected = torch.where(single, case.pooled(), case.pooled().relu())
    assert torch.equal(case.pooled(case.restored()), expected)


# ---------------------------------------------------------------- not laws


def test_restoring_twice_is_not_restoring_once() -> None:
    once = amplify(torch.tensor([[-1.0, -2.0, -3.0, -4.0]]), [(2, 2)], restore=True)
    assert once.tolist() == [[-1.0, 0.0, 0.0, 0.0]]
    assert amplify(once, [(2, 2)], restore=True).tolist() == [[0.0, 0.0, 0.0, 0.0]]


def test_raising_an_entry_may_lower_a_restored_one() -> None:
    lower, higher = torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.tensor([[1.0, 2.0, 0.0, 0.0]])
    assert (lower <= higher).all()
    assert amplify(lower, [(2, 2)], restore=True)[0, 0] == 1.0
    assert amplify(higher, [(2, 2)], restore=True)[0, 0] == 0.0


def test_restoring_may_tear_close_updates_apart() -> None:
    one, other = torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    other[0, 1] += 1e-6
    assert (one - other).norm() < 2e-6
    assert (amplify(one, [(2, 2)], restore=True) - amplify(other, [(2, 2)], restore=True)).norm() > 1.4


@pytest.mark.trap("amp")
def test_a_shift_inside_a_patch_is_not_seen_and_one_across_its_edge_is() -> None:
    at_0, at_1, at_2 = torch.eye(4)[:3, None]
    assert torch.equal(amplify(at_0, [(1, 4)]), amplify(at_1, [(1, 4)]))
    assert amplify(at_1, [(1, 4)]).tolist() == [[1.0, 0.0]]
    assert amplify(at_2, [(1, 4)]).tolist() == [[0.0, 1.0]]


@pytest.mark.trap("amp")
def test_an_update_against_its_reverse_has_pooled_cosine_0_6_and_not_minus_1() -> None:
    update = torch.randn(1, 400 * 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cosine = torch.cosine_similarity(amplify(update, [(400, 400)]), amplify(-update, [(400, 400)])).item()
    # the order statistics of four normal numbers: (1.0294^2 - 0.1047) / (1.0294^2 + 0.4917) = 0.616;
    # the mean over 40,000 patches stays within four standard errors of about 0.004
    assert cosine == pytest.approx(0.616, abs=0.015)


@pytest.mark.trap("amp")
@given(cases(), SEEDS, st.floats(0, 1e12))
def test_a_client_may_hide_anything_below_the_first_entry_of_each_patch(case: Case, seed: int, strength: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    honest, hidden = case.rows.clone(), torch.rand(case.rows.shape, generator=rng, dtype=case.rows.dtype)
    for patch in case.patches:
        honest[:, patch] = case.rows[:, patch[:1]]
        hidden[:, patch[0]] = 0
    forged = honest - strength * hidden
    assert torch.equal(case.pooled(forged), case.pooled(honest))
    assert torch.equal(case.restored(forged), case.restored(honest))


@given(cases(), st.floats(0, 1e6))
def test_lowering_what_is_not_the_first_maximum_changes_no_view_of_any_update(case: Case, strength: float) -> None:
    kept = torch.zeros_like(case.rows, dtype=torch.bool)
    for client, row in enumerate(case.rows.tolist()):
        for patch in case.patches:
            kept[client, patch[oracle.largest([row[c] for c in patch])]] = True
    lowered = torch.where(kept, case.rows, lowest_below(case.rows) - strength)
    assert torch.equal(case.pooled(lowered), case.pooled())
    assert torch.equal(case.restored(lowered), case.restored())


def test_two_updates_of_one_view_may_lie_as_far_apart_as_one_likes() -> None:
    honest, forged = torch.ones(1, 4), torch.tensor([[1.0, -1e9, -1e9, -1e9]])
    assert torch.equal(amplify(honest, [(2, 2)]), amplify(forged, [(2, 2)]))
    assert (honest - forged).norm() > 1e9


# ---------------------------------------------------------------- buffers, blocks and arrays

STAGES = [
    ("amp", False),
    ("amp", True),
    ("amp(by='magnitude')", False),
    ("amp(by='magnitude')", True),
    ("amp(fold='released')", False),
    ("amp(fold='released')", True),
    ("amp(shuffle=True)", False),
    ("amp(shuffle=True)", True),
    ("sample", False),
    ("sample", True),
    ("mean_pool", False),
]
MIXED: Shapes = [(5, 7), (7,), (3, 2, 2, 3), (3,), (5,), (1, 1)]


def with_kernel(spec: str, kernel: int) -> str:
    name, _, rest = spec.partition("(")
    return f"{name}(kernel={kernel}, {rest or ')'}".replace(", )", ")")


@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize(("spec", "restore"), STAGES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stages_write_into_the_buffer_they_are_given_and_leave_the_updates_alone(
    spec: str, restore: bool, kernel: int, dtype: torch.dtype
) -> None:
    rows = updates("normal", 0, 4, parameters(MIXED), dtype)
    before = rows.clone()
    prepared = columns(with_kernel(spec, kernel), MIXED, restore)
    fresh = prepared.view(rows)
    buffer = torch.full_like(fresh, torch.nan)
    written = prepared.view(rows, out=buffer)
    assert written is buffer
    assert torch.equal(buffer, fresh)
    assert torch.equal(rows, before)
    fresh.fill_(torch.nan)
    assert torch.equal(rows, before)


@pytest.mark.parametrize(("spec", "restore"), STAGES)
def test_stages_read_and_write_rows_that_are_not_contiguous(spec: str, restore: bool) -> None:
    prepared = columns(spec, MIXED, restore)
    wide = updates("normal", 0, 4, 3 * parameters(MIXED), torch.float32)
    for strided in (wide[:, : parameters(MIXED)], wide[:, ::3], wide[::2, : parameters(MIXED)]):
        expected = prepared.view(strided.contiguous())
        assert torch.equal(prepared.view(strided), expected)
        buffer = torch.full((len(expected), 2 * expected.shape[1]), torch.nan)
        prepared.view(strided, out=buffer[:, ::2])
        assert torch.equal(buffer[:, ::2], expected)
        assert buffer[:, 1::2].isnan().all()


@pytest.mark.parametrize("block", [1, 7, 40])
@given(case=cases())
def test_the_size_of_blocks_changes_no_value(block: int, case: Case) -> None:
    specs = [
        (f"amp(kernel={case.kernel})", oracle.patches(case.shapes, case.kernel), oracle.largest),
        (f"amp(kernel={case.kernel}, by='magnitude')", oracle.patches(case.shapes, case.kernel), oracle.strongest),
        (
            f"amp(kernel={case.kernel}, fold='released')",
            oracle.released_patches(case.shapes, case.kernel),
            oracle.largest,
        ),
    ]
    rows = case.rows.tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(amplifier, "BLOCK", block)
        for spec, patches, choose in specs:
            if not patches:
                continue
            pooled = columns(spec, case.shapes).view(case.rows)
            restored = columns(spec, case.shapes, restore=True).view(case.rows)
            assert torch.equal(pooled, as_tensor(oracle.pooled(rows, patches, choose), case.rows))
            kept = oracle.restored(rows, patches, choose)
            if "released" in spec:
                kept = oracle.released_restored(rows, case.shapes, case.kernel)
            assert torch.equal(restored, as_tensor(kept, case.rows))


LARGE: dict[str, tuple[Shapes, int]] = {
    "tall": ([(700, 400), (400,)], 5),
    "wider than a block": ([(5, 140_001)], 2),
    "one long row": ([(300_001,)], 2),
    "convolution": ([(150, 60, 4, 4)], 3),
    "many clients": ([(100, 99)], 40),
}


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("name", LARGE)
def test_layers_of_many_blocks_pool_and_restore_as_torch_does(name: str, kernel: int) -> None:
    shapes, clients = LARGE[name]
    rows = updates("normal", kernel, clients, parameters(shapes), torch.float32)
    matrix = rows
    if len(shapes[0]) == 4:
        matrix = rows.view(clients, shapes[0][0], -1).transpose(1, 2).contiguous()
    matrix = matrix.view(clients, 1, -1, shapes[0][0] if len(shapes[0]) == 4 else shapes[0][-1])
    pooled, places = functional.max_pool2d(matrix, kernel, ceil_mode=True, return_indices=True)
    assert torch.equal(amplify(rows, shapes, kernel), pooled.flatten(1))
    restored = torch.zeros_like(rows).scatter_(1, places.flatten(1), pooled.flatten(1))
    if len(shapes[0]) == 4:
        restored = restored.view(clients, -1, shapes[0][0]).transpose(1, 2).flatten(1)
    assert torch.equal(amplify(rows, shapes, kernel, restore=True), restored)


@pytest.mark.parametrize("spec", ["amp", "amp(fold='released')", "amp(shuffle=True)"])
@given(case=cases())
def test_the_largest_value_over_the_coordinates_of_a_feature_is_its_pooled_value(spec: str, case: Case) -> None:
    if "released" in spec:
        assume(oracle.released_patches(case.shapes, case.kernel))
    prepared = columns(with_kernel(spec, case.kernel), case.shapes)
    assert prepared.feature_of is not None
    kept = prepared.feature_of >= 0
    features = prepared.feature_of[kept].expand(len(case.rows), -1)
    largest = torch.full((len(case.rows), prepared.layout.parameters), -inf, dtype=case.rows.dtype)
    largest.scatter_reduce_(1, features, case.rows[:, kept], "amax")
    assert torch.equal(prepared.view(case.rows), largest)


@pytest.mark.parametrize("restore", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numpy_updates_give_numpy_views_of_their_dtype(restore: bool, dtype: type[np.floating[Any]]) -> None:
    rows = updates("normal", 0, 3, parameters(MIXED), torch.float64).numpy().astype(dtype)
    before = rows.copy()
    view = amplify(rows, MIXED, 2, restore)
    assert isinstance(view, np.ndarray)
    assert view.dtype == dtype
    assert np.array_equal(view, amplify(torch.from_numpy(rows), MIXED, 2, restore).numpy())
    buffer: NDArray[Any] = np.full_like(view, np.nan)
    assert amplify(rows, MIXED, 2, restore, out=buffer) is buffer
    assert np.array_equal(buffer, view)
    assert np.array_equal(rows, before)


@pytest.mark.parametrize("restore", [False, True])
def test_the_function_writes_into_out_and_returns_it(restore: bool) -> None:
    rows = updates("normal", 0, 3, parameters(MIXED), torch.float32)
    view = amplify(rows, MIXED, 2, restore)
    buffer = torch.full_like(view, torch.nan)
    assert amplify(rows, MIXED, 2, restore, out=buffer) is buffer
    assert torch.equal(buffer, view)


def test_numpy_updates_may_be_read_only() -> None:
    rows = np.arange(8.0).reshape(2, 4)
    rows.flags.writeable = False
    assert amplify(rows, [(2, 2)]).tolist() == [[3.0], [7.0]]


def test_numpy_updates_may_be_stored_backwards() -> None:
    assert amplify(np.arange(8.0).reshape(2, 4)[::-1], [(2, 2)]).tolist() == [[7.0], [3.0]]


# ---------------------------------------------------------------- sentences


@pytest.mark.parametrize("kernel", [0, -1])
def test_a_kernel_below_1_is_refused_with_the_fix(kernel: int) -> None:
    with pytest.raises(
        AgrbenchError, match=f"a kernel is a whole number, 1 or more; given {kernel}; write for example kernel=2"
    ):
        amplify(torch.ones(1, 4), [(2, 2)], kernel=kernel)


def test_a_kernel_that_is_no_whole_number_is_refused_with_the_fix() -> None:
    half: Any = 2.5
    with pytest.raises(AgrbenchError, match=r"kernel.*2\.5"):
        amplify(torch.ones(1, 4), [(2, 2)], kernel=half)


@pytest.mark.parametrize(
    "rows", [torch.ones(4), torch.ones(1, 2, 2), torch.ones(1, 4).int(), torch.ones(0, 4), torch.ones(1, 0)]
)
def test_updates_that_are_no_matrix_of_floats_are_refused_with_the_fix(rows: Tensor) -> None:
    sentence = f"updates is {tuple(rows.shape)} of {rows.dtype}; pass floats of shape (clients, parameters)"
    with pytest.raises(AgrbenchError, match=re.escape(sentence)):
        amplify(rows, [(2, 2)])


def test_a_layout_of_other_updates_is_refused_with_both_counts() -> None:
    with pytest.raises(AgrbenchError, match="the layout holds 5 parameters, the updates 4"):
        amplify(torch.ones(1, 4), [(2, 2), (1,)])


@pytest.mark.parametrize(
    ("restore", "out"),
    [
        (False, torch.empty(2, 4)),
        (True, torch.empty(2, 1)),
        (False, torch.empty(1, 1)),
        (False, torch.empty(2, 1, dtype=torch.float64)),
    ],
)
def test_a_buffer_of_another_shape_or_dtype_is_refused_with_the_right_one(restore: bool, out: Tensor) -> None:
    wanted = f"write one of {(2, 4 if restore else 1)} of torch.float32"
    with pytest.raises(AgrbenchError, match=re.escape(wanted)):
        amplify(torch.ones(2, 4), [(2, 2)], restore=restore, out=out)


def test_the_released_fold_refuses_a_kernel_that_leaves_no_patch() -> None:
    layouts: list[Shapes] = [[(9, 2)], [(2, 9)]]
    for shapes in layouts:
        with pytest.raises(AgrbenchError, match="kernel=3 leaves no patch"):
            columns("amp(fold='released', kernel=3)", shapes)


def test_the_released_fold_refuses_to_shuffle() -> None:
    with pytest.raises(AgrbenchError, match="leave out fold='released'"):
        columns("amp(fold='released', shuffle=True)", [(2, 2)])


# ---------------------------------------------------------------- control: sample


@pytest.mark.oracle("sample")
@given(cases(), SEEDS)
def test_sample_reads_one_entry_of_each_patch_the_same_for_all_rows_and_calls(case: Case, seed: int) -> None:
    prepared = columns(f"sample(kernel={case.kernel})", case.shapes, seed=seed)
    coordinates = torch.arange(case.rows.shape[1], dtype=torch.float64)[None]
    chosen = prepared.view(coordinates)[0].long().tolist()
    assert len(chosen) == len(case.patches)
    assert all(coordinate in patch for coordinate, patch in zip(chosen, case.patches, strict=True))
    assert torch.equal(prepared.view(case.rows), case.rows[:, chosen])
    assert torch.equal(prepared.view(case.rows.flip(0)), case.rows.flip(0)[:, chosen])
    again = columns(f"sample(kernel={case.kernel})", case.shapes, seed=seed)
    assert torch.equal(again.view(case.rows), prepared.view(case.rows))


@given(cases(), SEEDS)
def test_sample_restored_keeps_the_entries_it_reads_and_writes_0_elsewhere(case: Case, seed: int) -> None:
    pooled = columns(f"sample(kernel={case.kernel})", case.shapes, seed=seed)
    restored = columns(f"sample(kernel={case.kernel})", case.shapes, restore=True, seed=seed)
    chosen = pooled.view(torch.arange(case.rows.shape[1], dtype=torch.float64)[None])[0].long()
    expected = torch.zeros_like(case.rows)
    expected[:, chosen] = case.rows[:, chosen]
    assert torch.equal(restored.view(case.rows), expected)
    assert restored.feature_of is None


@given(cases(), SEEDS)
def test_sample_maps_every_coordinate_of_a_patch_to_its_feature(case: Case, seed: int) -> None:
    prepared = columns(f"sample(kernel={case.kernel})", case.shapes, seed=seed)
    assert prepared.feature_of is not None
    assert prepared.feature_of.tolist() == oracle.feature_of(case.patches, case.rows.shape[1])
    assert prepared.layout.parameters == len(case.patches)


def test_sample_draws_every_entry_of_a_patch_about_equally_often() -> None:
    coordinates = torch.arange(4.0)[None]
    drawn = [int(columns("sample", [(2, 2)], seed=seed).view(coordinates).item()) for seed in range(400)]
    # 400 fixed seeds, 100 draws expected of each entry; 40 is more than four standard deviations of 8.7
    assert all(abs(drawn.count(entry) - 100) <= 40 for entry in range(4))


@pytest.mark.trap("sample")
def test_sample_draws_the_patches_apart_from_each_other() -> None:
    coordinates = torch.arange(1600.0)[None]
    chosen = columns("sample", [(40, 40)]).view(coordinates)[0].long()
    places = (chosen // 40 % 2) * 2 + chosen % 2
    # 400 patches, 100 expected at each place; 40 is more than four standard deviations of 8.7
    assert all(abs(count - 100) <= 40 for count in places.bincount(minlength=4).tolist())


@pytest.mark.trap("sample")
@given(cases(), SEEDS)
def test_sample_sees_an_update_and_its_reverse_as_opposites(case: Case, seed: int) -> None:
    prepared = columns(f"sample(kernel={case.kernel})", case.shapes, seed=seed)
    assert torch.equal(prepared.view(-case.rows), -prepared.view(case.rows))


# ---------------------------------------------------------------- control: mean_pool


def mean_tolerance(case: Case) -> Tensor:
    """Bound the rounding of each patch's mean: at most 81 additions, each off by half a unit of the largest entry."""
    unit = torch.finfo(case.rows.dtype).eps
    return 81 * unit * columns(f"amp(kernel={case.kernel})", case.shapes).view(case.rows.abs()).double()


@pytest.mark.oracle("mean_pool")
@given(cases())
def test_mean_pool_is_the_mean_of_each_patch(case: Case) -> None:
    prepared = columns(f"mean_pool(kernel={case.kernel})", case.shapes)
    expected = torch.tensor(oracle.averaged(case.rows.tolist(), case.patches), dtype=torch.float64)
    # the bound for rounding explained at `mean_tolerance`
    assert ((prepared.view(case.rows).double() - expected).abs() <= mean_tolerance(case)).all()
    assert prepared.feature_of is not None
    assert prepared.feature_of.tolist() == oracle.feature_of(case.patches, case.rows.shape[1])
    assert prepared.layout.parameters == len(case.patches)


@given(cases(), SEEDS, st.floats(-4, 4), st.floats(-4, 4))
def test_mean_pool_is_linear(case: Case, seed: int, a: float, b: float) -> None:
    view = columns(f"mean_pool(kernel={case.kernel})", case.shapes).view
    one = case.rows.double()
    other = another(case, "normal", seed).double()
    size = columns(f"amp(kernel={case.kernel})", case.shapes).view((a * one).abs() + (b * other).abs())
    # three means, each of at most 81 entries and so off by at most 81 roundings of the largest term, and the products;
    # 1e-300 stands for products so small that they lose digits to underflow
    assert ((view(a * one + b * other) - a * view(one) - b * view(other)).abs() <= 250 * 2.3e-16 * size + 1e-300).all()


@given(cases())
def test_mean_pool_of_an_update_and_its_reverse_are_opposites(case: Case) -> None:
    view = columns(f"mean_pool(kernel={case.kernel})", case.shapes).view
    assert torch.equal(view(-case.rows), -view(case.rows))


@pytest.mark.trap("mean_pool")
def test_mean_pool_divides_ragged_patches_by_what_they_hold() -> None:
    view = columns("mean_pool", [(3, 3)]).view(torch.arange(9.0)[None])
    assert view.tolist() == [[2.0, 3.5, 6.5, 8.0]]


@given(cases())
def test_mean_pool_with_kernel_one_is_the_fold_alone(case: Case) -> None:
    fold = [c for matrix in oracle.folded(case.shapes) for row in matrix for c in row]
    assert torch.equal(columns("mean_pool(kernel=1)", case.shapes).view(case.rows), case.rows[:, fold])


def test_mean_pool_has_no_restored_form_and_says_so() -> None:
    assert "restored" in stage("mean_pool").waives
    needy = [Registry().stack(f"mean_pool+{rule}") for rule in ("fang", "fang_lrr", "fang_err")]
    assert all(stack.defense.record.amplifier == "restored" for stack in needy)
    for stack in needy:
        with pytest.raises(Inapplicable, match=r"mean_pool lacks: .+"):
            stack.check(10, 2)


# ---------------------------------------------------------------- control: shuffle


@given(cases(), SEEDS)
def test_shuffle_permutes_each_layer_within_itself(case: Case, seed: int) -> None:
    coordinates = torch.arange(case.rows.shape[1], dtype=torch.float64)[None]
    order = columns("amp(kernel=1, shuffle=True)", case.shapes, seed=seed).view(coordinates)[0].long()
    layers = [sorted(c for row in matrix for c in row) for matrix in oracle.folded(case.shapes)]
    start = 0
    for layer in layers:
        assert sorted(order[start : start + len(layer)].tolist()) == layer
        start += len(layer)


@given(cases(), SEEDS)
def test_shuffle_cuts_as_many_patches_of_the_same_sizes_within_layers(case: Case, seed: int) -> None:
    prepared = columns(f"amp(kernel={case.kernel}, shuffle=True)", case.shapes, seed=seed)
    feature_of = prepared.feature_of
    assert feature_of is not None
    assert feature_of.bincount().tolist() == [len(patch) for patch in case.patches]
    layer_of = Layout.of_shapes(case.shapes).layer_of
    for feature in range(prepared.layout.parameters):
        assert len(set(layer_of[feature_of == feature].tolist())) == 1


@given(cases(), SEEDS)
def test_shuffle_restored_keeps_one_largest_entry_of_each_shuffled_patch(case: Case, seed: int) -> None:
    pooled = columns(f"amp(kernel={case.kernel}, shuffle=True)", case.shapes, seed=seed)
    restored = columns(f"amp(kernel={case.kernel}, shuffle=True)", case.shapes, restore=True, seed=seed)
    assert pooled.feature_of is not None
    kept, view = restored.view(case.rows), pooled.view(case.rows)
    assert ((kept == case.rows) | (kept == 0)).all()
    # each patch holds one entry and zeros, so that adding it up rounds nothing
    assert torch.equal(torch.zeros_like(view).index_add_(1, pooled.feature_of, kept), view)
    counts = torch.zeros_like(view).index_add_(1, pooled.feature_of, (kept != 0).to(view.dtype))
    assert (counts <= 1).all()


def test_shuffle_is_fixed_in_a_run_and_differs_between_runs() -> None:
    rows = updates("normal", 0, 2, 400, torch.float32)
    first, again, other = (columns("amp(shuffle=True)", [(20, 20)], seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.view(rows), again.view(rows))
    assert torch.equal(first.view(rows), first.view(rows))
    assert not torch.equal(first.view(rows), other.view(rows))
    assert not torch.equal(first.view(rows), columns("amp", [(20, 20)]).view(rows))


# ---------------------------------------------------------------- control: magnitude


@given(cases())
def test_magnitude_has_the_largest_absolute_value_of_each_patch(case: Case) -> None:
    view = columns(f"amp(kernel={case.kernel}, by='magnitude')", case.shapes).view(case.rows)
    assert torch.equal(view.abs(), case.pooled(case.rows.abs()))


@given(cases())
def test_magnitude_sees_an_update_and_its_reverse_as_opposites(case: Case) -> None:
    for restore in (False, True):
        view = columns(f"amp(kernel={case.kernel}, by='magnitude')", case.shapes, restore).view
        assert torch.equal(view(-case.rows), -view(case.rows))


def test_magnitude_keeps_the_sign_and_the_first_of_opposites() -> None:
    view = columns("amp(by='magnitude')", [(2, 2)]).view
    assert view(torch.tensor([[1.0, -3.0, 2.0, 3.0], [1.0, 3.0, -3.0, 2.0]])).tolist() == [[-3.0], [3.0]]


# ---------------------------------------------------------------- half precision and patches


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@given(case=cases())
def test_half_precision_pools_and_restores_alike(dtype: torch.dtype, case: Case) -> None:
    rows = case.rows.clamp(-1e4, 1e4).to(dtype)
    assert torch.equal(case.pooled(rows), as_tensor(oracle.pooled(rows.tolist(), case.patches), rows))
    assert torch.equal(case.restored(rows), as_tensor(oracle.restored(rows.tolist(), case.patches), rows))


@given(cases())
def test_patches_know_the_patch_of_each_coordinate(case: Case) -> None:
    patches = Patches.of(Layout.of_shapes(case.shapes), case.kernel)
    assert patches.patch_of.tolist() == oracle.feature_of(case.patches, case.rows.shape[1])
    assert [(layer.rows, layer.columns) for layer in patches.shapes.layers] == [
        (ceil(len(matrix) / case.kernel), ceil(len(matrix[0]) / case.kernel)) for matrix in oracle.folded(case.shapes)
    ]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(8, 6), (7, 6), (8, 5), (1, 2), (900, 700)])
def test_patches_have_the_same_maxima_however_many_threads_share_an_operation(
    shape: tuple[int, int], dtype: torch.dtype, threads: int
) -> None:
    rows = torch.randn(3, shape[0] * shape[1], generator=torch.Generator().manual_seed(1)).to(dtype)
    expected = torch.nn.functional.max_pool2d(rows.view(3, 1, *shape), 2, ceil_mode=True)
    with using(threads):
        assert torch.equal(agrbench.amplify(rows, [shape]), expected.flatten(1))
