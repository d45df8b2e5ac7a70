"""Ways to poison examples that several attacks share: wrong labels and backdoor triggers."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError


def shuffle_labels(examples: Examples, rng: Generator) -> Examples:
    """Permute the labels at random."""
    order = torch.randperm(len(examples.labels), generator=rng).to(examples.labels.device)
    return examples._replace(labels=examples.labels[order])


def draw_labels(examples: Examples, pool: Tensor, rng: Generator) -> Examples:
    """Replace the labels by a draw without replacement from `pool` `(rows,)`, which has at least as many labels."""
    order = torch.randperm(len(pool), generator=rng)[: len(examples.labels)].to(pool.device)
    return examples._replace(labels=pool[order])


def shuffle(examples: Examples, rng: Generator) -> Examples:
    """Put the rows in random order."""
    return examples.take(torch.randperm(len(examples.labels), generator=rng).to(examples.labels.device))


def reverse_labels(examples: Examples) -> Examples:
    """Replace each label `y` by `C - 1 - y`."""
    return examples._replace(labels=examples.classes - 1 - examples.labels)


def stamp(examples: Examples, target: int) -> Examples:
    """Stamp the trigger on every example and label it as `target`.

    Images `(rows, channels, height, width)` get a white 3x3 square in the lower right corner; tables `(rows, columns)`
    get 0.5 in features 7 and 8, counting from 0.
    """
    features = examples.features.clone()
    if features.ndim == 4 and min(features.shape[2:]) >= 3:
        features[..., -3:, -3:] = 1.0
    elif features.ndim != 2 or features.shape[1] < 9:
        raise no_place(examples, "tables of 9 columns or more, or images (channels, height, width) of 3 x 3 or more")
    else:
        features[:, 7:9] = 0.5
    return labelled(examples._replace(features=features), target)


def labelled(examples: Examples, target: int) -> Examples:
    """Label every example as `target`."""
    if not 0 <= target < examples.classes:
        raise AgrbenchError(f"target is {target}; write a class from 0 to {examples.classes - 1}")
    return examples._replace(labels=torch.full_like(examples.labels, target))


def no_place(examples: Examples, needed: str) -> AgrbenchError:
    """Return the error that examples have no place for a trigger; it names what the trigger needs."""
    return AgrbenchError(
        f"examples of shape {tuple(examples.features.shape[1:])} have no place for the trigger; it needs {needed}"
    )


def with_stamped(examples: Examples, target: int, rng: Generator) -> Examples:
    """Add a stamped copy of every example, labelled as `target`, and shuffle."""
    return shuffle(examples.join(stamp(examples, target)), rng)


def stamp_share(examples: Examples, share: float, stamped: Examples, rng: Generator) -> Examples:
    """Replace a random share of the examples, rounded but at least one, by their copies in `stamped`."""
    if not 0 < share <= 1:
        raise AgrbenchError(f"share is {share}; write a number above 0, at most 1")
    rows = len(examples.labels)
    chosen = torch.randperm(rows, generator=rng)[: max(round(share * rows), 1)].to(examples.labels.device)
    features, labels = examples.features.clone(), examples.labels.clone()
    features[chosen], labels[chosen] = stamped.features[chosen], stamped.labels[chosen]
    return examples._replace(features=features, labels=labels)
