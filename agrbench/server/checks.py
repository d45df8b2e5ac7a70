"""Checks of what plugins return; each raises an error that says what is wrong and what to return instead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from agrbench.errors import PluginError
from agrbench.plugins import Stage
from agrbench.plugins.contract import Verdict
from agrbench.plugins.stack import Loaded
from agrbench.server.geometry import row_norms
from agrbench.server.rounds import Round


@contextmanager
def unwritten(part: Loaded[Any], action: str, *given: Tensor) -> Iterator[None]:
    """Refuse a plugin that writes into tensors that it was given: all rules, and the run itself, read the same ones.

    Raises:
        PluginError: torch counted a write into one of them.
    """
    before = [tensor._version for tensor in given]
    yield
    if before != [tensor._version for tensor in given]:
        raise PluginError(
            f"{part.path}: {action} wrote into what it was given, which others read too; "
            f"work on a copy, for example rows = round.view.clone()"
        )


def checked_mixing(stage: Loaded[Stage], seen: Round, n: int) -> Tensor:
    """Return a row stage's matrix if it is finite and `(rows(n), n)`; raise PluginError if not."""
    assert stage.record.mix is not None
    mix = stage.record.mix(seen)
    rows = stage.record.rows(n)
    if not isinstance(mix, Tensor) or mix.shape != (rows, n) or not mix.isfinite().all():
        raise PluginError(f"{stage.path}: mix returned {what(mix)}; return finite shares of shape ({rows}, {n})")
    return mix


def checked_step(vector: object, updates: Tensor) -> Tensor:
    """Return a rule's own step like the updates `(rows, parameters)`; raise TypeError if it is no such vector."""
    if not isinstance(vector, Tensor) or vector.shape != updates.shape[1:] or vector.is_complex():
        raise TypeError(f"the step must be a tensor of shape ({updates.shape[1]},), not {what(vector)}")
    return vector.detach().to(updates)


def check_weights(weights: object, rows: int, features: int, layers: int) -> None:
    """Raise unless the weights are a function or a finite tensor of one of three shapes."""
    if callable(weights) and not isinstance(weights, Tensor):
        return
    shapes = {(rows,), (rows, features), (rows, layers)}
    if not isinstance(weights, Tensor) or tuple(weights.shape) not in shapes:
        raise TypeError(
            f"weights must be a tensor of shape ({rows},), one weight a row of round.view, not {what(weights)}"
        )
    if weights.is_complex():
        raise TypeError(f"weights are complex numbers ({what(weights)}); return real ones, such as weights.real")
    if not weights.isfinite().all():
        raise ValueError("some weights are NaN or infinite; return finite weights")


def is_yes_or_no(weights: object) -> bool:
    """Return whether a verdict is Boolean, with one value per row."""
    return isinstance(weights, Tensor) and weights.dtype == torch.bool and weights.ndim == 1


def check_exclusions(verdict: Verdict, clients: int) -> None:
    """Raise ValueError if the verdict excludes a client that does not exist."""
    for client in verdict.exclude:
        if not 0 <= client < clients:
            raise ValueError(f"exclude names client {client}; clients are 0 to {clients - 1}, as round.clients says")


def checked_view(view: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return a column stage's view if it is finite and `(rows, features)`; raise ValueError if not."""
    if not isinstance(view, Tensor) or view.shape != shape or not torch.linalg.vector_norm(view).isfinite():
        raise ValueError(f"the view must be finite and of shape {shape}, not {what(view)}")
    return view


def checked_block(weights: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return a block of per-column weights if finite and of the block's shape; raise ValueError if not."""
    if not isinstance(weights, Tensor) or weights.shape != shape or not all_finite(weights):
        raise ValueError(
            f"a function of columns must return finite weights of the block's shape {shape}, not {what(weights)}"
        )
    return weights


def all_finite(values: Tensor) -> bool:
    """Return whether all values are finite, by the extremes (NaN if any is); Booleans need no read from a device."""
    return values.dtype == torch.bool or bool(torch.stack(torch.aminmax(values)).isfinite().all())


def finite_rows(rows: Tensor) -> Tensor:
    """Mark the rows whose squared norm is finite, half-precision ones in float32: Boolean `(rows,)`."""
    wide = rows.float() if rows.dtype == torch.float16 else rows  # whose largest number is the square of 256
    return row_norms(wide).square().isfinite()


def what(value: object) -> str:
    """Describe a wrong value in a few words."""
    if isinstance(value, Tensor):
        finite = "" if value.isfinite().all() else " with values that are not finite"
        return f"a tensor of shape {tuple(value.shape)}{finite}"
    return f"a {type(value).__name__}"
