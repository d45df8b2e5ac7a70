"""Snapshots: the updates of one round of a cell, as sent and as pooled, who sent them, and what weight each got."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agrbench.cells import Cell
from agrbench.errors import AgrbenchError
from agrbench.results.writing import write_whole, writing

SCHEMA = 1


@dataclass(frozen=True)
class Snapshot:
    """Round `number` of a cell: `clients` sent the rows of `updates`, and those at the rows `malicious` attacked.

    `pooled` are the rows as the column stages of the cell's defense show them or, if it has none, those of `amp`.
    `weights` are what the defense gave each row.
    """

    cell: Cell
    number: int
    clients: NDArray[np.int64]
    malicious: NDArray[np.int64]
    updates: NDArray[np.float32]
    pooled: NDArray[np.float32]
    weights: NDArray[np.float64]

    def save(self, path: Path) -> None:
        """Write the snapshot as a compressed NumPy archive, whole or not at all.

        Raises:
            AgrbenchError: the file cannot be written.
        """
        told = json.dumps({"schema": SCHEMA, "cell": self.cell.as_json(), "round": self.number})
        arrays = {name: getattr(self, name) for name in ARRAYS}
        stream = io.BytesIO()
        np.savez_compressed(stream, told=np.array(told), **arrays)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, stream.getvalue())


ARRAYS = ("clients", "malicious", "updates", "pooled", "weights")


def read(path: Path) -> Snapshot:
    """Read a snapshot; nothing that the file says is run.

    Raises:
        AgrbenchError: there is no such file, or it is no snapshot.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            told = json.loads(str(archive["told"]))
            known = {name: archive[name] for name in ARRAYS}
        return _checked(told, known)
    except FileNotFoundError as error:
        raise AgrbenchError(f"{path}: no such file; write one with agrbench snapshot") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise AgrbenchError(
            f"{path}: this is no snapshot; write one with agrbench snapshot -D digits -d krum -a label_flip --round 70 "
            "--out FILE.npz"
        ) from error


def _checked(told: dict[str, Any], known: dict[str, Any]) -> Snapshot:
    rows = len(known["clients"])
    if told["schema"] != SCHEMA or any(len(known[name]) != rows for name in ("updates", "pooled", "weights")):
        raise ValueError("its parts do not fit one another")
    if not all(0 <= row < rows for row in known["malicious"]):
        raise ValueError("it has no such rows")
    return Snapshot(Cell.from_json(told["cell"]), int(told["round"]), **known)
