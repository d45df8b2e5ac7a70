"""Where cells are computed: an engine takes branches of the tree and returns what came of their cells.

A branch is a list of cells of one trunk (`Cell.trunk`), which share the rounds before the attack. `local` computes in
processes of this machine, `ray` on a cluster. An engine writes nothing: records come back, and whoever asked for them
writes them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from agrbench.cells import Cell
from agrbench.plugins.registry import Registry

Branch = tuple[Cell, ...]


class Lost(NamedTuple):
    """What comes of a cell whose process was lost: the reason."""

    why: str


class Answer(NamedTuple):
    """A cell, and what the work on it returned; for `attempt`, that is its record."""

    cell: Cell
    value: Any | Lost


class Source(Protocol):
    """Where an engine gets its cells."""

    def next(self, place: int) -> Cell | None:
        """Return the next cell for a place, which keeps the rounds of its last trunk; `None` if there is none now."""

    def branch(self) -> Branch:
        """Return the next cells that share rounds, all at once; none if there are none now."""


class Engine(Protocol):
    """Computes cells; use it in a `with` block, at whose end it leaves nothing running."""

    def prepare(self, cells: Sequence[Cell]) -> str:
        """Check that cells can be computed here, and return what there is to say about how many at once.

        Raises:
            AgrbenchError: they cannot; the message says what to write.
        """

    def run(self, source: Source) -> Generator[Answer | None, None, None]:
        """Compute what a source has, yielding each answer, and `None` after each moment in which there was none.

        It never ends by itself, because the source may have more to do later; cells at work when it is closed are
        abandoned.

        Raises:
            AgrbenchError: nothing can be computed.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


def foreign(cell: Cell, registry: Registry) -> tuple[str, ...]:
    """List the files of the plugins that a cell uses and that are not shipped with agrbench, sorted."""
    return tuple(sorted({str(each.path) for each in registry.plugins_of(cell) if not each.shipped}))
