"""Check the examples that a dataset returns, once, and convert what people have: numpy arrays, one-hot labels."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agrbench.arrays import from_numpy
from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError


def checked_pair(loaded: Any) -> tuple[Examples, Examples]:
    """Return the training and test examples that a dataset loaded, checked and converted.

    Raises:
        TypeError: it is not a pair of `Examples`.
        AgrbenchError: see `checked` and `fit_together`.
    """
    if not isinstance(loaded, (tuple, list)) or len(loaded) != 2 or isinstance(loaded, Examples):
        raise TypeError("load must return two Examples, train and test")
    train, test = checked(loaded[0], "training"), checked(loaded[1], "test")
    fit_together(train, test)
    return train, test


def checked(examples: Any, which: str) -> Examples:
    """Return examples with tensors of features, and labels as whole numbers from 0; `which` names them in errors.

    Features may be any real numbers; labels may be whole numbers of any type, or one-hot rows.

    Raises:
        AgrbenchError: it is not `Examples`, a row or label is wrong, or sizes differ; the message names the first row.
    """
    if not isinstance(examples, Examples):
        raise AgrbenchError(
            f"the {which} examples are a {type(examples).__name__}; return Examples(features, labels, classes)"
        )
    classes = examples.classes
    if not isinstance(classes, numbers.Integral) or isinstance(classes, bool) or classes < 1:
        raise AgrbenchError(f"the {which} examples have classes={classes!r}; write the number of classes, such as 10")
    features = _features(_tensor(examples.features, f"{which} features"), which)
    labels = _labels(_tensor(examples.labels, f"{which} labels"), int(classes), which)
    if not len(labels) or len(features) != len(labels):
        raise AgrbenchError(
            f"there are {len(features)} {which} features and {len(labels)} labels; return one label a row"
        )
    owners = None if examples.owners is None else _whole(_tensor(examples.owners, f"{which} owners"), f"{which} owners")
    if owners is not None and owners.shape != labels.shape:
        raise AgrbenchError(f"the {which} owners are of shape {tuple(owners.shape)}; return one owner a row")
    for named, most, what in (
        (examples.about.classes, classes, "classes"),
        (examples.about.owners, 0 if owners is None else int(owners.max()) + 1, "owners"),
    ):
        if named and len(named) < most:
            raise AgrbenchError(f"the {which} examples name {len(named)} of {most} {what}; name all in about={what}")
    return Examples(features, labels, int(classes), owners, examples.about)


def fit_together(train: Examples, test: Examples) -> None:
    """Refuse training and test examples of different shapes or numbers of classes."""
    for name, one, other in (
        ("shape", tuple(train.features.shape[1:]), tuple(test.features.shape[1:])),
        ("classes", train.classes, test.classes),
    ):
        if one != other:
            raise AgrbenchError(f"the {name} of training examples is {one}, of test examples {other}; make them equal")


def _tensor(value: Any, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().to_dense() if value.is_sparse else value.detach()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return from_numpy(value)
    kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
    raise AgrbenchError(f"the {name} are {kind}; return a tensor or a numpy array of numbers")


def _features(features: Tensor, which: str) -> Tensor:
    if features.ndim < 1 or features.is_complex():
        raise AgrbenchError(f"the {which} features are {_kind(features)}; return real numbers of shape (rows, ...)")
    if features.is_floating_point() and features.numel():
        broken = ~torch.stack(
            torch.aminmax(features.flatten(1) if features.ndim > 1 else features[:, None], dim=1)
        ).isfinite().all(0)
        if broken.any():
            row = int(broken.nonzero()[0])
            raise AgrbenchError(
                f"{int(broken.sum())} {which} rows hold NaN or infinity, the first in row {row}, counting from 0; "
                f"drop or fill them in load"
            )
    return features.to(torch.uint8) if features.dtype == torch.bool else features


def _labels(labels: Tensor, classes: int, which: str) -> Tensor:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.shape[1] == classes:
        if not ((labels == 0) | (labels == 1)).all() or not (labels.sum(1) == 1).all():
            raise AgrbenchError(
                f"the {which} labels are rows of {classes} numbers but not one-hot; return whole numbers from 0"
            )
        return labels.to(torch.float32).argmax(1)
    if labels.ndim != 1:
        raise AgrbenchError(
            f"the {which} labels are of shape {tuple(labels.shape)}; return one label a row, from 0 to {classes - 1}"
        )
    found = _whole(labels, f"{which} labels")
    if len(found) and not 0 <= int(found.min()) <= int(found.max()) < classes:
        low, high = int(found.min()), int(found.max())
        shift = f": subtract {low}" if high - low < classes and low > 0 else ""
        raise AgrbenchError(
            f"the {which} labels go from {low} to {high}, and {classes} classes are labelled 0 to {classes - 1}{shift}"
        )
    return found


def _whole(values: Tensor, name: str) -> Tensor:
    if values.is_complex() or (values.is_floating_point() and not torch.equal(values, values.round())):
        raise AgrbenchError(f"the {name} are {_kind(values)} and not all whole numbers; return whole numbers")
    return values.long()


def _kind(values: Tensor) -> str:
    return f"of {values.dtype} and shape {tuple(values.shape)}"
