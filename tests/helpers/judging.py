"""Rules called in every form that callers use, and checks of what they answer."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

import agrbench
from tests.helpers import oracles
from tests.helpers.oracles import Array, Shapes
from tests.helpers.updates import as_given

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]


# What a distance or a cosine may be off by: in float32 the package promises four digits of every distance; in
# float64 it adds up a few dozen terms, and measures rows again that nearly coincide, so nine digits are plenty.
SLACK = {"float32": 1e-4, "float64": 1e-9}


# A step sums at most 12 products; each, and each sum, rounds by half a unit in the last place, and a weight such as
# 1/3 by another: 32 units cover both.
ULPS = 32


def call(
    function: Callable[..., Any],
    rows: Array,
    spec: str,
    f: int = 0,
    form: tuple[str, str] = ("numpy", "float64"),
    layout: Shapes | None = None,
    root: Array | None = None,
    evaluate: Evaluate | None = None,
) -> Any:
    """Call `aggregate` or `weigh` with everything in one form."""
    given_root = None if root is None else as_given(root, form)
    return function(as_given(rows, form), spec, f, layout, root=given_root, evaluate=evaluate)


def step_of(rows: Array, spec: str, f: int = 0, form: tuple[str, str] = ("numpy", "float64"), **more: Any) -> Array:
    """Give the step in float64, having checked that it came in the form of the input."""
    step = call(agrbench.aggregate, rows, spec, f, form, **more)
    assert isinstance(step, Tensor if form[0] == "torch" else np.ndarray)
    assert str(step.dtype).removeprefix("torch.") == form[1]
    assert step.shape == (rows.shape[1],)
    return np.asarray(step, dtype=np.float64)


def chosen_by(
    rows: Array, spec: str, f: int = 0, form: tuple[str, str] = ("numpy", "float64"), **more: Any
) -> list[int]:
    """Give the rows that a 0/1 verdict keeps."""
    weights = call(agrbench.weigh, rows, spec, f, form, **more).weights
    assert isinstance(weights, Tensor)
    assert weights.dtype == torch.bool
    return [int(i) for i in weights.nonzero().flatten()]


def assert_step(step: Array, weights: Array, rows: Array, form: tuple[str, str]) -> None:
    """Check a step against `(rows,)` or `(rows, columns)` weights of the original rows."""
    weights = weights if weights.ndim == 2 else np.repeat(weights[:, None], rows.shape[1], axis=1)
    expected = np.array([oracles.weighted(weights[:, [j]][:, 0], rows[:, [j]])[0] for j in range(rows.shape[1])])
    # See ULPS; what rounds is each product, so the bound is relative to their sizes and not to their sum.
    room = ULPS * np.finfo(form[1]).eps * (np.abs(weights) * np.abs(rows)).sum(axis=0)
    assert (np.abs(step - expected) <= room).all(), (step, expected)


def assert_lowest(kept: Sequence[int], scores: Sequence[float], count: int, room: float) -> None:
    """Check that `kept` are `count` rows of the lowest scores, any of those that tie to within `room`."""
    assert len(kept) == count
    dropped = [score for i, score in enumerate(scores) if i not in kept]
    assert not dropped or max(scores[i] for i in kept) <= min(dropped) + room


LARGEST_BOUND: dict[str, Callable[[int], int]] = {
    "krum": lambda n: (n - 3) // 2,
    **dict.fromkeys(
        ["cosden", "euden", "mgden", "median", "trimmed_mean", "fang", "fang_lrr", "fang_err"], lambda n: (n - 1) // 2
    ),
}


def draw_layered(data: st.DataObject, ties: bool = True, least: int = 1) -> tuple[Array, list[tuple[int, ...]], int]:
    """Draw updates, the layers that they consist of, and a kernel."""
    shapes = data.draw(oracles.layouts(), label="layout")
    width = oracles.parameters(shapes)
    rows = data.draw(oracles.updates((least, 12), (width, width), ties), label="rows")
    return rows, shapes, data.draw(st.integers(1, 3), label="kernel")


class Evaluation:
    """Loss and accuracy given beforehand, and a record of the updates that were applied."""

    def __init__(self, losses: Sequence[float], accuracies: Sequence[float]) -> None:
        self.losses, self.accuracies = losses, accuracies
        self.applied: Array | None = None

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        self.applied = rows.detach().double().numpy().copy()
        return torch.tensor(self.losses), torch.tensor(self.accuracies)


@st.composite
def evaluations(draw: st.DrawFn, n: int) -> Evaluation:
    """Few different values, so that ties are common; eighths, so that float32 holds them."""
    eighths = st.integers(0, 4).map(lambda k: k / 8)
    return Evaluation(draw(st.lists(eighths, min_size=n, max_size=n)), draw(st.lists(eighths, min_size=n, max_size=n)))
