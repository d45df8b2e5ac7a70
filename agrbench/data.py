"""Find, fetch and read published data files, trusting none of them before their checksum holds.

A file is looked for in the data folder (`AGRBENCH_DATA`), then in the user's cache, and at last downloaded.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import tarfile
import zlib
from pathlib import Path

from agrbench.errors import DataError
from agrbench.plugins import File, Source

FOLDER = "AGRBENCH_DATA"
LIMIT = 1 << 31  # bytes read out of one archive member at most


def cache() -> Path:
    """Name the user's cache folder."""
    import pooch

    return Path(pooch.os_cache("agrbench"))


def find(file: File) -> Path | None:
    """Find a file at hand whose checksum holds.

    Raises:
        DataError: the data folder has the file, but it is not what its publisher made.
    """
    folder = os.environ.get(FOLDER)
    if folder:
        for path in (Path(folder) / file.path, Path(folder) / Path(file.path).name):
            if path.is_file():
                return verified(path, file)
    path = cache() / file.path
    return verified(path, file) if path.is_file() else None


def fetch(file: File) -> Path:
    """Find a file, or download it into the user's cache.

    Raises:
        DataError: it is not at hand and cannot be downloaded; the message says where to put it.
    """
    found = find(file)
    return download(file) if found is None else found


def download(file: File) -> Path:
    """Download a file into the user's cache and check it."""
    import pooch

    target = cache() / file.path
    try:
        pooch.retrieve(file.url, f"sha256:{file.sha256}", fname=target.name, path=target.parent)
    except Exception as error:
        raise DataError(
            f"{file.path} is not at hand and could not be downloaded ({type(error).__name__}). "
            f"Get {file.url} (sha256 {file.sha256}) and put it at {target}, "
            f"or put it at DIR/{file.path} and write --data-dir DIR"
        ) from error
    return target


def verified(path: Path, file: File) -> Path:
    """Give the path back if the file's SHA-256 is the published one."""
    with path.open("rb") as stream:
        given = hashlib.file_digest(stream, "sha256").hexdigest()
    if given != file.sha256:
        raise corrupt(path, f"its sha256 is {given}, the publisher's {file.sha256}; get it again from {file.url}")
    return path


def member(path: Path, name: str) -> bytes:
    """Read one member of a tar archive into memory; nothing is written to disk.

    Raises:
        DataError: the archive is damaged or has no such plain file.
    """
    try:
        with tarfile.open(path) as archive:
            info = archive.getmember(name)
            stream = archive.extractfile(info) if info.isfile() and info.size <= LIMIT else None
            if stream is None:
                raise corrupt(path, f"its member {name!r} is no plain file of at most {LIMIT} bytes")
            content = stream.read()
            while archive.fileobj and archive.fileobj.read(1 << 20):
                pass  # a compressed archive is checked at its end only
            return content
    except (tarfile.TarError, KeyError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise corrupt(path, f"{name!r} cannot be read from it ({type(error).__name__})") from error


def files(name: str, source: Source) -> tuple[File, ...]:
    """List a dataset's files.

    Raises:
        DataError: it has none.
    """
    if not source.files:
        raise DataError(f"{name} has no files: it comes with an installed package and is always at hand")
    return source.files


def at_hand(source: Source) -> bool:
    """Say whether all files of a dataset are here."""
    return all(find(file) is not None for file in source.files)


def state(source: Source) -> str:
    """Say in a few words whether a dataset's files are at hand."""
    if not source.files:
        return "embedded, always at hand"
    try:
        absent = [file.path for file in source.files if find(file) is None]
    except DataError as error:
        return f"damaged: {error}"
    return f"absent: {', '.join(absent)}" if absent else "present"


def corrupt(path: Path, why: str) -> DataError:
    """Describe a data file that is not what it should be."""
    return DataError(f"{path}: {why}; delete it and fetch it again")
