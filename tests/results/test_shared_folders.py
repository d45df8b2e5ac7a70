"""Folders that several processes write at once: no collision, no partial record, no rubbish left by the dead."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agrbench.cells import Cell
from agrbench.errors import RecordError
from agrbench.results.packed import write_packed
from agrbench.results.record import Record
from agrbench.results.store import Store, collect
from agrbench.results.writing import STALE, Unwritable, temporary
from tests.helpers.race import together
from tests.helpers.records import finished

CELL = Cell("digits", "krum", "none", rounds=20)
TIMES = 200


def made(level: float = 0.5) -> Record:
    return finished(CELL, [0.1, level, level])


def write_often(folder: Path) -> str:
    """Write one record again and again, each time with another accuracy."""
    for number in range(TIMES):
        Store(folder).write(made(number / TIMES))
    return "written"


def read_always(folder: Path) -> int:
    """Read the record until the writers are done, and count how often; a partial one raises."""
    count, quiet = 0, time.monotonic() + 2
    last = None
    while time.monotonic() < quiet:
        for path, record in collect([folder]) if folder.is_dir() else ():
            count += 1
            if record["accuracy"] != last:
                last, quiet = record["accuracy"], time.monotonic() + 2
            assert path == Store(folder).path(CELL)
    return count


@pytest.mark.parametrize("writers", [2, 4])
def test_processes_that_write_one_record_at_once_leave_it_whole_at_every_moment(writers: int, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    *written, seen = together([*[write_often] * writers, read_always], folder)
    assert written == ["written"] * writers
    assert isinstance(seen, int), seen
    assert seen > 0
    assert [path for path in folder.rglob("*") if path.is_file()] == [Store(folder).path(CELL)]


def test_threads_which_share_a_process_id_do_not_collide(tmp_path: Path) -> None:
    """Containers on one folder may have equal process ids, too."""
    failures: list[str] = []

    def write() -> None:
        try:
            write_often(tmp_path)
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


UNSHARED = ["unshare", "--pid", "--fork", "--mount-proc"]
WRITE = (
    "import sys, pathlib; from tests.results import test_shared_folders as t; t.write_often(pathlib.Path(sys.argv[1]))"
)


def can_unshare() -> bool:
    return bool(shutil.which("unshare")) and not subprocess.run([*UNSHARED, "true"], capture_output=True).returncode


@pytest.mark.skipif(not can_unshare(), reason="this user cannot make process ids of its own, as a container does")
def test_containers_with_equal_process_ids_do_not_collide(tmp_path: Path) -> None:
    words = [*UNSHARED, sys.executable, "-c", WRITE, str(tmp_path)]
    running = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    told = [each.communicate(timeout=120)[1] for each in running]
    assert [each.returncode for each in running] == [0, 0, 0], told


def test_two_that_write_one_packed_file_at_once_leave_it_whole(tmp_path: Path) -> None:
    packed = tmp_path / "all.jsonl"

    def write() -> None:
        for number in range(50):
            write_packed(packed, [made(number / TIMES)])

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert len(list(collect([packed]) if packed.exists() else [made()])) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["all.jsonl"]


def aged(path: Path, seconds: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"schema": 1, "cell"')
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def test_preparing_a_folder_removes_what_dead_processes_left_and_nothing_else(tmp_path: Path) -> None:
    store, deep = Store(tmp_path / "records"), tmp_path / "records" / "digits" / "krum" / "none"
    old = [
        aged(temporary(deep), STALE + 60),
        aged(temporary(store.folder), STALE + 60),
        aged(deep / f"seed-0-{CELL.key}-4711.part", STALE + 60),  # as earlier versions named them
        aged(deep / f"seed-0-{CELL.key}.claim", STALE + 60),
    ]
    young = [aged(temporary(deep), STALE / 2), aged(deep / f"seed-1-{CELL.key}.claim", 60)]
    others = [aged(deep / name, 10 * STALE) for name in ("film.mkv.part", "notes.txt", "deed.claim")]
    record = store.write(made())
    os.utime(record, (1, 1))
    store.prepare()
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in [*young, *others, record])
    assert [record for _, record in collect([store.folder])] == [made()]


LEAVE = (
    "import sys, pathlib; from agrbench.results.writing import temporary; print(temporary(pathlib.Path(sys.argv[1])))"
)


def test_a_temporary_file_goes_as_soon_as_its_writer_is_dead(tmp_path: Path) -> None:
    told = subprocess.run([sys.executable, "-c", LEAVE, str(tmp_path)], capture_output=True, text=True, check=True)
    dead, living = Path(told.stdout.strip()), temporary(tmp_path)
    dead.write_text("half a record")
    living.write_text("half a record")
    Store(tmp_path).prepare()
    assert list(tmp_path.iterdir()) == [living]


def test_a_folder_that_vanished_is_not_silently_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "records")
    store.prepare()
    store.write(made(), create=False)
    shutil.rmtree(store.folder)
    with pytest.raises(Unwritable, match="records: the folder is gone"):
        store.write(made(), create=False)
    assert not store.folder.exists()


def test_records_of_another_protocol_are_kept_beside_those_of_this_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    paths = {store.write(made() | {"protocol": protocol}) for protocol in (0, 1)}
    assert len(paths) == len(list(collect([tmp_path]))) == 2


@pytest.mark.parametrize("ending", [".part", ".claim"])
def test_unfinished_and_claimed_records_are_never_read(ending: str, tmp_path: Path) -> None:
    path = Store(tmp_path).write(made())
    path.with_suffix(ending).write_text(path.read_text())
    assert [found for found, _ in collect([tmp_path])] == [path]


def test_a_name_that_would_be_hidden_is_encoded(tmp_path: Path) -> None:
    path = Store(tmp_path).write(made() | {"cell": Cell("digits", ".krum", "none", rounds=20).as_json()})
    assert path.parts[-3] == "%2Ekrum"
    assert [found for found, _ in collect([tmp_path])] == [path]


def test_what_cannot_be_written_is_told_in_a_sentence_before_anything_is_lost(tmp_path: Path) -> None:
    (tmp_path / "digits").write_text("a file where a folder should be")
    with pytest.raises(Unwritable, match="cannot be written") as refused:
        Store(tmp_path).write(made())
    assert len(str(refused.value).splitlines()) == 1
    for folder in (tmp_path / "digits", tmp_path / "digits" / "deep", Path("/proc/agrbench"), tmp_path / ("x" * 300)):
        with pytest.raises(Unwritable, match="cannot be written"):
            Store(folder).prepare()
    with pytest.raises(RecordError, match="no such folder"):
        list(collect([tmp_path / ("x" * 300)]))
    assert Store(tmp_path / ("x" * 300)).read(CELL) is None
