"""Turn a person's own table into examples: labels and owners by number, numbers standardised, categories one-hot.

What is learnt from the data (means, deviations, categories) is learnt from the training rows alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from agrbench.arrays import from_numpy
from agrbench.data.columns import (
    FEW,
    LARGEST,
    MOST,
    Categories,
    Flags,
    Numbers,
    Rows,
    Table,
    categories,
    few_categories,
    listed,
    numbers,
    quoted,
)
from agrbench.data.examples import About, Examples
from agrbench.data.roles import Roles
from agrbench.errors import DataError
from agrbench.randomness import generator

WORDS = {"test": True, "true": True, "1": True, "yes": True, "train": False, "false": False, "0": False, "no": False}
Features = NDArray[np.float32]


class Block(NamedTuple):
    """The features `(rows, *shape)` made from one column, and what its person should know."""

    features: Features
    remark: str = ""


def examples(table: Table, roles: Roles) -> tuple[Examples, Examples]:
    """Return training and test examples in random order: features `(rows, features)` or `(rows, *shape)`, float32.

    Raises:
        DataError: a value is missing or does not fit its role; the message names the file, the row and the column.
    """
    table, remarks = complete(table, roles)
    names = roles.features(list(table.columns))
    _check_shapes(table, roles, names)
    labels = classes(table, roles.label)
    owners = None if roles.owner is None else categories(table.columns[roles.owner])
    halves = divided(table, roles, owners)
    blocks = [encoded(table, name, roles, halves[0]) for name in names]
    features = blocks[0].features if len(blocks) == 1 else np.concatenate([each.features for each in blocks], 1)
    remarks = [
        _size(table, features, len(names), owners), *remarks, *(each.remark for each in blocks if each.remark),
        *_untrained(labels, halves[0]),
    ]  # fmt: skip
    about = About(labels.names, owners.names if owners else (), tuple(remarks))
    train, test = (_examples(features, labels, owners, rows, about) for rows in halves)
    return train, test


def _examples(features: Features, labels: Categories, owners: Categories | None, rows: Rows, about: About) -> Examples:
    held = None if owners is None else torch.from_numpy(owners.codes[rows])
    return Examples(from_numpy(features[rows]), torch.from_numpy(labels.codes[rows]), len(labels.keys), held, about)


# ---------------------------------------------------------------- missing values


def complete(table: Table, roles: Roles) -> tuple[Table, list[str]]:
    """Leave out rows with missing values, or accept or refuse them, as the roles say; return remarks about it.

    Raises:
        DataError: a value is missing that must be there; the message names the first.
    """
    names = roles.features(list(table.columns))
    for name in names:
        if table.columns[name].absent.all():
            raise DataError(f"{table.file}: column {name!r} has no value in any row; write drop=({name!r},)")
    if roles.missing == "drop":
        return _without_gaps(table)
    _require(table, roles)
    counts = {name: int(table.columns[name].absent.sum()) for name in names}
    gaps = listed([f"{name!r} {count:,}" for name, count in counts.items() if count])
    if not gaps:
        return table, []
    if roles.missing == "refuse":
        first = next(name for name, count in counts.items() if count)
        raise DataError(
            f"{table.at(first, table.columns[first].absent)} has no value, and {sum(counts.values()):,} are missing in "
            f"all ({gaps}); write missing='fill' to fill them in, or missing='drop' to leave such rows out"
        )
    how = "numbers by the training mean, categories by a category of their own"
    return table, [f"{sum(counts.values()):,} missing values were filled in ({gaps}): {how}"]


def _require(table: Table, roles: Roles) -> None:
    """Refuse rows without a label, an owner or a test mark."""
    for role, name in roles.special.items():
        absent = table.columns[name].absent
        if absent.any():
            raise DataError(
                f"{table.at(name, absent)} has no value, but it is the {role}; write one, or write missing='drop' to "
                "leave such rows out"
            )


def _without_gaps(table: Table) -> tuple[Table, list[str]]:
    gaps = np.any([column.absent for column in table.columns.values()], axis=0)
    if gaps.all():
        raise DataError(f"{table.file}: every row lacks a value, so missing='drop' leaves none; write missing='fill'")
    dropped, rows = int(gaps.sum()), len(gaps)
    return table.take(~gaps), [f"{dropped:,} of {rows:,} rows lack a value and were left out"] if dropped else []


# ---------------------------------------------------------------- labels and halves


def classes(table: Table, name: str) -> Categories:
    """Return the classes of the label column.

    Raises:
        DataError: there is one class only, or so many that they are no classes.
    """
    found = categories(table.columns[name])
    rows, many = len(found.codes), len(found.keys)
    where = f"{table.file}: column {name!r}, the label,"
    if many < 2:
        raise DataError(
            f"{where} is {quoted(found.names[0])} in all {rows:,} rows; write the label= of a column with two or more "
            "classes"
        )
    if many > MOST or (rows >= FEW and 2 * many > rows):
        raise DataError(
            f"{where} has {many:,} different values in {rows:,} rows, so they are no classes; write the label= of a "
            "column with few values, or group the values"
        )
    return found


def divided(table: Table, roles: Roles, owners: Categories | None) -> tuple[Rows, Rows]:
    """Return the numbers of the training and of the test rows, each in random order.

    Raises:
        DataError: no row is left for one of them, or a test mark is another word than `WORDS`.
    """
    order = torch.randperm(len(table.rows), generator=generator(0, "table")).numpy()
    share = roles.share()
    if share is None:
        test = marked(table, str(roles.test))
    else:
        test = drawn(order, np.zeros_like(order) if owners is None else owners.codes, share)
    if test.all() or not test.any():
        half = "training" if test.any() else "test"
        raise DataError(
            f"{table.file}: test={roles.test!r} leaves none of {len(test):,} rows as {half} rows; write another share, "
            "such as test=0.5, add rows, or mark rows of both kinds in a column"
        )
    return order[~test[order]], order[test[order]]


def drawn(order: Rows, owners: Rows, share: float) -> Flags:
    """Mark a share of each owner's rows for testing, the first in `order`; every owner keeps a training row."""
    groups = owners[order]
    sorted_, counts = groups.argsort(kind="stable"), np.bincount(groups)
    ranks = np.empty_like(order)
    ranks[sorted_] = np.arange(len(order)) - np.repeat(counts.cumsum() - counts, counts)
    quota = np.minimum(np.rint(share * counts), counts - 1)
    test = np.empty(len(order), bool)
    test[order] = ranks < quota[groups]
    return test


def marked(table: Table, name: str) -> Flags:
    """Read the column that marks the test rows."""
    found = categories(table.columns[name])
    words = [WORDS.get(each.lower()) for each in found.names]
    unknown = np.array([word is None for word in words])[found.codes]
    if unknown.any():
        given = quoted(found.names[found.codes[int(unknown.argmax())]])
        raise DataError(
            f"{table.at(name, unknown)} has {given}, which marks neither training nor test rows; write train or test "
            "(or false and true, 0 and 1, no and yes)"
        )
    return np.array(words, bool)[found.codes]


# ---------------------------------------------------------------- features


def encoded(table: Table, name: str, roles: Roles, train: Rows) -> Block:
    """Encode one column, learning from the training rows."""
    found = None if name in roles.categorical else numbers(table, name)
    if found is not None:
        return Block(standardised(found if found.ndim > 1 else found[:, None], train))
    return one_hot(name, few_categories(table, name), train)


def standardised(values: Numbers, train: Rows) -> Features:
    """Subtract the mean and divide by the deviation of the training rows; NaN, and all of a constant, become 0.

    Values and result are `(rows, *shape)`; an array of several dimensions has one mean and one deviation.
    """
    given = values[train]
    given = given[~np.isnan(given)]
    if not len(given) or given.min() == given.max():
        return np.zeros(values.shape, np.float32)
    low, span = given.min(), given.max() - given.min()
    given = (given - low) / span  # from 0 to 1, so that neither large nor nearly equal numbers lose digits
    with np.errstate(over="ignore"):
        scaled = ((values - low) / span - given.mean(dtype=np.float64)) / given.std(dtype=np.float64)
    features: Features = np.clip(scaled, -LARGEST, LARGEST).astype(np.float32)
    return np.nan_to_num(features, copy=False, nan=0.0)


def one_hot(name: str, found: Categories, train: Rows) -> Block:
    """Give each category of the training rows a feature that is 0 or 1; missing values count as the last category."""
    kinds = np.where(found.codes < 0, len(found.keys), found.codes)
    known = np.unique(kinds[train])
    features = (kinds[:, None] == known).astype(np.float32)
    strange = np.setdiff1d(kinds, known)
    if not len(strange):
        return Block(features)
    names = [*map(quoted, found.names), "a missing value"]
    rows = int((~np.isin(kinds, known)).sum())
    shown = listed([names[kind] for kind in strange.tolist()], 5)
    return Block(features, f"column {name!r}: {shown} in {rows:,} test rows only, so all its features are 0 there")


def _check_shapes(table: Table, roles: Roles, names: list[str]) -> None:
    """Refuse arrays of three or more dimensions that are not the only feature."""
    for name in (*roles.special.values(), *(names if len(names) > 1 else ())):
        column = table.columns[name]
        if column.codes is None and column.values.ndim > 1:
            shape = " x ".join(map(str, column.values.shape[1:]))
            raise DataError(
                f"{table.file}: array {name!r} has {shape} values a row, so it must be the only feature; leave the "
                f"others out by drop=, or write drop=({name!r},)"
            )


# ---------------------------------------------------------------- remarks


def _size(table: Table, features: Features, columns: int, owners: Categories | None) -> str:
    shape = " x ".join(f"{size:,}" for size in features.shape[1:])
    held = ""
    if owners is not None:
        counts = np.bincount(owners.codes)
        held = f", {len(counts):,} owners ({counts.min():,} to {counts.max():,} rows)"
    name = Path(table.file).name
    return f"{name}: {len(features):,} rows, {shape} features of {columns:,} column{'s' * (columns > 1)}{held}"


def _untrained(labels: Categories, train: Rows) -> Iterator[str]:
    """Name the classes without training rows."""
    counts: NDArray[Any] = np.bincount(labels.codes[train], minlength=len(labels.keys))
    missing = [quoted(labels.names[place]) for place in np.flatnonzero(counts == 0)]
    if missing:
        yield f"classes without training rows: {listed(missing)}"
