"""Which column of a person's own table is the label, the owner or the test mark, and which are features."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from agrbench.data.columns import listed
from agrbench.errors import DataError


class Roles(NamedTuple):
    """What each column is for; columns that are not named are features.

    `test` is the share of rows drawn for testing, or the column that marks them. `drop` names the columns to leave
    out, `categorical` those whose numbers are categories. `missing` says what becomes of missing values.
    """

    label: str
    owner: str | None = None
    test: float | str = 0.2
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    missing: str = "refuse"

    @property
    def special(self) -> dict[str, str]:
        """Return the columns that are no features, by role."""
        named = {"label": self.label, "owner": self.owner, "test": self.test}
        return {role: name for role, name in named.items() if isinstance(name, str)}

    def features(self, names: Sequence[str]) -> list[str]:
        """List the columns that are features, in the order of the file."""
        others = {*self.special.values(), *self.drop}
        return [name for name in names if name not in others]

    def columns(self, file: str, names: Sequence[str]) -> list[str]:
        """Check the roles against a file's column names, and list the columns that are needed.

        Raises:
            DataError: a name is empty, double or unknown, a column has two roles, or no feature is left.
        """
        _sound(file, names)
        if not self.label:
            raise DataError(f"{file}: no label is named; write label= and one of its columns: {_shown(names)}")
        for role, name in self._named():
            if name not in names:
                raise _unknown(file, role, name, names)
        self._once(file)
        if not self.features(names):
            raise DataError(f"{file}: no column is left for features; drop fewer of its columns {_shown(names)}")
        return [name for name in names if name not in self.drop]

    def share(self) -> float | None:
        """Return the share of test rows; `None` if a column marks them.

        Raises:
            DataError: it is not between 0 and 1.
        """
        if isinstance(self.test, str):
            return None
        if not 0 < self.test < 1:
            raise DataError(f"test={self.test} is no share; write one between 0 and 1 such as test=0.2, or a column")
        return self.test

    def _named(self) -> Iterator[tuple[str, str]]:
        yield from self.special.items()
        for role, names in (("drop", self.drop), ("categorical", self.categorical)):
            yield from ((role, name) for name in names)

    def _once(self, file: str) -> None:
        for name, times in Counter(name for _, name in self._named()).items():
            if times > 1:
                roles = " and ".join(dict.fromkeys(role for role, other in self._named() if other == name))
                raise DataError(f"{file}: column {name!r} is named {times} times, as {roles}; name it once")


def _sound(file: str, names: Sequence[str]) -> None:
    """Refuse column names that are empty or double."""
    if not names:
        raise DataError(f"{file}: it has no columns; save a table with a label and features")
    first: dict[str, int] = {}
    for place, name in enumerate(names, 1):
        if not name:
            raise DataError(f"{file}: the header has no name for column {place}; write one")
        if first.setdefault(name, place) != place:
            raise DataError(f"{file}: columns {first[name]} and {place} of the header are both {name!r}; rename one")


def _unknown(file: str, role: str, name: str, names: Sequence[str]) -> DataError:
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"its columns are {_shown(names)}"
    return DataError(f"{file}: {role} is {name!r}, and no column has that name; {hint}")


def _shown(names: Sequence[str]) -> str:
    return listed(list(map(repr, names)))
