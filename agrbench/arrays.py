"""Numpy arrays as tensors, for the updates and the examples that callers hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def from_numpy(array: NDArray[Any]) -> Tensor:
    """Return an array of real numbers as a tensor, sharing its memory unless it is reversed or read-only.

    Raises:
        TypeError: torch has no such numbers.
    """
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(native, requirements=["C", "W"]))  # torch takes no reversed or read-only one
