"""Folders as people have them: links, hidden and unreadable files, pipes, damaged records; one costs no other."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agrbench.cells import Cell
from agrbench.cli import main
from agrbench.errors import RecordError
from agrbench.plugins.registry import Registry
from agrbench.results.record import Record
from agrbench.results.store import Store, collect, read, readable, sift
from agrbench.results.writing import Unwritable
from agrbench.simulation import grid
from tests.helpers.commands import agrbench
from tests.helpers.records import fill, finished, stored

CELL = Cell("digits", "krum", "none", rounds=20)


def made(seed: int = 0) -> Record:
    return finished(Cell("digits", "krum", "none", seed, rounds=20), [0.1, 0.5, 0.5])


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


# What is read


def test_linked_folders_are_read_as_the_grid_reads_them(tmp_path: Path) -> None:
    fill(tmp_path / "disk", [made()])
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "digits").symlink_to(tmp_path / "disk" / "digits")
    assert Store(tmp_path / "records").read(CELL) == made()
    assert list(stored(tmp_path / "records").values()) == [made()]
    (tmp_path / "link").symlink_to(tmp_path / "records")
    assert list(stored(tmp_path / "link").values()) == [made()]


def test_links_in_a_circle_are_followed_once(tmp_path: Path) -> None:
    folder = fill(tmp_path / "records", [made(), made(1)])
    for name in ("digits/up", "digits/krum/around"):
        (folder / name).symlink_to(folder)
    for place in range(20):  # of which each leads to all others
        (folder / "digits" / f"link{place}").symlink_to(folder / "digits")
    (folder / "itself.json").symlink_to(folder / "itself.json")
    records, (refused,) = sift([folder])
    assert len(records) == 2
    assert str(refused).startswith(f"{folder / 'itself.json'}: cannot be read")


@pytest.mark.parametrize("name", ["._seed-0.json", ".ipynb_checkpoints/seed-0.json", ".git/a/b.json", ".json"])
def test_hidden_files_and_folders_are_skipped(name: str, tmp_path: Path) -> None:
    path = Store(tmp_path).write(made())
    hidden = path.parent / name
    hidden.parent.mkdir(parents=True, exist_ok=True)
    hidden.write_bytes(b"\x00\x05\x16\x07")  # as macOS leaves beside every file on a disk that is not its own
    assert list(stored(tmp_path).values()) == [made()]


@contextlib.contextmanager
def ordinary() -> Iterator[None]:
    """Act as a user who is not root, whom every folder would be open to."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """Make a folder that other users can enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for each in folder.rglob("*"):
        each.chmod(0o755)
    shutil.rmtree(folder)


def test_an_unreadable_folder_is_named_and_the_others_are_read(public: Path) -> None:
    fill(public, [made(), finished(Cell("digits", "median", "none", rounds=20), [0.1, 0.5, 0.5])])
    closed = public / "digits" / "median"
    closed.chmod(0)
    with ordinary():
        records, (refused,) = sift([public])
        assert [record for _, record in records] == [made()]
        assert str(refused) == f"{closed}: cannot be read (Permission denied); allow it, or move it away"
        assert Store(public).read(Cell("digits", "median", "none", rounds=20)) is None


def test_a_folder_that_is_read_only_is_told_before_anything_is_computed(public: Path) -> None:
    with ordinary():
        for attempt in (Store(public).prepare, lambda: Store(public).write(made())):
            with pytest.raises(Unwritable, match="cannot be written \\(Permission denied\\)"):
                attempt()


@pytest.fixture(params=["pipe", "socket", "device"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Put what is no plain file where the record of a cell goes."""
    path = Store(tmp_path / "records").path(CELL)
    path.parent.mkdir(parents=True)
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(path.parent):
        if request.param == "socket":
            listening.bind(path.name)
        yield path


def test_what_is_no_plain_file_is_refused_and_never_read(odd: Path, tmp_path: Path) -> None:
    attempts: list[Callable[[], object]] = [lambda: read(odd), lambda: Store(tmp_path / "records").read(CELL)]
    for attempt in attempts:
        with pytest.raises(RecordError, match="no plain file; move it elsewhere"):
            attempt()
    Store(tmp_path / "records").write(made(1))
    records, (refused,) = sift([tmp_path / "records"])
    assert [record for _, record in records] == [made(1)]
    assert str(odd) in str(refused)
    packed = tmp_path / "pipe.jsonl"
    os.mkfifo(packed)
    with pytest.raises(RecordError, match="no such folder"):
        list(collect([packed]))
    done = run("pack", tmp_path / "records", packed)
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: ")
    assert run("show", odd).exit_code == 2


# One damaged file costs no other


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Fill a folder with two whole records and three files that are none."""
    folder = fill(tmp_path / "mixed", [made(seed) for seed in range(3)])
    path = Store(folder).path(CELL)
    path.write_text(path.read_text()[:100])
    (folder / "notes.json").write_text("{")
    os.mkfifo(folder / "digits" / "pipe.json")
    return folder


REFUSED = ("seed-0-", "notes.json: not JSON", "pipe.json: no plain file")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["table", "MIXED", "--metric", "loss"], 0),
        (["pack", "MIXED", "OUT/all.jsonl"], 1),
        (["compare", "MIXED", "MIXED"], 2),
        (["leaderboard", "publish", "MIXED", "--to", "OUT"], 1),
    ],
    ids=lambda words: words[0] if isinstance(words, list) else "",
)
def test_every_command_names_each_file_that_is_none_and_goes_on(
    words: list[str], code: int, mixed: Path, tmp_path: Path
) -> None:
    (tmp_path / "out" / "records").mkdir(parents=True)
    done = run(*(word.replace("MIXED", str(mixed)).replace("OUT", str(tmp_path / "out")) for word in words))
    assert done.exit_code == code, done.output
    for refused in REFUSED:
        assert refused in done.output


def test_the_library_warns_of_each_file_that_is_none(mixed: Path) -> None:
    with pytest.warns(UserWarning, match="left out: ") as told:
        assert [record for _, record in readable([mixed])] == [made(1), made(2)]
    assert len(told) == 3


def test_a_grid_computes_a_damaged_record_again_and_no_other(mixed: Path) -> None:
    cells = [Cell.from_json(made(seed)["cell"]) for seed in range(3)]
    with pytest.warns(UserWarning, match="seed-0-.*: not JSON"):
        assert grid.plan(cells, Registry(), Store(mixed)).waiting == (cells[0],)


def test_a_grid_leaves_a_record_of_a_newer_schema_alone(tmp_path: Path) -> None:
    Store(tmp_path).write(made() | {"schema": 99})
    with pytest.raises(RecordError, match="upgrade agrbench"):
        grid.plan([CELL], Registry(), Store(tmp_path))


# Disks that are full


LIMITED = """
import sys, pathlib
from tests.helpers.records import fill
from tests.results.test_odd_folders import made
try:
    fill(pathlib.Path(sys.argv[1]), [made(seed) | {"traceback": "x" * 20_000 * seed} for seed in range(4)])
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def limit() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))


def told_full(folder: Path, limited: bool) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder)],
        preexec_fn=limit if limited else None,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert not list(folder.rglob("*.part"))
    return done.stderr


def test_a_record_that_is_too_large_for_the_disk_costs_no_other(tmp_path: Path) -> None:
    told = told_full(tmp_path, limited=True)
    assert "Unwritable: " in told
    assert "seed-3-" in told
    assert "File too large" in told
    assert sorted(record["cell"]["seed"] for record in stored(tmp_path).values()) == [0, 1, 2]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 100 KiB, where the user may."""
    folder = tmp_path / "small"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=100k", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("this user cannot mount a disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_in_a_sentence_and_what_was_written_is_kept(small: Path) -> None:
    told = told_full(small / "records", limited=False)
    assert "No space left on device" in told
    kept = [record["cell"]["seed"] for record in stored(small / "records").values()]
    assert 0 < len(kept) < 4
    (small / "rest").write_bytes(b"")
    with contextlib.suppress(OSError), (small / "rest").open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(512))
    with pytest.raises(Unwritable, match="No space left"):
        Store(small / "records").prepare()


def test_a_pack_onto_a_full_disk_keeps_the_packed_file_that_was_there(small: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "records", [made()])
    assert run("pack", folder, small / "all.jsonl").exit_code == 0
    before = (small / "all.jsonl").read_bytes()
    fill(folder, [made(1) | {"traceback": "x" * 200_000}])
    done = agrbench("pack", folder, small / "all.jsonl", ok=2)
    assert "No space left on device" in done.stderr
    assert (small / "all.jsonl").read_bytes() == before
    assert [path.name for path in small.iterdir()] == ["all.jsonl"]
