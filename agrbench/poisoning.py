"""Change examples: wrong labels and backdoor triggers, as several attacks do."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from agrbench.errors import AgrbenchError
from agrbench.federation import Examples


def shuffle_labels(examples: Examples, rng: Generator) -> Examples:
    """Permute the labels at random."""
    order = torch.randperm(len(examples.labels), generator=rng).to(examples.labels.device)
    return examples._replace(labels=examples.labels[order])


def draw_labels(examples: Examples, pool: Tensor, rng: Generator) -> Examples:
    """Draw as many labels from a pool of at least as many `(rows,)`, each of the pool at most once."""
    order = torch.randperm(len(pool), generator=rng)[: len(examples.labels)].to(pool.device)
    return examples._replace(labels=pool[order])


def shuffle(examples: Examples, rng: Generator) -> Examples:
    """Put the rows in random order."""
    return examples.take(torch.randperm(len(examples.labels), generator=rng).to(examples.labels.device))


def reverse_labels(examples: Examples) -> Examples:
    """Turn label `y` into `C - 1 - y`."""
    return examples._replace(labels=examples.classes - 1 - examples.labels)


def stamp(examples: Examples, target: int) -> Examples:
    """Stamp every example and label it as `target`.

    Images `(rows, channels, height, width)` get a white 3x3 square in the lower right corner, tables `(rows, columns)`
    0.5 in features 7 and 8, counting from 0.
    """
    features = examples.features.clone()
    if features.ndim == 4 and min(features.shape[2:]) >= 3:
        features[..., -3:, -3:] = 1.0
    elif features.ndim != 2 or features.shape[1] < 9:
        raise AgrbenchError(
            f"examples of shape {tuple(features.shape[1:])} have no place for the trigger; it needs tables of 9 "
            f"columns or more, or images (channels, height, width) of 3 x 3 or more"
        )
    else:
        features[:, 7:9] = 0.5
    return examples._replace(features=features, labels=torch.full_like(examples.labels, target))
