"""The laws of column stages: each is a function of a case that raises `Violation` if the case breaks it."""

from __future__ import annotations

import torch

from agrbench.conformance.cases import Case, Violation
from agrbench.conformance.laws import close, few


def shape(case: Case) -> None:
    """Map each row to the declared number of features, in the updates' dtype, identically when writing into out=."""
    columns = case.columns()
    view = columns.view(case.updates)
    expected = len(case.updates), columns.layout.parameters
    if view.shape != expected or view.dtype != case.updates.dtype:
        raise Violation(f"the view is {tuple(view.shape)} of {view.dtype}; its layout and the updates say {expected}")
    into = torch.full_like(view, float("nan"))
    if not torch.equal(columns.view(case.updates, out=into), view) or not torch.equal(into, view):
        raise Violation(f"the view is {few(view)}, and written into out= it is {few(into)}")


def finite(case: Case) -> None:
    """Return a finite view of updates from 1e-30 to 1e15."""
    view = case.columns().view(case.updates)
    if not view.isfinite().all():
        raise Violation(f"the view is {few(view)}")


def untouched(case: Case) -> None:
    """Leave the updates unchanged."""
    before = case.updates.clone()
    for restore in (False, True):
        case.columns(restore).view(case.updates)
    if not torch.equal(case.updates, before):
        raise Violation(f"updates were {few(before)} and are {few(case.updates)}")


def determinism(case: Case) -> None:
    """Return the same view twice, given the same randomness."""
    one, other = case.columns().view(case.updates), case.columns().view(case.updates)
    if not torch.equal(one, other):
        raise Violation(f"the view is {few(one)}, and again {few(other)}")


def rowwise(case: Case) -> None:
    """Map each row as it would be mapped alone."""
    columns = case.columns()
    together = columns.view(case.updates)
    for row, seen in zip(case.updates, together, strict=True):
        if not torch.equal(columns.view(row[None])[0], seen):
            raise Violation(
                f"{few(row)} is shown as {few(seen)} among others, and alone as {few(columns.view(row[None]))}"
            )


def scaling(case: Case, power: int) -> None:
    """Scale the view by c, 1e-12 to 1e12, when the updates are scaled by c."""
    columns, factor = case.columns(), 10.0**power
    one, other = factor * columns.view(case.updates), columns.view(factor * case.updates)
    if not close(one, other, factor * case.scale):
        raise Violation(
            f"{factor:g} times the view is {few(one)}, and that of {factor:g} times the updates {few(other)}"
        )


def covers(case: Case) -> None:
    """Assign every coordinate a feature, or -1, and every feature at least one coordinate."""
    columns = case.columns()
    if columns.feature_of is None:
        return
    found, features = columns.feature_of, columns.layout.parameters
    if found.shape != (case.updates.shape[1],) or set(found.tolist()) - {-1} != set(range(features)):
        raise Violation(f"the features of the coordinates are {few(found)}, and there are {features} features")


def restored(case: Case) -> None:
    """Offer a restored form, as wide as the updates."""
    view = case.columns(restore=True).view(case.updates)
    if view.shape != case.updates.shape:
        raise Violation(f"the restored view is {tuple(view.shape)}, the updates {tuple(case.updates.shape)}")
