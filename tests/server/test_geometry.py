"""Distances and cosines against differences in float64: near rows, far rows, huge rows, mixed rows."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from agrbench.server import geometry
from agrbench.server.geometry import Geometry

SEEDS = st.integers(0, 2**32 - 1)
ROWS = st.integers(1, 12)
FEATURES = st.sampled_from([1, 2, 3, 10, 100, 300])
DTYPES = st.sampled_from([torch.float32, torch.float64])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int, rows: int, features: int) -> Tensor:
    return torch.randn(rows, features, generator=generator(seed), dtype=torch.float64)


def of(rows: Tensor) -> Geometry:
    return Geometry(lambda: rows)


def true_distances(rows: Tensor) -> Tensor:
    """Measure each pair by its difference, in float64: distances, not squared."""
    exact = rows.double()
    return torch.stack([torch.linalg.vector_norm(exact - row, dim=1) for row in exact])


def true_cosines(rows: Tensor) -> Tensor:
    """Divide each row by its norm and multiply, in float64; a zero row has cosine 0 with others and 1 with itself."""
    exact = rows.double()
    norms = torch.linalg.vector_norm(exact, dim=1, keepdim=True)
    units = torch.where(norms > 0, exact / norms, 0)
    return torch.stack([(units * unit).sum(1) for unit in units]).fill_diagonal_(1)


def check_distances(measured: Geometry, truth: Tensor) -> None:
    assert measured.distances.dtype == torch.float64
    assert measured.distances.shape == truth.shape
    distances = measured.distances.sqrt()
    # four digits is what is promised of every entry; where the truth is 0, so is the answer
    assert torch.allclose(distances, truth, rtol=1e-4, atol=0), (distances - truth).abs().div(truth).nan_to_num().max()


def check_cosines(measured: Geometry, truth: Tensor) -> None:
    assert measured.cosines.dtype == torch.float64
    # a product of float32 rows of at most 300 entries is off by far less than 1e-5 of the product of the norms
    assert torch.allclose(measured.cosines, truth, rtol=0, atol=1e-5)


# ---------------------------------------------------------------- kinds of rows


def plain(seed: int, rows: int, features: int) -> Tensor:
    return normal(seed, rows, features)


def with_duplicates(seed: int, rows: int, features: int) -> Tensor:
    picks = torch.randint(0, max(rows // 2, 1), (rows,), generator=generator(seed))
    return normal(seed, rows, features)[picks]


def with_near_duplicates(seed: int, rows: int, features: int) -> Tensor:
    return with_duplicates(seed, rows, features) * (1 + 1e-6 * normal(seed + 1, rows, features))


def with_zero_rows(seed: int, rows: int, features: int) -> Tensor:
    return normal(seed, rows, features) * (torch.rand(rows, 1, generator=generator(seed)) < 0.6)


def of_many_lengths(seed: int, rows: int, features: int) -> Tensor:
    return normal(seed, rows, features) * 10 ** (6 * torch.rand(rows, 1, generator=generator(seed)) - 3)


def opposite(seed: int, rows: int, features: int) -> Tensor:
    return normal(seed, 1, features) * torch.randint(0, 2, (rows, 1), generator=generator(seed)).mul(2).sub(1)


def nested(seed: int, rows: int, features: int) -> Tensor:
    """Put clusters into clusters: centres 1, 1e-2, 1e-4 and 1e-6 apart, two branches at each level."""
    bits = torch.randint(0, 2, (4, rows), generator=generator(seed))
    total, branch = torch.zeros(rows, features, dtype=torch.float64), torch.zeros(rows, dtype=torch.int64)
    for level in range(4):
        branch = 2 * branch + bits[level]
        total += 100.0**-level * normal(seed + level, 16, features)[branch]
    return total


KINDS: dict[str, Callable[[int, int, int], Tensor]] = {
    kind.__name__: kind
    for kind in (plain, with_duplicates, with_near_duplicates, with_zero_rows, of_many_lengths, opposite, nested)
}


@st.composite
def matrices(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(KINDS), scales: int = 12) -> Tensor:
    """Draw rows of one kind at one scale between 1e-12 and 1e12."""
    kind = KINDS[draw(st.sampled_from(kinds))]
    scale = 10.0 ** draw(st.integers(-scales, scales))
    return (scale * kind(draw(SEEDS), draw(ROWS), draw(FEATURES))).to(draw(DTYPES))


# ---------------------------------------------------------------- distances and cosines


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_distances_are_right_to_four_digits_at_every_scale(kind: str, data: st.DataObject) -> None:
    rows = data.draw(matrices((kind,)))
    check_distances(of(rows), true_distances(rows))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_cosines_are_right_to_five_digits_at_every_scale(kind: str, data: st.DataObject) -> None:
    rows = data.draw(matrices((kind,)))
    check_cosines(of(rows), true_cosines(rows))


@given(matrices())
def test_a_row_is_at_distance_0_and_cosine_1_from_itself(rows: Tensor) -> None:
    assert (of(rows).distances.diagonal() == 0).all()
    assert (of(rows).cosines.diagonal() == 1).all()


@given(matrices())
def test_distances_are_never_negative_and_cosines_never_beyond_1(rows: Tensor) -> None:
    measured = of(rows)
    assert measured.distances.isfinite().all() and measured.cosines.isfinite().all()
    assert (measured.distances >= 0).all()
    assert (measured.cosines.abs() <= 1).all()


@given(matrices(("with_duplicates", "nested", "with_zero_rows")))
def test_equal_rows_are_at_distance_exactly_0_and_only_they(rows: Tensor) -> None:
    equal = (rows[:, None] == rows).all(2)
    assert torch.equal(of(rows).distances == 0, equal)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rows_among_many_others_are_at_distance_exactly_0(dtype: torch.dtype) -> None:
    rows = normal(0, 50, 20_000).to(dtype)
    rows[7] = rows[31] = rows[2]
    rows[8] = rows[2] * (1 + 1e-6)
    distances = of(rows).distances
    assert distances[7, 31] == distances[31, 2] == distances[2, 7] == 0
    assert distances[8, 2] > 0
    check_distances(of(rows), true_distances(rows))


@given(matrices(("with_zero_rows",)))
def test_a_zero_row_has_cosine_0_with_all_others_and_1_with_itself(rows: Tensor) -> None:
    zero = (rows == 0).all(1)
    expected = torch.eye(len(rows), dtype=torch.float64)[zero]
    assert torch.equal(of(rows).cosines[zero], expected)
    assert torch.equal(of(rows).cosines[:, zero], expected.T)


@pytest.mark.parametrize("features", [3, 300, 5_000, 60_000])
@pytest.mark.parametrize("apart", [0.02, 0.033, 0.04, 0.06, 0.1, 0.3])
def test_rows_a_few_hundredths_apart_are_measured_to_four_digits(features: int, apart: float) -> None:
    rows = (normal(0, 1, features) + apart * normal(1, 10, features)).float()
    check_distances(of(rows), true_distances(rows))


@given(SEEDS, ROWS, FEATURES, DTYPES, st.integers(2, 6))
def test_an_offset_that_all_rows_share_hides_no_distance(
    seed: int, rows: int, features: int, dtype: torch.dtype, exponent: int
) -> None:
    shifted = (10.0**exponent * normal(seed, 1, features) + normal(seed + 1, rows, features)).to(dtype)
    check_distances(of(shifted), true_distances(shifted))
    check_cosines(of(shifted), true_cosines(shifted))


@pytest.mark.parametrize("features", [1, 2, 100])
def test_rows_that_close_in_on_a_point_by_powers_of_ten_are_all_told_apart(features: int) -> None:
    closer = 10.0 ** -torch.arange(1, 15, dtype=torch.float64)[:, None]
    rows = normal(0, 1, features) + closer * normal(1, 1, features).abs()
    rows = torch.cat([rows, rows[3:5], -rows])
    check_distances(of(rows), true_distances(rows))


# ---------------------------------------------------------------- one huge row

CALM = ("plain", "with_duplicates", "with_near_duplicates", "of_many_lengths", "nested")


@given(st.data(), st.sampled_from(CALM), st.integers(3, 12), FEATURES, DTYPES, SEEDS, st.floats(2, 15))
def test_one_huge_row_changes_no_other_distance(
    data: st.DataObject, kind: str, rows: int, features: int, dtype: torch.dtype, seed: int, exponent: float
) -> None:
    calm = KINDS[kind](seed, rows, features).to(dtype)
    at = data.draw(st.integers(0, rows - 1), label="huge row")
    others = [row for row in range(rows) if row != at]
    huge = calm.clone()
    huge[at] *= 10.0**exponent
    before = of(calm).distances[others][:, others].sqrt()
    after = of(huge).distances[others][:, others].sqrt()
    # two answers, each right to four digits
    assert torch.allclose(after, before, rtol=2e-4, atol=0)
    check_distances(of(huge), true_distances(huge))


@given(SEEDS, st.integers(3, 12), FEATURES, DTYPES, st.floats(2, 15))
def test_one_huge_row_changes_no_distance_between_rows_that_share_an_offset(
    seed: int, rows: int, features: int, dtype: torch.dtype, exponent: float
) -> None:
    shifted = (1e3 * normal(seed, 1, features) + normal(seed + 1, rows, features)).to(dtype)
    shifted[0] *= 10.0**exponent
    check_distances(of(shifted), true_distances(shifted))


@given(SEEDS, st.integers(4, 12), FEATURES, DTYPES, st.floats(2, 12), st.floats(2, 12))
def test_several_huge_rows_hide_neither_each_other_nor_the_rest(
    seed: int, rows: int, features: int, dtype: torch.dtype, one: float, other: float
) -> None:
    huge = normal(seed, rows, features).to(dtype)
    huge[0] *= 10.0**one
    huge[1] = huge[0] * (1 + 1e-5)
    huge[2] *= 10.0**other
    check_distances(of(huge), true_distances(huge))
    check_cosines(of(huge), true_cosines(huge))


# ---------------------------------------------------------------- blocks


@pytest.mark.parametrize("block", [1, 1_000])
@given(SEEDS, st.sampled_from(sorted(KINDS)), DTYPES)
def test_the_size_of_blocks_changes_no_digit_that_is_promised(
    block: int, seed: int, kind: str, dtype: torch.dtype
) -> None:
    rows = KINDS[kind](seed, 6, 333).to(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "BLOCK", block)
        check_distances(of(rows), true_distances(rows))
        check_cosines(of(rows), true_cosines(rows))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_longer_than_a_block_are_measured_whole(dtype: torch.dtype) -> None:
    rows = normal(0, 40, 10_007).to(dtype)
    assert rows.shape[1] > 3 * (geometry.BLOCK // len(rows))
    check_distances(of(rows), true_distances(rows))
    # a float32 product of a block of 3,276 entries is off by far less than 1e-5 of the product of the norms
    assert torch.allclose(of(rows).cosines, true_cosines(rows), rtol=0, atol=1e-5)


@given(matrices())
def test_measuring_leaves_the_rows_alone(rows: Tensor) -> None:
    before = rows.clone()
    measured = of(rows)
    kept = measured.gram.clone()
    assert measured.distances is measured.distances
    assert measured.cosines is measured.cosines
    mixed = measured.mixed(torch.eye(len(rows)), lambda: rows)
    assert mixed.distances.shape == mixed.cosines.shape
    assert torch.equal(rows, before)
    assert torch.equal(measured.gram, kept)


# ---------------------------------------------------------------- mixed rows


def mixed(rows: Tensor, mixing: Tensor) -> tuple[Geometry, Tensor]:
    """Give the geometry of mixed rows by way of the unmixed ones, and the mixed rows themselves."""
    explicit = mixing.double() @ rows.double()
    return of(rows).mixed(mixing, lambda: explicit), explicit


def stochastic(seed: int, new: int, rows: int) -> Tensor:
    shares = torch.rand(new, rows, generator=generator(seed), dtype=torch.float64)
    return shares / shares.sum(1, keepdim=True)


@given(matrices(("plain",)), SEEDS, st.integers(1, 8))
def test_rows_mixed_by_shares_have_the_geometry_of_the_mixed_rows(rows: Tensor, seed: int, new: int) -> None:
    mixing = stochastic(seed, new, len(rows))
    measured, explicit = mixed(rows, mixing)
    check_distances_of_mixed(measured, rows, explicit)
    # five digits of what goes into the products; where mixing cancels lengths, that many fewer remain of the cosine
    lost = mixing @ torch.linalg.vector_norm(rows.double(), dim=1) / torch.linalg.vector_norm(explicit, dim=1)
    assert ((measured.cosines - true_cosines(explicit)).abs() <= 1e-5 * lost[:, None] * lost).all()


@given(matrices(("plain",)), SEEDS, st.integers(1, 8))
def test_rows_mixed_by_any_numbers_have_the_geometry_of_the_mixed_rows(rows: Tensor, seed: int, new: int) -> None:
    measured, explicit = mixed(rows, normal(seed, new, len(rows)))
    check_distances_of_mixed(measured, rows, explicit)


def check_distances_of_mixed(measured: Geometry, rows: Tensor, explicit: Tensor) -> None:
    truth = true_distances(explicit)
    longest = torch.linalg.vector_norm(rows.double(), dim=1).max()
    # four digits; and, as mixed rows may nearly cancel, squares off by 100 roundings of float32 rows' largest square
    slack = 100 * torch.finfo(rows.dtype).eps * longest**2
    assert torch.allclose(measured.distances, truth.square(), rtol=2e-4, atol=slack.item())


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS, features=FEATURES, dtype=DTYPES, f=st.integers(1, 5))
def test_means_of_nearest_rows_are_measured_to_four_digits(
    kind: str, seed: int, features: int, dtype: torch.dtype, f: int
) -> None:
    rows = KINDS[kind](seed, 12, features).to(dtype)
    nearest = true_distances(rows).argsort(dim=1, stable=True)[:, : 12 - f]
    mixing = torch.zeros(12, 12, dtype=torch.float64).scatter_(1, nearest, 1 / (12 - f))
    measured, _ = mixed(rows, mixing)
    check_distances(measured, true_of_mixed(rows, mixing))


def true_of_mixed(rows: Tensor, mixing: Tensor) -> Tensor:
    """Measure each pair of mixed rows by the difference of their shares, so that nothing they have in common counts."""
    apart = mixing.double()[:, None] - mixing.double()
    # the shares add up to the same, so that the rows may be taken around any one of them
    lengths: Tensor = torch.linalg.vector_norm(apart @ (rows.double() - rows[0].double()), dim=2)
    return lengths


@given(matrices(("plain", "of_many_lengths")), st.floats(0.1, 2))
def test_clipped_rows_have_the_geometry_of_the_clipped_rows(rows: Tensor, share: float) -> None:
    norms = torch.linalg.vector_norm(rows.double(), dim=1)
    clip = torch.diag((share * norms.median() / norms).clamp(max=1))
    measured, explicit = mixed(rows, clip)
    check_distances(measured, true_distances(explicit))
    check_cosines(measured, true_cosines(explicit))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("times", [1e2, 1e4, 1e6, 1e8, 1e15])
def test_a_huge_row_clipped_to_the_length_of_the_others_is_measured_to_four_digits(
    times: float, dtype: torch.dtype
) -> None:
    rows = normal(0, 8, 40).to(dtype)
    rows[0] *= times
    norms = torch.linalg.vector_norm(rows.double(), dim=1)
    measured, explicit = mixed(rows, torch.diag((norms.median() / norms).clamp(max=1)))
    check_distances(measured, true_distances(explicit))
    check_cosines(measured, true_cosines(explicit))


@pytest.mark.parametrize("offset", [1e2, 1e3, 1e4])
def test_rows_that_share_an_offset_and_are_clipped_are_measured_to_four_digits(offset: float) -> None:
    rows = (offset + normal(0, 20, 300)).float()
    norms = torch.linalg.vector_norm(rows.double(), dim=1)
    measured, explicit = mixed(rows, torch.diag(norms.median() / norms))
    check_distances(measured, true_distances(explicit))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("times", [1e2, 1e4, 1e6, 1e8, 1e15])
def test_a_huge_row_that_all_mixed_rows_share_alike_changes_no_distance_of_the_others(
    times: float, dtype: torch.dtype
) -> None:
    rows = normal(0, 8, 40).to(dtype)
    rows[0] *= times
    mixing = 0.5 * torch.eye(8, dtype=torch.float64) + 0.5 / 8
    measured, _ = mixed(rows, mixing)
    # each row keeps half of itself and takes the same mean: the others lie half as far apart as before
    truth = true_distances(rows)[1:, 1:] / 2
    # four digits, as everywhere
    assert torch.allclose(measured.distances[1:, 1:].sqrt(), truth, rtol=1e-4, atol=0)


@given(matrices(), SEEDS, st.integers(2, 8), st.booleans())
def test_rows_mixed_by_the_same_numbers_are_at_distance_exactly_0(
    rows: Tensor, seed: int, new: int, shares: bool
) -> None:
    mixing = stochastic(seed, new, len(rows)) if shares else normal(seed, new, len(rows))
    twice = torch.cat([mixing, mixing.flip(0)])
    measured, _ = mixed(rows, twice)
    for row in range(new):
        assert measured.distances[row, 2 * new - 1 - row] == 0
        assert measured.distances[2 * new - 1 - row, row] == 0
    assert (measured.distances.diagonal() == 0).all()
    assert (measured.distances >= 0).all()


def check_same(measured: Tensor, expected: Tensor) -> None:
    # a few roundings in float64; both triangles are averaged, since float32 products of i, j and j, i may differ
    assert torch.allclose((measured + measured.T) / 2, (expected + expected.T) / 2, rtol=1e-14, atol=0)


@given(matrices())
def test_mixing_each_row_with_itself_alone_changes_nothing(rows: Tensor) -> None:
    measured, _ = mixed(rows, torch.eye(len(rows)))
    check_same(measured.distances, of(rows).distances)
    check_same(measured.gram, of(rows).gram)


@given(matrices(), SEEDS)
def test_reordering_rows_reorders_distances_and_cosines(rows: Tensor, seed: int) -> None:
    order = torch.randperm(len(rows), generator=generator(seed))
    measured, _ = mixed(rows, torch.eye(len(rows))[order])
    check_same(measured.distances, of(rows).distances[order][:, order])
    check_same(measured.cosines, of(rows).cosines[order][:, order])


@given(matrices(("plain",)), SEEDS, st.integers(1, 6), st.integers(1, 6))
def test_mixing_twice_is_mixing_once_with_the_product(rows: Tensor, seed: int, then: int, new: int) -> None:
    first, second = stochastic(seed, new, len(rows)), stochastic(seed + 1, then, new)
    once, _ = mixed(rows, second @ first)
    twice = of(rows).mixed(first, lambda: first @ rows.double()).mixed(second, lambda: second @ first @ rows.double())
    scale = of(rows).gram.diagonal().max().item()
    # both go through sums of at most 12 x 12 products in float64, of numbers no larger than the rows' squares
    assert torch.allclose(twice.distances, once.distances, rtol=0, atol=1e-12 * scale)
    assert torch.allclose(twice.gram, once.gram, rtol=0, atol=1e-12 * scale)


def test_a_right_angle_has_its_textbook_numbers() -> None:
    measured = of(torch.tensor([[3.0, 0.0], [0.0, 4.0], [-3.0, 0.0]]))
    assert measured.gram.tolist() == [[9.0, 0.0, -9.0], [0.0, 16.0, 0.0], [-9.0, 0.0, 9.0]]
    assert measured.distances.tolist() == [[0.0, 25.0, 36.0], [25.0, 0.0, 25.0], [36.0, 25.0, 0.0]]
    assert measured.cosines.tolist() == [[1.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0]]
    half = measured.mixed(torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]), lambda: torch.empty(0))
    assert half.distances[0, 1].item() == pytest.approx(4.5**2 + 2**2, rel=1e-14)  # exact but for a few roundings
    assert half.cosines[0, 1].item() == pytest.approx(-1.5 / math.hypot(1.5, 2), rel=1e-14)  # likewise


# ---------------------------------------------------------------- near rows


@pytest.mark.parametrize("apart", [1e-3, 1e-9, 1e-30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_that_differ_in_their_smallest_entries_alone_are_measured_to_four_digits(
    apart: float, dtype: torch.dtype
) -> None:
    rows = torch.ones(5, 400, dtype=dtype)
    rows[:, 7:9] = apart * torch.tensor([[1.0, 1], [2, 1], [2, 1], [-1, 3], [1, 5]], dtype=dtype)
    exact = rows.double()[:, 7:9] / apart
    truth = (exact[:, None] - exact).square().sum(2)
    measured = Geometry(lambda: rows).distances / apart**2
    assert torch.allclose(measured, truth, rtol=2e-4, atol=0)  # squared: twice the error of a distance
    assert measured[1, 2] == 0


def test_a_group_of_near_rows_among_others_is_measured_by_its_own_differences() -> None:
    rng = torch.Generator().manual_seed(1)
    rows = torch.randn(12, 3000, generator=rng)
    near = torch.tensor([1, 4, 5, 10])
    rows[near] = rows[3] + 1e-5 * torch.randn(4, 3000, generator=rng)
    exact = rows.double()
    truth = (exact[:, None] - exact).square().sum(2)
    assert torch.allclose(Geometry(lambda: rows).distances, truth, rtol=2e-4, atol=0)


def test_short_numbers_are_multiplied_as_longer_ones() -> None:
    rows = torch.randn(6, 5000, generator=torch.Generator().manual_seed(2)).bfloat16()
    wide = rows.double()
    gram = Geometry(lambda: rows).gram
    assert torch.allclose(gram, wide @ wide.T, rtol=0, atol=1e-5 * 5000)
