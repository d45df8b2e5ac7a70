"""What every column stage must satisfy: each property is a function of a case that raises where it is violated."""

from __future__ import annotations

import torch

from agrbench.conformance.cases import Case, Violation
from agrbench.conformance.laws import close, few


def shape(case: Case) -> None:
    """Map rows to as many features as its layout says, in the updates' dtype, and alike into `out`."""
    columns = case.columns()
    view = columns.view(case.updates)
    expected = len(case.updates), columns.layout.parameters
    if view.shape != expected or view.dtype != case.updates.dtype:
        raise Violation(f"the view is {tuple(view.shape)} of {view.dtype}; its layout and the updates say {expected}")
    into = torch.full_like(view, float("nan"))
    if not torch.equal(columns.view(case.updates, out=into), view) or not torch.equal(into, view):
        raise Violation(f"the view is {few(view)}, and written into out= it is {few(into)}")


def finite(case: Case) -> None:
    """Show finite numbers, whatever of 1e-30 to 1e15 the updates hold."""
    view = case.columns().view(case.updates)
    if not view.isfinite().all():
        raise Violation(f"the view is {few(view)}")


def untouched(case: Case) -> None:
    """Change nothing that it is given."""
    before = case.updates.clone()
    for restore in (False, True):
        case.columns(restore).view(case.updates)
    if not torch.equal(case.updates, before):
        raise Violation(f"updates were {few(before)} and are {few(case.updates)}")


def determinism(case: Case) -> None:
    """Show the same twice, from the same randomness."""
    one, other = case.columns().view(case.updates), case.columns().view(case.updates)
    if not torch.equal(one, other):
        raise Violation(f"the view is {few(one)}, and again {few(other)}")


def rowwise(case: Case) -> None:
    """Show each row as it would be shown alone."""
    columns = case.columns()
    together = columns.view(case.updates)
    for row, seen in zip(case.updates, together, strict=True):
        if not torch.equal(columns.view(row[None])[0], seen):
            raise Violation(
                f"{few(row)} is shown as {few(seen)} among others, and alone as {few(columns.view(row[None]))}"
            )


def scaling(case: Case, power: int) -> None:
    """Show c times the view of c times the updates, c from 1e-12 to 1e12."""
    columns, factor = case.columns(), 10.0**power
    one, other = factor * columns.view(case.updates), columns.view(factor * case.updates)
    if not close(one, other, factor * case.scale):
        raise Violation(
            f"{factor:g} times the view is {few(one)}, and that of {factor:g} times the updates {few(other)}"
        )


def covers(case: Case) -> None:
    """Give every coordinate a feature, or -1, and every feature a coordinate."""
    columns = case.columns()
    if columns.feature_of is None:
        return
    found, features = columns.feature_of, columns.layout.parameters
    if found.shape != (case.updates.shape[1],) or set(found.tolist()) - {-1} != set(range(features)):
        raise Violation(f"the features of the coordinates are {few(found)}, and there are {features} features")


def restored(case: Case) -> None:
    """Have a restored form too, as wide as the updates."""
    view = case.columns(restore=True).view(case.updates)
    if view.shape != case.updates.shape:
        raise Violation(f"the restored view is {tuple(view.shape)}, the updates {tuple(case.updates.shape)}")
