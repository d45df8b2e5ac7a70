"""Data files: nothing is trusted before its checksum holds, and nothing is unpacked to disk."""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import hashlib
import http.server
import io
import lzma
import os
import re
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, cast

import pooch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrbench.data import files
from agrbench.errors import DataError
from agrbench.plugins import File, Folder, Source
from agrbench.plugins.registry import Registry

CONTENT = b"label,1,0,1\n" * 100
SUM = hashlib.sha256(CONTENT).hexdigest()
BLOB = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
FILE = File("made/table.bin", "https://data.example.org/table.bin", SUM)


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Start in an empty folder without data folder, with an empty user cache and without network."""
    monkeypatch.delenv(files.FOLDER, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", offline)
    return tmp_path


def place(folder: Path, path: str, content: bytes = CONTENT) -> Path:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


# Where a file is looked for


@pytest.mark.parametrize("path", ["made/table.bin", "table.bin"])
def test_a_file_is_found_in_the_data_folder_by_its_path_and_by_its_bare_name(
    path: str, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = place(away / "data", path)
    assert files.find(FILE) is None
    monkeypatch.setenv(files.FOLDER, str(away / "data"))
    assert files.find(FILE) == files.fetch(FILE) == target
    assert target.read_bytes() == CONTENT


def test_the_path_goes_before_the_bare_name_and_the_data_folder_before_the_cache(
    away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = place(files.cache(), FILE.path)
    assert files.find(FILE) == cached
    monkeypatch.setenv(files.FOLDER, str(away / "data"))
    bare = place(away / "data", "table.bin")
    assert files.find(FILE) == bare
    full = place(away / "data", FILE.path)
    assert files.find(FILE) == full


def test_the_user_s_cache_folder_is_used(away: Path) -> None:
    assert files.cache() == away / "cache" / "agrbench"
    cached = place(away / "cache" / "agrbench", FILE.path)
    assert files.fetch(FILE) == cached


@pytest.mark.parametrize("folder", ["absent", ""])
def test_a_data_folder_without_the_file_changes_nothing(
    folder: str, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(files.FOLDER, str(away / folder) if folder else "")
    assert files.find(FILE) is None
    cached = place(files.cache(), FILE.path)
    assert files.find(FILE) == cached


@pytest.mark.parametrize("where", ["data folder", "data folder, bare", "cache"])
def test_a_file_of_another_checksum_is_refused_by_name_with_both_sums(
    where: str, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(files.FOLDER, str(away / "data"))
    folder = files.cache() if where == "cache" else away / "data"
    wrong = CONTENT[:-1] + b"!"
    target = place(folder, "table.bin" if where.endswith("bare") else FILE.path, wrong)
    for look in (files.find, files.fetch):
        with pytest.raises(DataError) as refused:
            look(FILE)
        for said in (str(target), SUM, hashlib.sha256(wrong).hexdigest(), FILE.url):
            assert said in str(refused.value)
    assert target.read_bytes() == wrong
    assert files.state(Source("none", (FILE,))).startswith(f"damaged: {target}")


def test_an_absent_file_without_network_gives_one_error_that_says_what_to_get_and_where_to_put_it(away: Path) -> None:
    with pytest.raises(DataError) as refused:
        files.fetch(FILE)
    said = str(refused.value)
    assert len(said.splitlines()) == 1
    for part in (FILE.url, FILE.sha256, str(away / "cache" / "agrbench" / "made" / "table.bin"), "--data-dir DIR"):
        assert part in said
    assert "DIR/made/table.bin" in said
    assert not list((away / "work").iterdir())


def test_putting_the_file_where_the_error_says_mends_it(away: Path) -> None:
    with pytest.raises(DataError) as refused:
        files.fetch(FILE)
    target = Path(str(refused.value).partition("put it at ")[2].partition(",")[0])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(CONTENT)
    assert files.fetch(FILE) == target


def test_the_state_of_a_dataset_s_files_is_told_in_words(away: Path) -> None:
    assert files.state(Source("CC0")) == "embedded, always at hand"
    other = File("made/other.bin", "https://data.example.org/other.bin", SUM)
    source = Source("CC0", (FILE, other))
    assert files.state(source) == "absent: made/table.bin, made/other.bin"
    place(files.cache(), FILE.path)
    assert files.state(source) == "absent: made/other.bin"
    place(files.cache(), other.path)
    assert files.state(source) == "present"


def test_an_embedded_dataset_has_no_files_to_get() -> None:
    with pytest.raises(DataError, match="digits has no files"):
        files.files("digits", Source("CC BY 4.0"))
    assert files.files("made", Source("CC0", (FILE,))) == (FILE,)


# Checksums


@given(content=st.binary(max_size=300))
def test_a_git_blob_id_is_what_git_gives(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = place(tmp_path_factory.mktemp("blob"), "a", content)
    assert files.blob(path) == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def test_git_blob_ids_that_others_publish_are_found(tmp_path: Path, at_hand: Path) -> None:
    assert files.blob(place(tmp_path, "empty", b"")) == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert files.blob(at_hand) == "0cfc2caa0c8c8569cd68a5d4ab369a98c1f98447"


def test_a_file_of_another_git_blob_id_is_refused_by_name_with_both_ids(
    away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(files.FOLDER, str(away / "data"))
    file = File(FILE.path, FILE.url, blob=BLOB)
    target = place(away / "data", FILE.path)
    assert files.find(file) == target
    place(away / "data", FILE.path, CONTENT[:-1])
    with pytest.raises(DataError, match=f"its git blob id is {files.blob(target)}, the publisher's {BLOB}"):
        files.find(file)


@pytest.mark.parametrize("sums", [{}, {"sha256": SUM, "blob": BLOB}])
def test_a_file_has_exactly_one_checksum(sums: dict[str, str]) -> None:
    with pytest.raises(TypeError, match="either sha256= or blob="):
        File(FILE.path, FILE.url, **sums)


# Folders that a user makes


def test_a_folder_is_at_hand_when_a_file_in_it_counts(away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder("made/train", "*.json", "make it by the script and write --data-dir DIR")
    place(away / "data", "made/train/notes.txt")
    monkeypatch.setenv(files.FOLDER, str(away / "data"))
    with pytest.raises(DataError) as refused:
        files.fetch(folder)
    assert str(refused.value) == "made/train is not at hand; make it by the script and write --data-dir DIR"
    cached = place(files.cache(), "made/train/a.json").parent
    assert files.find(folder) == files.fetch(folder) == cached
    named = place(away / "data", "made/train/a.json").parent
    assert files.find(folder) == named


# Compressed files


def test_a_gzip_file_is_read_whole_up_to_the_limit(tmp_path: Path) -> None:
    path = place(tmp_path, "a.gz", gzip.compress(CONTENT))
    assert files.unzipped(path, len(CONTENT)) == CONTENT
    with pytest.raises(DataError, match=f"holds more than {len(CONTENT) - 1} bytes"):
        files.unzipped(path, len(CONTENT) - 1)


def test_a_gzip_file_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = place(tmp_path, "a.gz", gzip.compress(bytes(1 << 20)) * 20)
    with pytest.raises(DataError, match="holds more than 1000 bytes"):
        files.unzipped(path, 1000)


@pytest.mark.parametrize("damage", ["cut", "crc", "empty", "text", "absent"])
def test_a_damaged_gzip_file_is_refused_by_name(damage: str, tmp_path: Path) -> None:
    whole = gzip.compress(hashlib.shake_256(b"noise").digest(5000))
    content = {"cut": whole[:-9], "crc": whole[:-5] + b"\0" + whole[-4:], "empty": b"", "text": CONTENT}
    path = tmp_path / "a.gz"
    if damage in content:
        path.write_bytes(content[damage])
    if damage == "empty":
        assert files.unzipped(path) == b""  # as gzip does; what reads it refuses it
        return
    with pytest.raises(DataError, match=re.escape(str(path))):
        files.unzipped(path)


# Downloading, from a server on this machine


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """Serve a folder; give it and its address."""
    monkeypatch.delenv(files.FOLDER, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("sums", [{"sha256": SUM}, {"blob": BLOB}])
def test_a_download_lands_in_the_cache_and_is_not_repeated(sums: dict[str, str], served: tuple[Path, str]) -> None:
    folder, address = served
    source = place(folder, "table.bin")
    file = File("made/table.bin", f"{address}/table.bin", **sums)
    target = files.fetch(file)
    assert target == files.cache() / "made" / "table.bin"
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]
    source.unlink()
    assert files.fetch(file) == target


@pytest.mark.parametrize("sums", [{"sha256": SUM}, {"blob": BLOB}])
@pytest.mark.parametrize("content", [b"", CONTENT[:-1], b"<html>gone</html>"])
def test_a_download_of_another_checksum_is_refused_and_not_kept(
    content: bytes, sums: dict[str, str], served: tuple[Path, str]
) -> None:
    folder, address = served
    place(folder, "table.bin", content)
    file = File("made/table.bin", f"{address}/table.bin", **sums)
    with pytest.raises(DataError) as refused:
        files.fetch(file)
    assert file.url in str(refused.value)
    assert f"({file.kind} {file.checksum})" in str(refused.value)
    assert files.find(file) is None
    assert not list((files.cache() / "made").iterdir())
    place(folder, "table.bin")
    assert files.fetch(file).read_bytes() == CONTENT


def test_an_address_that_is_gone_gives_the_same_error(served: tuple[Path, str]) -> None:
    _, address = served
    with pytest.raises(DataError, match="could not be downloaded"):
        files.fetch(File("made/table.bin", f"{address}/gone.bin", SUM))


class Endless(Quiet):
    """Send noise for as long as somebody listens, or say nothing at all, as the path asks."""

    sent = 0
    over = threading.Event()

    def do_GET(self) -> None:
        if "silent" in self.path:
            self.over.wait(60)
            return
        self.send_response(200)
        if "claimed" in self.path:
            self.send_header("Content-Length", str(1 << 50))
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.over.is_set():
                self.wfile.write(bytes(64 if "slow" in self.path else 1 << 16))
                Endless.sent += 1 << 16
                self.over.wait(0.01 if "slow" in self.path else 0)


@pytest.fixture
def endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve what never ends, under limits that a test can wait for."""
    monkeypatch.delenv(files.FOLDER, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(files, "LIMIT", 1 << 20)
    monkeypatch.setattr(files, "SILENCE", 0.5)
    monkeypatch.setattr(files, "LONGEST", 1.0)
    Endless.sent = 0
    Endless.over.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        Endless.over.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("name", "why", "seconds"),
    [
        ("endless", "it sends more than 1048576 bytes", 3),
        ("claimed", "it sends more than 1048576 bytes", 3),
        ("silent", "ReadTimeout", 3),
        ("slow", "it takes more than 1 seconds", 5),
    ],
)
def test_a_server_that_never_ends_is_left(name: str, why: str, seconds: float, endless: str) -> None:
    began = time.monotonic()
    with pytest.raises(DataError) as refused:
        files.fetch(File("made/table.bin", f"{endless}/{name}", SUM))
    assert time.monotonic() - began < seconds
    assert f"could not be downloaded ({why})" in str(refused.value)
    assert not list((files.cache() / "made").iterdir())
    assert Endless.sent < 1 << 25


def test_a_cache_that_cannot_be_written_is_told_in_a_sentence(served: tuple[Path, str]) -> None:
    folder, address = served
    place(folder, "table.bin")
    files.cache().parent.mkdir(parents=True)
    files.cache().write_text("a file where a folder should be")
    with pytest.raises(DataError, match="could not be downloaded"):
        files.fetch(File("made/table.bin", f"{address}/table.bin", SUM))


# What is there and is no plain file


@pytest.fixture(params=["pipe", "socket", "device"])
def odd(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], None]]:
    """Put what is no plain file at a path."""
    sockets: list[socket.socket] = []

    def make(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if request.param == "pipe":
            os.mkfifo(path)
        elif request.param == "device":
            path.symlink_to("/dev/zero")
        else:
            sockets.append(socket.socket(socket.AF_UNIX))
            here = Path.cwd()
            os.chdir(path.parent)  # the address of a socket is short
            sockets[-1].bind(path.name)
            os.chdir(here)

    yield make
    for each in sockets:
        each.close()


def test_a_data_file_that_is_no_plain_file_is_refused_and_never_read(
    odd: Callable[[Path], None], away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(files.FOLDER, str(away / "data"))
    path = away / "data" / FILE.path
    odd(path)
    for look in (files.find, files.fetch):
        with pytest.raises(DataError, match="it is no plain file; put the file itself there") as refused:
            look(FILE)
        assert str(path) in str(refused.value)
    assert files.state(Source("none", (FILE,))).startswith("damaged: ")


def test_a_folder_with_what_is_no_plain_file_is_refused_and_never_read(
    odd: Callable[[Path], None], away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(files.FOLDER, str(away / "data"))
    folder = Folder("made/train", "*.json", "make it", b"}")
    place(away / "data", "made/train/a.json", b"{}")
    odd(away / "data" / "made" / "train" / "b.json")
    with pytest.raises(DataError, match=r"b\.json: it is no plain file"):
        files.fetch(folder)


def test_hidden_files_of_a_folder_are_skipped(away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(files.FOLDER, str(away / "data"))
    folder = Folder("made/train", "*.json", "make it", b"}")
    place(away / "data", "made/train/._a.json", b"\0\5\x16\7")
    assert files.find(folder) is None
    place(away / "data", "made/train/a.json", b"{}")
    assert files.find(folder) == away / "data" / "made" / "train"


# Archives

Member = tuple[str, bytes | None, bytes]  # its name, its content or None, its type


def archive(path: Path, *members: Member, mode: str = "w:gz", links_to: str = "/etc/hostname") -> Path:
    with tarfile.open(str(path), cast(Literal["w"], mode)) as opened:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.size = len(content or b"")
            info.linkname = "" if kind == tarfile.REGTYPE else links_to
            opened.addfile(info, io.BytesIO(content or b""))
    return path


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.fixture
def untouched(away: Path) -> Iterator[Path]:
    """Give a folder to put an archive in, and see to it that nothing else appears anywhere around."""
    box = away / "box"
    box.mkdir()
    around = everything(away)
    yield box
    after = everything(away)
    assert {name: each for name, each in after.items() if not name.startswith("box/")} == around
    assert all(Path(name).name.startswith("a.") for name in after if name.startswith("box/"))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_member_is_read_whole_into_memory(mode: str, untouched: Path) -> None:
    path = archive(
        untouched / "a.tar", ("other", b"x", tarfile.REGTYPE), ("table", CONTENT, tarfile.REGTYPE), mode=mode
    )
    assert files.member(path, "table") == CONTENT
    assert files.member(path, "other") == b"x"


def test_an_empty_member_is_empty(untouched: Path) -> None:
    assert files.member(archive(untouched / "a.tgz", ("table", b"", tarfile.REGTYPE)), "table") == b""


def refused(path: Path, name: str = "table") -> str:
    with pytest.raises(DataError) as error:
        files.member(path, name)
    assert str(path) in str(error.value)
    assert repr(name) in str(error.value)
    assert "delete it and fetch it again" in str(error.value)
    return str(error.value)


def test_a_missing_member_is_refused(untouched: Path) -> None:
    path = archive(untouched / "a.tgz", ("other", CONTENT, tarfile.REGTYPE))
    refused(path)
    refused(path, "")
    refused(path, "OTHER")


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE],
    ids=["symbolic link", "hard link", "folder", "pipe", "character device", "block device"],
)
@pytest.mark.parametrize("target", ["/etc/hostname", "../work", "other"])
def test_a_member_that_is_no_plain_file_is_refused(kind: bytes, target: str, untouched: Path) -> None:
    """A link may point at a file of this machine, or at another member that was never asked for."""
    members = (("other", b"not asked for", tarfile.REGTYPE), ("table", None, kind))
    refused(archive(untouched / "a.tgz", *members, links_to=target))


@pytest.mark.parametrize("name", ["../table", "/table", "./../table", "box/../../table", "./table", "table/"])
def test_a_member_of_another_path_is_not_the_one_asked_for(name: str, untouched: Path) -> None:
    refused(archive(untouched / "a.tgz", (name, b"evil", tarfile.REGTYPE), ("x", b"", tarfile.REGTYPE)))


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "box/../../escaped"])
def test_a_member_whose_name_leaves_the_folder_is_refused_or_read_into_memory_only(name: str, untouched: Path) -> None:
    path = archive(untouched / "a.tgz", (name, b"evil", tarfile.REGTYPE), ("table", CONTENT, tarfile.REGTYPE))
    assert files.member(path, "table") == CONTENT
    try:
        assert files.member(path, name) == b"evil"
    except DataError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_archive_is_refused(mode: str, share: float, untouched: Path) -> None:
    content = hashlib.shake_256(b"noise").digest(20_000)
    path = archive(untouched / "a.tar", ("table", content, tarfile.REGTYPE), mode=mode)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(content))])
    refused(path)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no archive at all\n" * 100, id="text"),
        pytest.param(gzip.compress(b"no archive at all\n" * 100), id="compressed text"),
        pytest.param(b"\x1f\x8b\x08\x00" + b"\xff" * 1000, id="bad deflate"),
        pytest.param(b"PK\x03\x04" + b"\0" * 1000, id="zip"),
        pytest.param(b"\0" * 10_240, id="zeros"),
        pytest.param(b"BZh9" + b"\xff" * 1000, id="bad bzip2"),
        pytest.param(b"\xfd7zXZ\x00" + b"\xff" * 1000, id="bad xz"),
    ],
)
def test_what_is_no_archive_is_refused(content: bytes, untouched: Path) -> None:
    path = untouched / "a.tgz"
    path.write_bytes(content)
    refused(path)


def test_a_file_that_is_not_there_is_refused(untouched: Path) -> None:
    refused(untouched / "a.tgz")


def test_a_header_that_claims_more_than_there_is_is_refused(untouched: Path) -> None:
    for size in (10_000, files.LIMIT, files.LIMIT + 1, 1 << 60):
        info = tarfile.TarInfo("table")
        info.size = size
        path = untouched / "a.tar"
        path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"x" * 512)
        refused(path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("byte", [b"\x00", b"\xff", b"\x55"])
def test_an_archive_damaged_in_the_middle_is_read_or_refused(mode: str, byte: bytes, untouched: Path) -> None:
    content = hashlib.shake_256(b"noise").hexdigest(200_000).encode()
    path = archive(untouched / "a.tar", ("table", content, tarfile.REGTYPE), mode=mode)
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + byte * 2_000 + whole[middle + 2_000 :])
    if mode == "w":  # a bare archive has no checksum of its contents
        assert len(files.member(path, "table")) == len(content)
    else:
        refused(path)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize(
    "damage", [b"\x00" * 2_000, hashlib.shake_256(b"damage").digest(2_000)], ids=["zeros", "noise"]
)
def test_an_archive_damaged_behind_its_last_member_is_refused(
    compress: Callable[[bytes], bytes], damage: bytes, untouched: Path
) -> None:
    path = archive(untouched / "a.tar", ("table", CONTENT, tarfile.REGTYPE), mode="w")
    whole = compress(path.read_bytes() + hashlib.shake_256(b"noise").hexdigest(400_000).encode())
    assert len(whole) > 300_000
    path.write_bytes(whole)
    assert files.member(path, "table") == CONTENT
    path.write_bytes(whole[:-50_000] + damage + whole[-48_000:])
    refused(path)


@given(place=st.integers(0, 10**9), byte=st.integers(1, 255), mode=st.sampled_from(["w", "w:gz", "w:bz2", "w:xz"]))
def test_an_archive_with_one_changed_byte_is_read_or_refused(
    place: int, byte: int, mode: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = archive(tmp_path_factory.mktemp("box") / "a.tar", ("table", CONTENT, tarfile.REGTYPE), mode=mode)
    whole = bytearray(path.read_bytes())
    whole[place % len(whole)] ^= byte
    path.write_bytes(whole)
    try:
        assert isinstance(files.member(path, "table"), bytes)
    except DataError as error:
        assert str(path) in str(error)


@pytest.fixture(scope="module")
def at_hand() -> Path:
    (archive,) = Registry().dataset("location30").record.source.needed
    return files.fetch(archive)
