"""Change examples: wrong labels and backdoor triggers, as several attacks do."""

from __future__ import annotations

import torch
from torch import Generator

from agrbench.federation import Examples


def shuffle_labels(examples: Examples, rng: Generator) -> Examples:
    """Permute the labels at random."""
    order = torch.randperm(len(examples.labels), generator=rng).to(examples.labels.device)
    return examples._replace(labels=examples.labels[order])


def reverse_labels(examples: Examples) -> Examples:
    """Turn label `y` into `C - 1 - y`."""
    return examples._replace(labels=examples.classes - 1 - examples.labels)


def stamp(examples: Examples, target: int) -> Examples:
    """Stamp every example and label it as `target`.

    Images `(rows, channels, height, width)` get a white 3x3 square in the lower right corner, tables `(rows,
    columns)` 0.5 in
    features 7 and 8, counting from 0.
    """
    features = examples.features.clone()
    if features.ndim == 4:
        features[..., -3:, -3:] = 1.0
    else:
        features[:, 7:9] = 0.5
    return examples._replace(features=features, labels=torch.full_like(examples.labels, target))
