"""Records of where a dataset's files come from: path, address, checksum and licence. Does not import torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """One published file: its path below a data folder, its address, and its SHA-256 or git blob id."""

    path: str
    url: str
    sha256: str = ""
    blob: str = ""

    def __post_init__(self) -> None:
        if bool(self.sha256) == bool(self.blob):
            raise TypeError("a File has either sha256= or blob=, not both and not neither")

    @property
    def kind(self) -> str:
        """Name the kind of checksum that is published."""
        return "sha256" if self.sha256 else "git blob id"

    @property
    def checksum(self) -> str:
        """Return the published checksum."""
        return self.sha256 or self.blob


@dataclass(frozen=True)
class Folder:
    """A folder of unpublished files: its path below a data folder, a pattern for the files, and how to make them.

    `end` is how a complete file ends; it detects truncation, since there is no checksum.
    """

    path: str
    pattern: str
    how: str
    end: bytes = b""


Files = tuple[File | Folder, ...]


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from: its licence, and the files that it is read from.

    `files` is empty if the data is embedded or generated. It may be a function, called at each lookup, if the files
    needed depend on those already present.
    """

    licence: str
    files: Files | Callable[[], Files] = ()

    @property
    def needed(self) -> Files:
        """List the files and folders that the dataset is read from."""
        return self.files() if callable(self.files) else self.files
