"""Layouts: how shapes and torch modules are read, and how each layer folds to `(d_in, d_out)`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from agrbench import amplify
from agrbench.errors import AgrbenchError
from agrbench.layout import Layer, Layout
from tests.helpers.oracles_amplifier import folded
from tests.helpers.shapes import in_torchs_order

SHAPES = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 9)),
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    ),
    min_size=1,
    max_size=5,
).filter(lambda shapes: not in_torchs_order(shapes))


class OnlyBias(nn.Module):
    """A module whose one parameter is called `bias` and belongs to no weight."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(outputs))


class BiasFirst(nn.Module):
    """A module that registers its bias before its weight."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))


def matrices(layout: Layout) -> list[list[list[int]]]:
    """Fold a layout: each layer's coordinates as a matrix."""
    order = torch.arange(layout.parameters) if layout.folded is None else layout.folded
    return [
        order[at : at + layer.size].view(layer.rows, layer.columns).tolist()
        for at, layer in zip(layout.starts, layout.layers, strict=True)
    ]


def flat_coordinates(module: nn.Module) -> dict[str, Tensor]:
    """Number a module's parameters as its flat vector lists them, each parameter in its own shape."""
    numbered, start = {}, 0
    for name, parameter in module.named_parameters():
        numbered[name] = torch.arange(start, start + parameter.numel()).view(parameter.shape)
        start += parameter.numel()
    return numbered


# ---------------------------------------------------------------- shapes


@given(SHAPES)
def test_shapes_fold_as_the_paper_says(shapes: list[tuple[int, ...]]) -> None:
    assert matrices(Layout.of_shapes(shapes)) == folded(shapes)


@given(SHAPES)
def test_parameters_are_the_product_of_each_shape_summed(shapes: list[tuple[int, ...]]) -> None:
    layout = Layout.of_shapes(shapes)
    assert layout.parameters == sum(math.prod(shape) for shape in shapes)
    assert layout.parameters == sum(layer.size for layer in layout.layers)


@given(SHAPES)
def test_every_coordinate_lies_in_exactly_one_place_of_its_own_layer(shapes: list[tuple[int, ...]]) -> None:
    layout = Layout.of_shapes(shapes)
    places = matrices(layout)
    owner = {c: number for number, matrix in enumerate(places) for row in matrix for c in row}
    assert sorted(owner) == list(range(layout.parameters))
    assert layout.layer_of.tolist() == [owner[c] for c in range(layout.parameters)]


@given(SHAPES)
def test_layers_start_where_the_ones_before_them_end(shapes: list[tuple[int, ...]]) -> None:
    layout = Layout.of_shapes(shapes)
    assert list(layout.starts) == [sum(layer.size for layer in layout.layers[:at]) for at in range(len(layout.layers))]


@pytest.mark.parametrize(
    ("shapes", "layers"),
    [
        ([(4, 3), (3,)], [(5, 3)]),
        ([(4, 3), (5,)], [(4, 3), (1, 5)]),
        ([(4, 3), (3,), (3,)], [(5, 3), (1, 3)]),
        ([(3,), (3,)], [(1, 3), (1, 3)]),
        ([(2, 3), (3, 4), (4,)], [(2, 3), (4, 4)]),
        ([(3,), (4, 3)], [(1, 3), (4, 3)]),
        ([(6, 2, 3, 3), (6,)], [(19, 6)]),
        ([(6, 2, 3, 3), (2,)], [(18, 6), (1, 2)]),
        ([(6, 2, 3, 3), (3,)], [(18, 6), (1, 3)]),
        ([(1, 1), (1,)], [(2, 1)]),
    ],
)
def test_a_vector_as_long_as_the_outputs_before_it_is_their_bias(
    shapes: list[tuple[int, ...]], layers: list[tuple[int, int]]
) -> None:
    assert [(layer.rows, layer.columns) for layer in Layout.of_shapes(shapes).layers] == layers


def test_shapes_may_be_lists_sizes_or_a_generator() -> None:
    expected = Layout.of_shapes([(4, 3), (3,)])
    assert Layout.of_shapes([[4, 3], [3]]) == expected
    assert Layout.of_shapes([torch.zeros(4, 3).shape, torch.zeros(3).shape]) == expected
    assert Layout.of_shapes(shape for shape in [(4, 3), (3,)]) == expected


def test_a_layout_stored_as_folded_needs_no_order() -> None:
    assert Layout.of_shapes([(4, 3), (3,), (7,)]).folded is None
    assert Layout.of_shapes([(4, 3), (3,), (2, 1, 1, 1)]).folded is not None


# ---------------------------------------------------------------- sentences


@pytest.mark.parametrize("shape", [(), (4, 0), (-1,), (2.0, 3), ("a",), (None, 2)])
def test_a_shape_that_is_not_of_positive_whole_numbers_is_refused_with_the_fix(shape: Any) -> None:
    sentence = f"a layout lists shapes of positive whole numbers; given {shape!r}; write [(446, 512), (512,), ...]"
    with pytest.raises(AgrbenchError, match=f"^{re.escape(sentence)}$"):
        Layout.of_shapes([(4, 3), shape])


def test_one_bare_shape_in_place_of_a_list_of_shapes_is_refused_with_the_fix() -> None:
    bare: Any = (4, 3)
    with pytest.raises(AgrbenchError, match="a layout lists shapes"):
        Layout.of_shapes(bare)


@pytest.mark.parametrize("width", [14, 16])
@pytest.mark.parametrize("given_as", ["shapes", "layout"])
def test_a_layout_that_does_not_fit_the_updates_is_refused_with_both_counts(width: int, given_as: str) -> None:
    shapes = [(4, 3), (3,)]
    layout: Layout | Sequence[Sequence[int]] = Layout.of_shapes(shapes) if given_as == "layout" else shapes
    sentence = f"the layout holds 15 parameters, the updates {width}; layout= takes the shapes of all layers, biases"
    with pytest.raises(AgrbenchError, match=re.escape(sentence)):
        Layout.read(layout, width)


def test_reading_a_layout_gives_that_layout_and_reading_shapes_gives_theirs() -> None:
    layout = Layout.of_shapes([(4, 3), (3,)])
    assert Layout.read(layout, 15) is layout
    assert Layout.read([(4, 3), (3,)], 15) == layout


# ---------------------------------------------------------------- modules


MODULES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(4, 3),
    "linear without bias": lambda: nn.Linear(4, 3, bias=False),
    "one to one": lambda: nn.Linear(1, 1),
    "dense": lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)),
    "dense without bias": lambda: nn.Sequential(nn.Linear(5, 4, bias=False), nn.Linear(4, 3, bias=False)),
    "convolution": lambda: nn.Conv2d(2, 3, (2, 3)),
    "convolution without bias": lambda: nn.Conv2d(2, 3, 2, bias=False),
    "convolution and batch norm": lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Linear(3, 2)),
    "no bias and batch norm": lambda: nn.Sequential(nn.Conv2d(2, 3, 2, bias=False), nn.BatchNorm2d(3)),
    "no bias and layer norm": lambda: nn.Sequential(nn.Linear(4, 3, bias=False), nn.LayerNorm(3), nn.Linear(3, 3)),
    "no bias and a stranger's bias": lambda: nn.Sequential(nn.Linear(4, 3, bias=False), OnlyBias(3)),
    "bias first": lambda: nn.Sequential(BiasFirst(4, 3), nn.Linear(3, 2)),
    "one-dimensional convolution": lambda: nn.Conv1d(2, 3, 4),
    "nested": lambda: nn.Sequential(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)), nn.Sequential(nn.Linear(2, 2))),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_as_many_parameters_as_its_layout(name: str) -> None:
    module = MODULES[name]()
    assert Layout.of(module).parameters == sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", MODULES)
def test_a_module_folds_to_a_permutation_of_its_flat_vector(name: str) -> None:
    layout = Layout.of(MODULES[name]())
    coordinates = [c for matrix in matrices(layout) for row in matrix for c in row]
    assert sorted(coordinates) == list(range(layout.parameters))


def test_a_linear_module_folds_to_its_transposed_weight_over_its_bias() -> None:
    module = nn.Linear(4, 3)
    at = flat_coordinates(module)
    assert matrices(Layout.of(module)) == [torch.cat([at["weight"].T, at["bias"][None]]).tolist()]


def test_a_convolution_module_folds_to_one_column_an_output_over_its_bias() -> None:
    module = nn.Conv2d(2, 3, (2, 3))
    at = flat_coordinates(module)
    columns = [
        [at["weight"][o, i, y, x].item() for i in range(2) for y in range(2) for x in range(3)] for o in range(3)
    ]
    assert matrices(Layout.of(module)) == [[*map(list, zip(*columns, strict=True)), at["bias"].tolist()]]


def test_weights_without_bias_fold_to_no_further_row() -> None:
    layers = Layout.of(nn.Sequential(nn.Linear(5, 4, bias=False), nn.Conv2d(2, 3, 2, bias=False))).layers
    assert [(layer.rows, layer.columns) for layer in layers] == [(5, 4), (8, 3)]


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.LayerNorm])
@pytest.mark.parametrize("bias", [True, False])
def test_normalisation_never_passes_for_the_bias_of_the_weights_before_it(norm: type[nn.Module], bias: bool) -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 2, bias=bias), norm(3), nn.Linear(3, 2))
    layers = [(layer.rows, layer.columns) for layer in Layout.of(module).layers]
    assert layers == [(8 + bias, 3), (1, 3), (1, 3), (4, 2)]


def test_another_modules_bias_is_a_layer_of_its_own() -> None:
    layers = Layout.of(nn.Sequential(nn.Linear(4, 3, bias=False), OnlyBias(3))).layers
    assert [(layer.rows, layer.columns) for layer in layers] == [(4, 3), (1, 3)]


def test_a_single_number_is_a_layer_of_its_own() -> None:
    layers = Layout.of(nn.Sequential(nn.Linear(4, 3), nn.PReLU(), nn.Linear(3, 2))).layers
    assert [(layer.rows, layer.columns) for layer in layers] == [(5, 3), (1, 1), (4, 2)]


def test_running_statistics_are_no_parameters() -> None:
    assert Layout.of(nn.BatchNorm2d(3)).parameters == 6


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.booleans(), st.integers(1, 5), st.booleans())
def test_a_module_and_its_shapes_pool_alike(
    inputs: int, hidden: int, outputs: int, bias: bool, kernel: int, restore: bool
) -> None:
    module = nn.Sequential(nn.Linear(inputs, hidden, bias=bias), nn.ReLU(), nn.Linear(hidden, outputs, bias=bias))
    rng = torch.Generator().manual_seed(inputs + 7 * hidden + 49 * outputs)
    update = {name: torch.randn(p.shape, generator=rng) for name, p in module.named_parameters()}

    def flat(values: dict[str, Tensor], transpose: bool) -> Tensor:
        parts = [value.T if transpose and value.ndim == 2 else value for value in values.values()]
        return torch.cat([part.flatten() for part in parts])[None]

    shapes = [value.T.shape if value.ndim == 2 else value.shape for value in update.values()]
    by_module = amplify(flat(update, False), Layout.of(module), kernel, restore)
    by_shapes = amplify(flat(update, True), shapes, kernel, restore)
    if restore:  # the same entries survive, each in its own storage order
        survivors, start = {}, 0
        for name, value in update.items():
            survivors[name] = by_module[0, start : start + value.numel()].view(value.shape)
            start += value.numel()
        by_module = flat(survivors, True)
    assert torch.equal(by_module, by_shapes)


@given(st.integers(1, 6), st.integers(1, 6), st.booleans(), st.booleans())
def test_a_layer_folds_each_of_its_entries_once(rows: int, columns: int, bias: bool, transposed: bool) -> None:
    layer = Layer(rows + bias, columns, bias=bias, transposed=transposed)
    fold = layer.fold()
    assert tuple(fold.shape) == (layer.rows, layer.columns)
    assert sorted(fold.flatten().tolist()) == list(range(layer.size))


def test_reading_a_module_leaves_it_alone() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    before = [parameter.clone() for parameter in module.parameters()]
    Layout.of(module)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("layers", [[(10, 64), (10,)], [(64, 8), (8,), (3, 8), (3,)]])
def test_linear_shapes_in_torchs_order_are_refused_with_the_other_order(layers: list[tuple[int, ...]]) -> None:
    """Read as they stand, the bias would be a layer of its own, and pooling would run across inputs."""
    with pytest.raises(AgrbenchError, match="as torch stores it") as refused:
        Layout.of_shapes(layers)
    assert f"write {(64, 10) if layers[0][0] == 10 else (8, 3)}" in str(refused.value)


@pytest.mark.parametrize("layers", [[(8, 8), (8,)], [(64, 10), (10,)], [(5, 7)], [(5, 7), (3,)], [(5, 7), (5, 2)]])
def test_shapes_that_can_be_read_in_our_order_are_read(layers: list[tuple[int, ...]]) -> None:
    assert Layout.of_shapes(layers).parameters == sum(math.prod(shape) for shape in layers)
