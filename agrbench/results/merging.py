"""Merge records of several folders and packed files into one, and find the cells that are missing from a grid."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
from agrbench.errors import RecordError
from agrbench.results.packed import PACKED, place_of, write_packed
from agrbench.results.record import Record
from agrbench.results.store import Conflict, Refused, Store, sift


def merge(sources: Sequence[Path], target: Path) -> tuple[list[Record], Refused]:
    """Write the records of all sources into a folder or packed file, each cell once, beside those that it has.

    Return its records, and what is wrong with other files and lines of the sources. Of equal records, the first one is
    kept; one that failed makes way for one that did not.

    Raises:
        Conflict: sources hold different results for a cell; the message names all of them, and nothing is written.
        RecordError: the target holds a line that this version cannot read, which would be lost.
    """
    there = [target] if os.path.lexists(target) else []
    kept, refused = sift([*there, *sources])
    if conflicts := [str(error) for error in refused if isinstance(error, Conflict)]:
        raise Conflict("\n".join([*conflicts, f"Nothing is written to {target}"]))
    records = [record for _, record in kept]
    if target.suffix == PACKED:
        if there and (lost := sift(there)[1]):
            raise RecordError(f"{lost[0]}; writing {target} would lose it, so mend it or name another file")
        write_packed(target, records)
    else:
        _fill(Store(target), [record for path, record in kept if path != target / place_of(record)])
    return records, refused


def _fill(store: Store, records: Iterable[Record]) -> None:
    store.prepare()
    for record in records:
        store.write(record)


def missing(records: Iterable[Record]) -> list[Cell]:
    """List the cells that have no record although their dataset, settings and seed have, as far as records tell.

    Every defense is taken to run under every attack that the records have with its settings, and with every seed.
    Records do not tell whether a whole defense, attack, seed or setting is missing.
    """
    there = {Cell.from_json(record["cell"]).key: Cell.from_json(record["cell"]) for record in records}
    groups: dict[Cell, list[Cell]] = {}
    for cell in there.values():
        groups.setdefault(replace(cell, defense=UNDEFENDED, attack=UNATTACKED, seed=0), []).append(cell)
    found = []
    for common, cells in groups.items():
        axes = [sorted({getattr(cell, name) for cell in cells}) for name in ("seed", "defense", "attack")]
        for seed, defense, attack in itertools.product(*axes):
            wanted = replace(common, seed=seed, defense=defense, attack=attack)
            found += [wanted] if wanted.key not in there else []
    return found
