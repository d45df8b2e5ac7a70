"""A function that counts its calls, to show what is computed late, and once."""

import torch
from torch import Tensor


class Counted:
    """A tensor, and how often it was asked for."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Tensor:
        self.times += 1
        return torch.arange(6.0).view(2, 3)
