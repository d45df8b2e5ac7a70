"""The kernels of a round against slow loops: ranks, blocks, near rows, rows not made, threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import agrbench
from agrbench.clients import perturbations
from agrbench.clients.insider import Insider, unpooled
from agrbench.errors import AgrbenchError
from agrbench.layout import Layout
from agrbench.server import amplifier, combine, geometry, view
from agrbench.server.amplifier import Patches, magnitude, maximum
from agrbench.server.combine import FeatureMap, by_client, by_column, by_rank, ranked
from agrbench.server.geometry import Geometry
from agrbench.server.ranks import Ranks, between, nearest_to_median
from agrbench.server.rounds import Server
from agrbench.server.view import View
from agrbench.threads import each, finish, using

DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])
CPU = torch.device("cpu")
LAYERS = [(7, 5), (5,), (4, 3, 2, 2), (4,), (9,)]
WIDTH = 35 + 5 + 48 + 4 + 9

# ---------------------------------------------------------------- ranks


@st.composite
def blocks(draw: st.DrawFn) -> Tensor:
    """Draw columns of few values, so that many tie, the largest and smallest numbers among them."""
    dtype = draw(DTYPES)
    limits = torch.finfo(dtype)
    value = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, limits.max / 64, -limits.max / 64, limits.tiny])
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 5))
    listed = st.lists(st.lists(value, min_size=columns, max_size=columns), min_size=rows, max_size=rows)
    return torch.tensor(draw(listed), dtype=torch.float64).to(dtype)


def held(column: list[float], low: int, high: int) -> list[bool]:
    """Rank a column's values, equal ones in the order of their rows."""
    ranked = sorted(range(len(column)), key=lambda row: (column[row], row))
    return [row in ranked[low:high] for row in range(len(column))]


@given(blocks(), st.data())
def test_ranks_are_held_as_a_stable_sort_says(block: Tensor, data: st.DataObject) -> None:
    low = data.draw(st.integers(0, len(block) - 1))
    high = data.draw(st.integers(low + 1, len(block)))
    truth = torch.tensor([held(column, low, high) for column in block.T.tolist()]).T
    assert torch.equal(between(block, low, high), truth)


@given(blocks(), st.data())
def test_the_mean_of_ranks_is_what_their_shares_add_up_to(block: Tensor, data: st.DataObject) -> None:
    low = data.draw(st.integers(0, len(block) - 1))
    high = data.draw(st.integers(low + 1, len(block)))
    ranks = Ranks(block, low, high)
    assert torch.equal(ranks.mean(), (ranks.shares * block).sum(0))


@given(blocks(), st.data())
def test_the_values_nearest_to_the_median_are_those_of_a_stable_sort(block: Tensor, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(block)))
    ranked = block.sort(dim=0).values
    away = (block - (ranked[(len(block) - 1) // 2] + ranked[len(block) // 2]) / 2).abs()
    truth = torch.tensor([held(column, 0, count) for column in away.T.tolist()]).T
    assert torch.equal(nearest_to_median(block, count), truth)


@pytest.mark.parametrize(("low", "high"), [(2, 3), (2, 4), (1, 5), (0, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ranks_averaged_at_once_are_ranks_weighed_column_by_column(
    low: int, high: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combine, "BLOCK", 6 * 64)
    updates = torch.randn(6, 1000, generator=torch.Generator().manual_seed(low), dtype=dtype)
    slow = by_column(lambda a, b: between(updates[:, a:b], low, high), 1000, None, None, updates)
    step, weights = (how(lambda block: Ranks(block, low, high), updates) for how in (by_rank, ranked))
    assert torch.equal(step, slow[0])
    assert torch.allclose(weights, slow[1], rtol=1e-5, atol=0)  # sums of 1,000 shares in float32


@pytest.mark.parametrize(("low", "high"), [(2, 4), (-1, 2), (2, 2)])
def test_ranks_that_no_row_has_are_refused(low: int, high: int) -> None:
    with pytest.raises(ValueError, match=f"ranks {low} to {high - 1} of 3 rows; write 0 <= low < high <= 3"):
        between(torch.zeros(3, 1), low, high)


def test_a_row_of_weight_0_is_not_read() -> None:
    updates = torch.ones(4, 300)
    updates[2] = torch.nan
    step, _ = by_client(torch.tensor([0.5, 0.25, 0.0, 0.25]), None, updates)
    assert torch.equal(step, torch.ones(300))


def test_nobody_weighs_nothing() -> None:
    step, weights = by_client(torch.zeros(3, dtype=torch.bool), None, torch.ones(3, 5))
    assert not step.any()
    assert not weights.any()


def maps(kind: str, coordinates: int, features: int, rng: torch.Generator) -> Tensor:
    """Make a map from coordinates to features: in order, in stripes, at random, or with some coordinates dropped."""
    in_order = torch.arange(coordinates) * features // coordinates
    if kind == "in order":
        return in_order
    if kind == "stripes":
        return torch.arange(coordinates) // 20 * 10 + torch.arange(coordinates) % 10
    shuffled = in_order[torch.randperm(coordinates, generator=rng)]
    return torch.where(torch.arange(coordinates) % 7 == 3, -1, in_order if kind == "dropped" else shuffled)


@pytest.mark.parametrize("kind", ["in order", "stripes", "at random", "dropped"])
@pytest.mark.parametrize("block", [1, 5 * 80, 1 << 17])
def test_a_coordinate_takes_the_weights_of_its_feature(kind: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combine, "BLOCK", block)
    rng = torch.Generator().manual_seed(5)
    features, coordinates = 300, 600
    feature_of = maps(kind, coordinates, features, rng)
    updates = torch.randn(5, coordinates, generator=rng, dtype=torch.float64)
    weights = torch.randn(5, features, generator=rng, dtype=torch.float64)
    of_each = torch.stack([weights[:, feature] if feature >= 0 else weights.mean(1) for feature in feature_of.tolist()])
    step, sizes = by_column(lambda a, b: weights[:, a:b], features, FeatureMap.of(feature_of, features), None, updates)
    assert torch.allclose(step, (of_each.T * updates).sum(0), rtol=1e-12, atol=1e-12)
    assert torch.allclose(sizes, of_each.T.abs().mean(1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", ["in order", "stripes"])
def test_features_are_cut_where_their_coordinates_lie_together(kind: str) -> None:
    spread = FeatureMap.of(maps(kind, 600, 300, torch.Generator()), 300)
    cut = spread.cut(64)
    assert [piece.start for piece in cut[1:]] == [piece.stop for piece in cut[:-1]]
    assert (cut[0].start, cut[-1].stop) == (0, 300)
    assert all(isinstance(spread.place(torch.zeros(1, piece.stop - piece.start), piece)[0], slice) for piece in cut)


# ---------------------------------------------------------------- pooled strips


@pytest.mark.parametrize("strip", [1, 40, 10_000])
@pytest.mark.parametrize("reduce", [maximum, magnitude])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kernel", [1, 2, 3, 8])
def test_strips_side_by_side_are_the_view(
    strip: int, reduce: Any, dtype: torch.dtype, kernel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amplifier, "STRIP", strip)
    rows = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(kernel)).round(decimals=1).to(dtype)
    for fold in ("layers", "released"):
        if fold == "released" and kernel > 5:
            continue  # it leaves no patch in a width of 5
        stage = Patches.of(Layout.of_shapes(LAYERS), kernel, fold).pooled(reduce)
        assert stage.blocks is not None
        strips = [make() for make in stage.blocks(rows)]
        assert torch.equal(torch.cat(strips, dim=1), stage.view(rows))


@pytest.mark.parametrize("defense", ["amp+krum", "amp+cosden", "amp+multi_krum", "amp+geometric_median", "amp+mda"])
def test_a_rule_of_distances_makes_no_pooled_view(defense: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(0))
    truth = agrbench.aggregate(rows, defense, 2, LAYERS)
    monkeypatch.setattr(amplifier, "pool", never)
    assert torch.equal(agrbench.aggregate(rows, defense, 2, LAYERS), truth)


@pytest.mark.parametrize(
    "defense", ["nnm+fedavg", "nnm+krum", "amp+nnm+krum", "bucketing+krum", "nnm+geometric_median"]
)
def test_a_rule_of_distances_mixes_no_rows(defense: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(12, WIDTH, generator=torch.Generator().manual_seed(0))
    truth = agrbench.aggregate(rows, defense, 1, LAYERS)
    monkeypatch.setattr(view, "_mixed", never)
    assert torch.equal(agrbench.aggregate(rows, defense, 1, LAYERS), truth)


def never(*_: object) -> Tensor:
    raise AssertionError("made, and not needed")


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


# ---------------------------------------------------------------- columns block by block


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


@pytest.mark.parametrize("value", [0.1, -3e30, 1e-300])
def test_columns_of_equal_values_deviate_by_nothing(value: float) -> None:
    assert not perturbations.against(torch.full((11, 3), value, dtype=torch.float64), "std").any()


# ---------------------------------------------------------------- rows not made


class Counted:
    """A tensor, and how often it was asked for."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Tensor:
        self.times += 1
        return torch.arange(6.0).view(2, 3)


def test_a_lazy_field_is_computed_when_first_read_and_once() -> None:
    counted, other = Counted(), Counted()
    server, another = Server(model=counted, previous=counted), Server(model=other)
    assert (counted.times, other.times) == (0, 0)
    assert server.model is server.model
    assert torch.equal(server.model, counted())
    assert (counted.times, other.times) == (2, 0)
    assert another.model is not server.model
    assert (counted.times, other.times) == (2, 1)


def test_a_lazy_field_that_was_not_given_says_what_to_pass() -> None:
    with pytest.raises(AgrbenchError, match=r"needs root, which was not given; pass root=: the server's own update"):
        _ = Server(model=Counted()).root
    insider = Insider(
        malicious=1, clients=2, byzantine=1, layout=None, number=1, memory={}, rng=torch.Generator()
    )  # fmt: skip
    with pytest.raises(AgrbenchError, match=r"needs respond, which was not given; pass defense=: the stack attacked"):
        _ = insider.respond


def test_the_number_of_rows_is_known_before_the_view() -> None:
    counted = Counted()
    sight = replace(View.of(torch.ones(2, 3), Layout.of_shapes([(3,)]), (0, 1)), view=counted)
    seen = sight.round(sight.layout, 0, Server(), unpooled, {}, 1, torch.Generator())
    assert (seen.n, seen.device, counted.times) == (2, CPU, 0)
    assert torch.equal(seen.view, counted())


# ---------------------------------------------------------------- threads


@pytest.fixture
def two_threads() -> Iterator[None]:
    with using(2):
        yield


@pytest.mark.usefixtures("two_threads")
def test_results_come_in_order_from_threads_in_which_torch_has_one() -> None:
    assert list(each(lambda item: (item, torch.get_num_threads()), range(20), CPU)) == [(i, 1) for i in range(20)]
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as later:  # it would begin with the count that was set last, anywhere
        assert later.submit(torch.get_num_threads).result() == 2


@pytest.mark.usefixtures("two_threads")
def test_what_fails_in_a_thread_fails_here_and_the_count_is_as_before() -> None:
    with pytest.raises(ZeroDivisionError):
        finish(each(lambda item: 1 // item, [1, 0, 2], CPU))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("items", [0, 1, 2, 5])
def test_no_thread_is_begun_that_would_find_nothing_to_do(items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[threading.Thread] = []
    start = threading.Thread.start

    def counted(thread: threading.Thread) -> None:
        begun.append(thread)
        start(thread)

    def work(item: int) -> int:
        time.sleep(0.01)  # no thread is free when the next is asked for
        return item

    monkeypatch.setattr(threading.Thread, "start", counted)
    with using(3):
        assert list(each(work, range(items), CPU)) == list(range(items))
    assert len(begun) <= min(2, max(items - 1, 0))


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("wrong", [0, 1, 99])
def test_where_one_fails_the_others_stop_and_the_count_is_as_before(wrong: int) -> None:
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.001)
        if item == wrong:
            raise LookupError(item)

    with pytest.raises(LookupError):
        finish(each(work, range(1000), CPU))
    assert len(begun) < wrong + 100
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_results_are_handed_on_while_others_are_made_and_leaving_early_stops_the_rest() -> None:
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.001)
        return item

    results = each(work, range(1000), CPU)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(begun) < 500
    results.close()
    assert len(begun) < 500
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    "defense",
    ["krum", "multi_krum", "euden", "amp+cosden", "median", "trimmed_mean", "meamed", "amp+median", "nnm+krum"],
)
def test_the_number_of_threads_changes_no_bit(defense: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (amplifier, combine, geometry):
        monkeypatch.setattr(module, "BLOCK", 2048)
    monkeypatch.setattr(amplifier, "STRIP", 2048)
    rng = torch.Generator().manual_seed(3)
    rows = torch.randn(60 * 40, generator=rng) + 0.1 * torch.randn(12, 60 * 40, generator=rng)
    steps = []
    for threads in (1, 2, 3):
        with using(threads):
            steps.append(agrbench.aggregate(rows, defense, 2, [(60, 40)]))
    assert torch.equal(steps[0], steps[1])
    assert torch.equal(steps[0], steps[2])
