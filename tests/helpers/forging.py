"""Attacks asked for what they send and what they train on."""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

import agrbench
from agrbench.clients.insider import Attacker
from agrbench.data.examples import Examples
from agrbench.plugins import Attack
from agrbench.plugins.registry import Registry
from tests.helpers.oracles import Array
from tests.helpers.updates import EXACT, Form, as_given


def forge(spec: str, honest: Array, malicious: int, form: Form = EXACT, **more: Any) -> Array:
    """Forge with everything in one form, and check the form of the answer and that nothing passed was changed."""
    passed = {name: as_given(value, form) for name, value in {"honest": honest, **more}.items()}
    before = {name: value.tolist() for name, value in passed.items() if isinstance(value, Tensor | np.ndarray)}
    rows: Any = agrbench.forge(spec, malicious=malicious, **passed)
    assert isinstance(rows, Tensor if form[0] == "torch" else np.ndarray)
    assert str(rows.dtype).removeprefix("torch.") == form[1]
    assert tuple(rows.shape) == (malicious, honest.shape[1])
    assert all(passed[name].tolist() == values for name, values in before.items())
    return np.asarray(rows, dtype=np.float64)


@cache
def record(spec: str) -> Attack:
    return Registry().attack(spec).record


def poison(spec: str, shard: Examples, seed: int = 0, attacker: int = 0) -> Examples:
    function = record(spec).poison
    assert function is not None
    return function(shard, Generator().manual_seed(seed), Attacker(attacker, shard.labels))


def trigger(spec: str, examples: Examples) -> Examples:
    function = record(spec).trigger
    assert function is not None
    return function(examples)


def table(rows: int = 8, columns: int = 12, classes: int = 5) -> Examples:
    rng = np.random.default_rng(rows)
    features = torch.from_numpy(rng.uniform(0.6, 0.9, size=(rows, columns)))
    return Examples(features, torch.from_numpy(rng.integers(0, classes, size=rows)), classes)


def images(rows: int = 4, channels: int = 2, side: int = 6) -> Examples:
    rng = np.random.default_rng(rows)
    features = torch.from_numpy(rng.uniform(0.1, 0.9, size=(rows, channels, side, side + 1)))
    return Examples(features, torch.from_numpy(rng.integers(0, 3, size=rows)), 3)
