"""Where a cell's record is in its folder; the path says what the cell is, in short, and never leaves the folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import quote

from agrbench.cells import PROTOCOL, Cell

LONGEST = 240  # letters of a folder's name; file systems take 255 bytes
DIGITS = 16  # of the digest that ends a shortened name
SAFE = "+=,()"  # kept as they are in a path, besides letters, digits and "_.-"


def place(cell: Cell, protocol: int = PROTOCOL) -> Path:
    """Return where a cell's record is, relative to its folder or packed file."""
    parts = [_quoted(part) for part in (cell.dataset, cell.defense, cell.attack)]
    return Path(*parts, f"seed-{cell.seed}-{cell.key_under(protocol)}.json")


def _quoted(part: str) -> str:
    quoted = quote(part, safe=SAFE).replace("~", "%7E")
    if quoted.startswith("."):  # names that are hidden, or lead elsewhere
        quoted = "%2E" + quoted[1:]
    return quoted if len(quoted) <= LONGEST else _shortened(quoted)


def _shortened(name: str) -> str:
    """Cut a name that is too long, and end it with `~`, which no other name contains, and a digest of the whole."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:DIGITS]
    return f"{name[: LONGEST - DIGITS - 1]}~{digest}"
