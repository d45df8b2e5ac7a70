"""Synthetic data: any shape, even classes, a centre and noise for each class, and what cannot be made."""

from __future__ import annotations

import importlib
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agrbench.clients import models
from agrbench.errors import AgrbenchError, SpecError
from agrbench.plugins import Dataset
from agrbench.plugins.registry import Registry

synthetic = importlib.import_module("agrbench.datasets.synthetic")


@given(
    rows=st.integers(3, 40),
    test=st.integers(3, 40),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    classes=st.integers(2, 3),
)
def test_synthetic_has_any_shape_and_even_classes(rows: int, test: int, shape: tuple[int, ...], classes: int) -> None:
    halves = synthetic.load(rows=rows, test=test, shape=shape, classes=classes)
    assert [half.features.shape for half in halves] == [(rows, *shape), (test, *shape)]
    for half in halves:
        counts = half.labels.bincount(minlength=classes)
        assert half.classes == len(counts) == classes
        assert int(counts.max() - counts.min()) <= 1


def model_of(record: Dataset) -> models.Builder:
    return models.named(record.model) if isinstance(record.model, str) else record.model


def test_every_hyperparameter_of_synthetic_is_bound_in_a_spec_and_its_model_fits_the_data() -> None:
    record = Registry().dataset("synthetic(shape=(1, 4, 3), classes=3, rows=7, test=5, spread=0.0)").record
    train, test = record.load()
    assert (train.features.shape, test.features.shape) == ((7, 1, 4, 3), (5, 1, 4, 3))
    assert len(torch.unique(train.features, dim=0)) == 3
    assert model_of(record)((1, 4, 3), 3)(test.features).shape == (5, 3)


@pytest.mark.oracle("synthetic")
def test_synthetic_rows_are_their_class_s_centre_and_noise_of_the_given_spread() -> None:
    clean, noisy = (synthetic.load(rows=4000, shape=(30,), classes=4, spread=spread)[0] for spread in (0.0, 0.5))
    assert torch.unique(clean.features, dim=0).shape == (4, 30)
    noise = noisy.features - clean.features
    assert float(noise.std()) == pytest.approx(0.5, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(torch.unique(clean.features, dim=0).std()) == pytest.approx(1, rel=0.2)


@pytest.mark.trap("synthetic")
def test_synthetic_is_the_same_whatever_the_global_seed_and_its_halves_share_no_row() -> None:
    first = synthetic.load()
    state = torch.get_rng_state()
    torch.manual_seed(12345)
    second = synthetic.load()
    torch.set_rng_state(state)
    assert all(torch.equal(a.features, b.features) for a, b in zip(first, second, strict=True))
    assert len(torch.unique(torch.cat([half.features for half in first]), dim=0)) == 2500


@pytest.mark.trap("synthetic")
@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("shape=()", "write whole sizes above 0"),
        ("shape=(3, 0)", "write whole sizes above 0"),
        ("shape=(2.5,)", "write whole sizes above 0"),
        ("shape=(True,)", "write whole sizes above 0"),
        ("classes=1", "write classes=2 or more"),
        ("classes=-3", "write classes=2 or more"),
        ("rows=9", "write rows=10 or more"),
        ("test=0", "write test=10 or more"),
        ("spread=-1.0", "write 0 or more"),
        ("rows=1000000000000", "write fewer or smaller"),
        ("shape=(100000, 100000)", "write fewer or smaller"),
        ("classes=1000000000000, rows=1000000000000, test=1000000000000", "write fewer or smaller"),
    ],
)
def test_what_synthetic_cannot_make_is_refused_in_one_sentence_that_names_the_value(spec: str, said: str) -> None:
    record = Registry().dataset(f"synthetic({spec})").record
    with pytest.raises(AgrbenchError) as refused:
        record.load()
    assert said in str(refused.value)
    assert "synthetic: " in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_an_ill_typed_parameter_of_synthetic_is_answered_by_the_signature() -> None:
    with pytest.raises(SpecError, match=re.escape("shape: tuple[int, ...] = (20,)")):
        Registry().dataset("synthetic(shape=20)")
