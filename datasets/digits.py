"""Digits: 1,797 real 8x8 images of handwritten digits, embedded in scikit-learn (Alpaydin and Kaynak, UCI, 1998)."""

import torch
from sklearn.datasets import load_digits

from agrbench.data.examples import Examples, split
from agrbench.plugins import Dataset, Source
from agrbench.randomness import generator


def load() -> tuple[Examples, Examples]:
    """Return 1,437 training and 360 test images `(rows, 1, 8, 8)` from 0 to 1, split once at random."""
    digits = load_digits()
    images = torch.from_numpy(digits.images / 16).float()[:, None]
    return split(Examples(images, torch.from_numpy(digits.target).long(), 10), 360, generator(0, "digits"))


dataset = Dataset(
    load,
    model="mlp(64)",
    rate=0.5,
    root_size=100,
    source=Source("CC BY 4.0"),
)
