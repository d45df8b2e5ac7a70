"""Table: the rows of your own CSV, Parquet or .npz file, with a column of labels and, if there is one, of owners."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from agrbench.data import encoding, tables
from agrbench.data.examples import Examples
from agrbench.data.roles import Roles
from agrbench.plugins import Dataset, Source


def load(
    *,
    path: str = "",
    label: str = "",
    owner: str | None = None,
    test: float | str = 0.2,
    drop: tuple[str, ...] = (),
    categorical: tuple[str, ...] = (),
    missing: Literal["refuse", "fill", "drop"] = "refuse",
) -> tuple[Examples, Examples]:
    """Return training and test rows `(rows, features)`: numbers standardised, categories one-hot.

    `test` is a share of the rows (of each owner's rows), drawn at random once, or the column that marks the test rows.
    Columns that are neither label, owner nor test mark, nor left out by `drop`, are features.
    """
    roles = Roles(label, owner, test, drop, categorical, missing)
    roles.share()
    return encoding.examples(tables.read(path, roles), roles)


def reads(*, path: str = "") -> Sequence[Path]:
    """List the file that is read, if it is there."""
    return tables.present(path)


dataset = Dataset(
    load,
    model="mlp(64)",
    rate=0.1,
    root_size=100,
    source=Source("your own"),
    reads=reads,
)
