"""Records made up for tests, and the folders that hold them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from agrbench.cells import Cell
from agrbench.plugins.registry import Registry
from agrbench.results.record import Record, blank
from agrbench.results.statistics import Sample
from agrbench.results.store import Store, collect

REGISTRY = Registry()


def finished(
    cell: Cell, accuracy: Sequence[float], *, rounds: Sequence[int] = (), registry: Registry = REGISTRY, **fields: Any
) -> Record:
    """Make the record of a cell that is done; without `rounds` it was measured every ten rounds, from 0 on."""
    count = len(accuracy)
    return blank(cell, registry) | {
        "rounds": list(rounds) or [10 * place for place in range(count)],
        "accuracy": list(accuracy),
        "loss": [1.0] * count,
        "classes": 10,
        "trust": {rate: [None] * count for rate in ("malicious_share", "precision", "recall")},
        **fields,
    }


def fill(folder: Path, records: Iterable[Record]) -> Path:
    """Write records into a folder, which need not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for record in records:
        Store(folder).write(record)
    return folder


def stored(folder: Path) -> dict[str, Record]:
    """Read the records below a folder, by their paths in it."""
    return {str(path.relative_to(folder)): record for path, record in collect([folder])}


def measured(defense: str, attack: str, seed: int, accuracy: Sequence[float], **change: Any) -> Record:
    """Make a record of five accuracies; 40 rounds are attacked from round 10 on, so four evaluations count."""
    return finished(Cell("digits", defense, attack, seed, rounds=40), accuracy) | change


def sample(*values: float) -> Sample:
    """Number values by their seeds, from 0 on."""
    return Sample(tuple(range(len(values))), values)
