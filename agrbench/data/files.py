"""Find, fetch and read data files; a published file is used only if its checksum matches.

Files are looked up in the data folder (`AGRBENCH_DATA`), then in the user's cache, and are downloaded otherwise.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import stat
import tarfile
import tempfile
import time
import zlib
from contextlib import ExitStack
from functools import cache as cached
from pathlib import Path
from typing import Any, BinaryIO

from agrbench.data.sources import File, Folder, Source
from agrbench.errors import DataError
from agrbench.progress import progress

FOLDER = "AGRBENCH_DATA"
LIMIT = 1 << 31  # most bytes that are downloaded, or read from one compressed file or archive member
SILENCE = 30.0  # seconds without a byte after which a download ends
LONGEST = 3600.0  # seconds that a download may take


class _Endless(Exception):
    """Stop a download that goes on for too long."""


class _Bounded:
    """Write to a stream what a server sends, up to a size and a time."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.left, self.end = stream, LIMIT, time.monotonic() + LONGEST

    def write(self, chunk: bytes) -> None:
        """Write what came."""
        self.left -= len(chunk)
        if self.left < 0:
            raise _Endless(f"it sends more than {LIMIT} bytes")
        if time.monotonic() > self.end:
            raise _Endless(f"it takes more than {LONGEST:g} seconds")
        self.stream.write(chunk)

    def flush(self) -> None:
        """Leave it to the stream."""


def cache() -> Path:
    """Return the path of the user's cache folder."""
    import pooch

    return Path(pooch.os_cache("agrbench"))


def find(item: File | Folder) -> Path | None:
    """Return the path of a verified file, or of a folder that has its files; `None` if it is missing.

    Raises:
        DataError: the file's checksum is not the published one, or a file of the folder is truncated.
    """
    for path in _places(item):
        if isinstance(item, Folder):
            if inside(path, item.pattern):
                return whole(path, item)
        elif _plain(path):
            return verified(path, item)
    return None


def fetch(item: File | Folder) -> Path:
    """Find a file or folder, or download the file into the user's cache.

    Raises:
        DataError: it is damaged, or missing and not downloadable; the message says how to get it and where to put it.
    """
    found = find(item)
    if found is not None:
        return found
    if isinstance(item, Folder):
        raise DataError(f"{item.path} is not at hand; {item.how}")
    return download(item)


def download(file: File) -> Path:
    """Download a file into the user's cache, where it gets its name only once its checksum is verified.

    Raises:
        DataError: it is not to be had, is not what was published, or does not end within `LIMIT` bytes and `LONGEST`
            seconds.
    """
    target = cache() / file.path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder, progress(f"downloading {file.url}", 1):
            part = Path(folder) / target.name
            _receive(file.url, part)
            why = _mismatch(part, file)
            if not why:
                return part.replace(target)
    except _Endless as error:
        raise _unavailable(file, target, str(error)) from error
    except Exception as error:
        raise _unavailable(file, target, type(error).__name__) from error
    raise _unavailable(file, target, f"of what came {why}")


def _receive(url: str, part: Path) -> None:
    import pooch

    with part.open("xb") as stream, ExitStack() as opened:

        def close_later(response: Any, **_: Any) -> None:
            opened.callback(response.close)  # pooch leaves it open if an error ends the download

        hooks = {"response": close_later}
        pooch.HTTPDownloader(timeout=SILENCE, hooks=hooks)(url, _Bounded(stream), None)


def verified(path: Path, file: File) -> Path:
    """Return the path, or raise DataError if the file's checksum is not the published one."""
    why = _mismatch(path, file)
    if why:
        raise corrupt(path, f"{why}; get it again from {file.url}")
    return path


def whole(path: Path, folder: Folder) -> Path:
    """Return the path, or raise DataError if a file of the folder does not end as a complete one does."""
    for file in inside(path, folder.pattern):
        if not _plain(file):
            raise _odd(file)
        with file.open("rb") as stream:
            stream.seek(max(file.stat().st_size - 100, 0))
            if not stream.read().rstrip().endswith(folder.end):
                raise DataError(f"{file}: it was cut, for it does not end in {folder.end.decode()!r}; make it again")
    return path


def inside(folder: Path, pattern: str) -> list[Path]:
    """List the files of a folder, sorted; hidden ones belong to editors and systems."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def blob(path: Path) -> str:
    """Compute git's blob id of a file: the SHA-1 of a header with its size, followed by its content."""
    with path.open("rb") as stream:
        head = b"blob %d\0" % path.stat().st_size
        return hashlib.file_digest(stream, lambda: hashlib.sha1(head, usedforsecurity=False)).hexdigest()


def sha256(path: Path) -> str:
    """Compute a file's SHA-256."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def kind(path: Path) -> int:
    """Return what a path leads to, as `stat.S_IFMT` says; 0 if it leads nowhere or cannot be followed."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except (OSError, ValueError):
        return 0


def is_file(path: Path) -> bool:
    """Return whether a path leads to a plain file; false, not an error, if it cannot be followed."""
    return kind(path) == stat.S_IFREG


def content(path: Path) -> str:
    """Return the SHA-256 of a file, computed again only if its size or date changed; empty if it is missing."""
    if not path.is_file():
        return ""
    told = path.stat()
    return _content(path.resolve(), told.st_size, told.st_mtime_ns)


@cached
def _content(path: Path, size: int, changed: int) -> str:
    return sha256(path)


def member(path: Path, name: str) -> bytes:
    """Read one member of a tar archive into memory, without writing to disk.

    Raises:
        DataError: the archive is damaged, or the member is not a plain file of at most `LIMIT` bytes.
    """
    try:
        with tarfile.open(path) as archive:
            info = archive.getmember(name)
            stream = archive.extractfile(info) if info.isfile() and info.size <= LIMIT else None
            if stream is None:
                raise corrupt(path, f"its member {name!r} is no plain file of at most {LIMIT} bytes")
            content = stream.read()
            while archive.fileobj and archive.fileobj.read(1 << 20):
                pass  # a compressed archive's own checksum comes at its end
            return content
    except (tarfile.TarError, KeyError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise corrupt(path, f"{name!r} cannot be read from it ({type(error).__name__})") from error


def unzipped(path: Path, limit: int = LIMIT) -> bytes:
    """Read a gzip file into memory.

    Raises:
        DataError: it is damaged, or holds more than `limit` bytes.
    """
    try:
        with gzip.open(path) as stream:
            content = stream.read(limit + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise corrupt(path, f"it cannot be decompressed ({type(error).__name__})") from error
    if len(content) > limit:
        raise corrupt(path, f"it holds more than {limit} bytes")
    return content


def files(name: str, source: Source) -> tuple[File | Folder, ...]:
    """List the files and folders that a dataset is read from.

    Raises:
        DataError: the dataset has no files.
    """
    if not source.needed:
        raise DataError(f"{name} has no files: it comes with an installed package or is generated, always at hand")
    return source.needed


def advice(name: str, item: File | Folder) -> str:
    """Explain how to obtain a file or folder of a dataset."""
    how = f"write `agrbench data get {name}`, or name its folder by --data-dir"
    return item.how if isinstance(item, Folder) else how


def at_hand(source: Source) -> bool:
    """Return whether all files of a dataset are present."""
    return all(find(item) is not None for item in source.needed)


def state(source: Source) -> str:
    """Describe in a few words whether a dataset's files are present."""
    if not source.needed:
        return "embedded, always at hand"
    try:
        absent = [item.path for item in source.needed if find(item) is None]
    except DataError as error:
        return f"damaged: {error}"
    return f"absent: {', '.join(absent)}" if absent else "present"


def corrupt(path: Path, why: str) -> DataError:
    """Return the error that a data file is corrupt, and why."""
    return DataError(f"{path}: {why}; delete it and fetch it again")


def _places(item: File | Folder) -> list[Path]:
    named = os.environ.get(FOLDER)
    places = [Path(named) / item.path] if named else []
    if named and isinstance(item, File):
        places.append(Path(named) / Path(item.path).name)
    return [*places, cache() / item.path]


def _plain(path: Path) -> bool:
    """Return whether there is a plain file; pipes, sockets and devices are refused, since reading may never end."""
    if kind(path) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _odd(path)
    return is_file(path)


def _odd(path: Path) -> DataError:
    return DataError(f"{path}: it is no plain file; put the file itself there")


def _mismatch(path: Path, file: File) -> str:
    given = sha256(path) if file.sha256 else blob(path)
    return "" if given == file.checksum else f"its {file.kind} is {given}, the publisher's {file.checksum}"


def _unavailable(file: File, target: Path, why: str) -> DataError:
    return DataError(
        f"{file.path} is not at hand and could not be downloaded ({why}). "
        f"Get {file.url} ({file.kind} {file.checksum}) and put it at {target}, "
        f"or put it at DIR/{file.path} and write --data-dir DIR"
    )
