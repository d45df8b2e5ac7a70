"""Where a cell's record is in its folder; the path says what the cell is, and never leaves the folder."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from agrbench.cells import PROTOCOL, Cell
from agrbench.errors import RecordError

LONGEST = 240  # letters of a folder's name; file systems take 255 bytes
SAFE = "+=,()"  # kept as they are in a path, besides letters, digits and "_.-"


def place(cell: Cell, protocol: int = PROTOCOL) -> Path:
    """Return where a cell's record is, relative to its folder or packed file."""
    parts = [_quoted(part) for part in (cell.dataset, cell.defense, cell.attack)]
    return Path(*parts, f"seed-{cell.seed}-{cell.key_under(protocol)}.json")


def _quoted(part: str) -> str:
    quoted = quote(part, safe=SAFE).replace("~", "%7E")
    if quoted.startswith("."):  # names that are hidden, or lead elsewhere
        quoted = "%2E" + quoted[1:]
    if len(quoted) > LONGEST:
        raise RecordError(f"{part[:80]}... is too long for a file name; write fewer stages or hyperparameters")
    return quoted
