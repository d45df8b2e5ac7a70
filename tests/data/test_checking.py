"""Examples of a dataset are converted from what people have, and refused in a sentence where that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agrbench.data.checking import checked, fit_together
from agrbench.data.examples import Examples
from agrbench.errors import AgrbenchError

FEATURES = torch.arange(12.0).view(4, 3)
LABELS = torch.tensor([0, 2, 1, 2])


def made(features: Any = FEATURES, labels: Any = LABELS, classes: Any = 3, owners: Any = None) -> Examples:
    return Examples(features, labels, classes, owners)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int16, torch.int64, torch.float32, torch.float64])
def test_labels_of_any_whole_type_are_whole_numbers(dtype: torch.dtype) -> None:
    found = checked(made(labels=LABELS.to(dtype)), "training").labels
    assert found.dtype == torch.int64
    assert torch.equal(found, LABELS)


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(LABELS.numpy(), id="numpy"),
        pytest.param(LABELS.numpy().astype(">i2"), id="big-endian numpy"),
        pytest.param(LABELS.numpy()[::-1][::-1], id="a numpy view"),
        pytest.param(torch.nn.functional.one_hot(LABELS), id="one-hot"),
        pytest.param(torch.nn.functional.one_hot(LABELS).double(), id="one-hot floats"),
        pytest.param(torch.nn.functional.one_hot(LABELS).bool(), id="one-hot truth values"),
        pytest.param(np.eye(3, dtype=np.float32)[LABELS.numpy()], id="one-hot numpy"),
        pytest.param(LABELS[:, None], id="a column"),
    ],
)
def test_labels_in_other_forms_are_read(labels: Any) -> None:
    assert torch.equal(checked(made(labels=labels), "training").labels, LABELS)


@pytest.mark.parametrize(
    ("features", "wanted"),
    [
        pytest.param(FEATURES.numpy(), FEATURES, id="numpy"),
        pytest.param(FEATURES.numpy().astype(">f8"), FEATURES.double(), id="big-endian numpy"),
        pytest.param(FEATURES.clone().requires_grad_(), FEATURES, id="with a gradient"),
        pytest.param(FEATURES.to_sparse(), FEATURES, id="sparse"),
        pytest.param(FEATURES > 3, (FEATURES > 3).to(torch.uint8), id="truth values"),
        pytest.param(FEATURES.long(), FEATURES.long(), id="whole numbers"),
        pytest.param(FEATURES[:, 0], FEATURES[:, 0], id="one number a row"),
    ],
)
def test_features_in_other_forms_are_read(features: Any, wanted: Tensor) -> None:
    found = checked(made(features), "training").features
    assert not found.requires_grad
    assert torch.equal(found, wanted)


def broken(value: float) -> Tensor:
    features = FEATURES.clone()
    features[2, 1] = features[3, 0] = value
    return features


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "labels from 1": (
        lambda: made(labels=LABELS + 1),
        "labels go from 1 to 3, and 3 classes .* 0 to 2: subtract 1",
    ),
    "labels below 0": (lambda: made(labels=LABELS - 1), "labels go from -1 to 1"),
    "too many classes": (lambda: made(classes=2), "labels go from 0 to 2, and 2 classes are labelled 0 to 1"),
    "halves": (lambda: made(labels=LABELS + 0.5), "not all whole numbers"),
    "probabilities": (lambda: made(labels=torch.full((4, 3), 1 / 3)), "not one-hot"),
    "two ones": (lambda: made(labels=torch.ones(4, 3)), "not one-hot"),
    "another width": (lambda: made(labels=torch.ones(4, 2)), r"labels are of shape \(4, 2\)"),
    "texts": (lambda: made(labels=np.array(["a", "b", "c", "d"])), "an array of <U1; return a tensor"),
    "a list": (lambda: made(labels=[0, 1, 2, 2]), "labels are a list"),
    "complex features": (lambda: made(FEATURES + 1j), "return real numbers"),
    "fewer labels": (lambda: made(labels=LABELS[:3]), "4 training features and 3 labels"),
    "nothing": (lambda: made(FEATURES[:0], LABELS[:0]), "0 training features and 0 labels"),
    "NaN": (
        lambda: made(broken(torch.nan)),
        "2 training rows hold NaN or infinity, the first in row 2",
    ),
    "infinity": (lambda: made(broken(torch.inf)), "2 training rows hold NaN or infinity"),
    "no classes": (lambda: made(classes=0), "classes=0; write the number of classes"),
    "classes as text": (lambda: made(classes="3"), "classes='3'"),
    "owners of another size": (lambda: made(owners=LABELS[:3]), "return one owner a row"),
    "a pair": (lambda: (FEATURES, LABELS), "the training examples are a tuple; return Examples"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_refused_in_a_sentence(kind: str) -> None:
    build, said = REFUSED[kind]
    with pytest.raises(AgrbenchError, match=said):
        checked(build(), "training")


def test_training_and_test_examples_must_fit_together() -> None:
    fit_together(made(), made())
    with pytest.raises(AgrbenchError, match=r"shape of training examples is \(3,\), of test examples \(2,\)"):
        fit_together(made(), made(FEATURES[:, :2]))
    with pytest.raises(AgrbenchError, match="classes of training examples is 3, of test examples 4"):
        fit_together(made(), made(classes=4))
