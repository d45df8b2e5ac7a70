"""Updates of clients to try rules and attacks on."""

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from tests.helpers.oracles import Array

Form = tuple[str, str]
"""The kind of array, torch or numpy, and its dtype."""
FORMS = st.tuples(st.sampled_from(["torch", "numpy"]), st.sampled_from(["float32", "float64"]))
EXACT: Form = ("numpy", "float64")
EPS = float(np.finfo(np.float64).eps)


def as_given(values: Any, form: Form) -> Any:
    """Write an array in a form, and leave anything else as it is."""
    if not isinstance(values, np.ndarray):
        return values
    array = values.astype(form[1])
    return torch.from_numpy(array) if form[0] == "torch" else array


def normal(n: int, d: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(n, d))


def normal32(n: int, d: int, seed: int = 0) -> Array:
    """Draw normal rows, all of them float32 numbers."""
    return normal(n, d, seed).astype(np.float32).astype(np.float64)


def line(*places: float) -> Array:
    """Make updates of one coordinate."""
    return np.array(places, dtype=np.float64)[:, None]


def rays(*degrees: float, length: float = 1.0) -> Array:
    """Make updates of two coordinates by their angles."""
    turned = np.deg2rad(degrees)
    return length * np.stack([np.cos(turned), np.sin(turned)], axis=1)


def by_size(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Measure an update by its entries: enough for the rules that ask."""
    return rows.square().sum(1), -rows.abs().sum(1)
