"""The store: one file a cell, never outside its folder, whole or absent, and no file read that is not a record."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agrbench.cells import Cell
from agrbench.cli import show
from agrbench.errors import AgrbenchError, RecordError
from agrbench.plugins.registry import Registry
from agrbench.results import formats, metrics
from agrbench.results.record import Record, curves, failed, skipped
from agrbench.results.store import Store, collect, read
from agrbench.results.tables import tables
from agrbench.results.tables.matrix import METRICS
from agrbench.results.writing import Unwritable
from tests.helpers.records import finished

REGISTRY = Registry()
CELL = Cell("digits", "amp(kernel=3)+krum", "label_flip", seed=1, rounds=20)


def made(cell: Cell = CELL, level: float = 0.75) -> Record:
    """Make a finished record of three evaluations."""
    return finished(
        cell,
        [0.1, level, level],
        loss=[2.5, 1.5, 0.5],
        trust={"malicious_share": [None, 0.25, 0.5], "precision": [None, 1.0, 1.0], "recall": [None, 0.5, 0.5]},
        time={"server_s": 0.001, "round_s": 0.01, "alone": True},
        environment={"threads": 1, "device": "cpu"},
    )


def put(folder: Path, content: object, name: str | None = None) -> Path:
    """Write what may or may not be a record under the name that a record of `CELL` has."""
    path = Store(folder).path(CELL) if name is None else folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


# Where a record lies


def test_the_path_says_what_the_cell_is(tmp_path: Path) -> None:
    path = Store(tmp_path).path(CELL)
    assert path == tmp_path / "digits" / "amp(kernel=3)+krum" / "label_flip" / f"seed-1-{CELL.key}.json"


NOWHERE = {"", ".", ".."}
NAMES = st.text().filter(lambda name: name not in NOWHERE)


def below(cell: Cell) -> tuple[str, ...]:
    """Check a cell's path and give what lies below the folder."""
    folder = Path("records").absolute()
    path = Store(folder).path(cell)
    parts = path.relative_to(folder).parts
    assert len(parts) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9_.+=,()%-]+(~[0-9a-f]{16})?", part) for part in parts)
    assert not NOWHERE & set(parts)
    assert Path(os.path.normpath(path)) == path
    return parts


@given(names=st.tuples(NAMES, NAMES, NAMES), seed=st.integers(0, 10**6))
@example(("../../etc", "krum", "none"), 0)
@example(("/etc", "krum", "none"), 0)
@example(("...", ". .", "a/.."), 0)
@example(("a\\b:c*?\"<>|'", "krum", "none"), 0)
@example(("data(path='../x')", "krum", "none"), 0)
@example(("~", "~root", "%2E%2E"), 0)
@example(("caf\u00e9 \u2028\n\0", "krum", "none"), 0)
def test_no_cell_s_path_leaves_the_folder_or_holds_any_other_character(names: tuple[str, str, str], seed: int) -> None:
    """Decoding a part that was not shortened gives the name back, so no two names share a folder."""
    parts = below(Cell(*names, seed))
    assert all("~" in part or unquote(part) == name for part, name in zip(parts, names, strict=False))


@pytest.mark.parametrize("name", sorted(NOWHERE))
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_name_that_is_no_folder_of_its_own_is_refused_or_encoded(name: str, place: int) -> None:
    names = ["digits", "krum", "none"]
    names[place] = name
    try:
        cell = Cell(names[0], names[1], names[2])
    except AgrbenchError:
        return
    below(cell)


@pytest.mark.parametrize("spec", ["krum", "amp(kernel=3)+nnm+krum", "fang_err", "x(a=-1.5,b=2)"])
def test_usual_specs_are_readable_in_a_path(spec: str) -> None:
    assert Store(Path("r")).path(Cell("digits", spec, "none")).parts[2] == spec


# Writing


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    store, record = Store(tmp_path), made()
    assert store.read(CELL) is None
    path = store.write(record)
    assert path == store.path(CELL)
    assert store.read(CELL) == record
    assert read(path) == record
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]


@pytest.mark.parametrize("part", ["nnm+" * 70 + "krum", "rule(x='" + "'" * 300 + "')"], ids=["stages", "quotes"])
def test_a_name_too_long_for_a_file_system_is_shortened(part: str) -> None:
    """File systems take 255 bytes a name; finding that out after the simulation would lose it."""
    assert all(len(part.encode()) <= 255 for part in below(Cell("digits", part, "none")))


def test_long_names_that_differ_only_in_their_ends_have_folders_of_their_own() -> None:
    folders = {below(Cell("digits", "nnm+" * 70 + rule, "none"))[1] for rule in ("krum", "median", "fedavg")}
    assert len(folders) == 3


def test_a_name_is_shortened_only_if_it_must_be() -> None:
    """The digits are the first 16 that `printf 'a%.0s' $(seq 241) | sha256sum` prints."""
    assert below(Cell("digits", "a" * 240, "none"))[1] == "a" * 240
    assert below(Cell("digits", "a" * 241, "none"))[1] == "a" * 223 + "~ec6e326ef29fe322"


def test_a_record_whose_path_is_shortened_keeps_the_whole_spec(tmp_path: Path) -> None:
    cell = replace(CELL, defense="nnm+" * 70 + "krum")
    store, record = Store(tmp_path), made(cell)
    path = store.write(record)
    assert path == store.path(cell)
    assert store.read(cell) == read(path) == record
    assert record["cell"]["defense"] == cell.defense


@pytest.mark.parametrize("begin", [skipped, failed])
def test_records_that_did_not_finish_are_kept_with_their_reason(
    begin: Callable[[Cell, Registry, str], Record], tmp_path: Path
) -> None:
    path = Store(tmp_path).write(begin(CELL, REGISTRY, "too many malicious clients"))
    assert read(path)["reason"] == "too many malicious clients"


@pytest.mark.parametrize("death", [OSError("disk full"), KeyboardInterrupt(), MemoryError()])
def test_a_crash_before_the_rename_leaves_no_record(
    death: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(descriptor: int) -> None:
        raise death

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(Unwritable if isinstance(death, OSError) else type(death)):
        Store(tmp_path).write(made())
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []


def test_a_crash_before_the_rename_leaves_the_record_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Store(tmp_path).write(made(level=0.5))
    before = path.read_bytes()

    def die(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(Unwritable, match="disk full"):
        Store(tmp_path).write(made(level=0.75))
    assert path.read_bytes() == before


def test_the_whole_text_is_flushed_to_disk_before_the_record_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, bytes, list[str]]] = []
    real = os.fsync
    path = Store(tmp_path).path(CELL)

    def watch(descriptor: int) -> None:
        others = [each for each in path.parent.iterdir() if each != path]
        seen.append((path.exists(), others[0].read_bytes(), [each.suffix for each in others]))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    Store(tmp_path).write(made())
    assert seen == [(False, path.read_bytes(), [".part"])]


def test_what_a_killed_process_leaves_behind_is_no_record(tmp_path: Path) -> None:
    path = Store(tmp_path).write(made())
    path.with_name(path.stem + "-abc.part").write_text('{"schema": 1, "prot')
    assert [found for found, _ in collect([tmp_path])] == [path]


@given(values=st.lists(st.floats(0, 1) | st.sampled_from([math.nan, math.inf, -math.inf]), min_size=3, max_size=3))
def test_numbers_that_are_not_finite_become_null_and_all_others_stay_exact(
    values: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    record = made() | {"loss": values}
    shares = [value if not math.isfinite(value) or 0 <= value <= 1 else 0.5 for value in values]
    record["trust"]["recall"] = shares
    path = Store(tmp_path_factory.mktemp("records")).write(record)

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    again = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    wanted, rates = ([value if math.isfinite(value) else None for value in each] for each in (values, shares))
    assert again["loss"] == wanted
    assert again["trust"]["recall"] == rates
    assert read(path)["loss"] == wanted


# Reading what may be no record


def refused(path: Path) -> str:
    with pytest.raises(RecordError) as error:
        read(path)
    assert str(path) in str(error.value)
    return str(error.value)


def test_a_newer_schema_is_refused_by_name(tmp_path: Path) -> None:
    said = refused(put(tmp_path, made() | {"schema": 2}))
    assert "schema 2" in said
    assert "upgrade agrbench" in said


def test_a_newer_schema_is_refused_by_name_whatever_else_has_changed(tmp_path: Path) -> None:
    assert "schema 7" in refused(put(tmp_path, {"schema": 7, "cell": "a new form"}))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_record_is_refused(share: float, tmp_path: Path) -> None:
    path = Store(tmp_path).write(made())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "not JSON" in refused(path)


def test_an_unreadable_path_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "absent.json")
    (tmp_path / "folder.json").mkdir()
    assert "cannot be read" in refused(tmp_path / "folder.json")


@pytest.mark.parametrize(
    "text",
    ["null", "3", '"record"', "[]", "{}", '{"schema": 1}', '{"cell": {}}', '{"schema": "1", "cell": {}}', "[[]]"],
)
def test_other_people_s_json_is_refused(text: str, tmp_path: Path) -> None:
    assert "not a record of agrbench" in refused(put(tmp_path, text))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("[" * 100_000, id="deep nesting"),
        pytest.param("[" * 100_000 + "]" * 100_000, id="deep nesting, closed"),
        pytest.param('{"schema": 1, "cell": ' * 50_000, id="deep records"),
        pytest.param('{"schema": ' + "9" * 5_000 + "}", id="a number of 5,000 digits"),
        pytest.param('{"schema": 1, "cell": {}, "protocol": ' + "9" * 5_000 + "}", id="a huge protocol"),
        pytest.param('{"schema": 1e999, "cell": {}}', id="an infinite schema"),
        pytest.param(b"\xff\xfe{}", id="no UTF-8"),
        pytest.param(b"\x80\x04\x95\x1f\x00", id="a pickle"),
        pytest.param("\ufeff{}", id="a byte order mark"),
        pytest.param("{} {}", id="two values"),
        pytest.param('{"schema": 1, "cell": {"dataset": 1}, "status": "done"}', id="half a cell"),
    ],
)
def test_a_hostile_file_is_refused(content: str | bytes, tmp_path: Path) -> None:
    refused(put(tmp_path, content))


@pytest.mark.parametrize(
    "cell",
    [
        None,
        3,
        "digits",
        [],
        {},
        {"dataset": "digits"},
        {"dataset": "digits", "defense": "krum", "attack": "none", "seed": 0},
        {"dataset": "digits", "defense": "krum", "attack": "none", "seed": 0, "settings": [1]},
        {"dataset": "digits", "defense": "krum", "attack": "none", "seed": 0, "settings": "x"},
        {"dataset": "digits", "defense": "krum", "attack": "none", "seed": 0, "settings": {"colour": 1}},
        {"dataset": "digits", "defense": "krum", "attack": "none", "seed": 0, "settings": {"clients": -1}},
        {"dataset": "digits", "defense": "krum", "attack": "none", "seed": 0, "settings": {"clients": []}},
        {"dataset": "digits", "defense": "krum", "attack": "none", "seed": 0, "settings": {"dataset": "x"}},
        {"dataset": "digits", "defense": "krum", "attack": "none", "seed": 0, "settings": {"clients": 10**400}},
        {"dataset": "digits", "defense": "krum", "attack": "none", "seed": 0, "settings": {"rate": 10**400}},
        {"dataset": 3, "defense": "krum", "attack": "none", "seed": 0, "settings": {}},
        {"dataset": [], "defense": "krum", "attack": "none", "seed": 0, "settings": {}},
        {"dataset": "digits", "defense": "krum", "attack": "none", "seed": [], "settings": {}},
    ],
    ids=lambda cell: f"{cell!s:.120}",
)
@pytest.mark.parametrize("protocol", [0, 1])
def test_a_record_whose_cell_is_none_is_refused(cell: object, protocol: int, tmp_path: Path) -> None:
    refused(put(tmp_path, made() | {"cell": cell, "protocol": protocol}))


def test_a_cell_that_would_be_written_elsewhere_is_refused_or_stays_inside(tmp_path: Path) -> None:
    """A record is data from anywhere: writing one back must not reach outside the folder."""
    for name, value in (("dataset", ".."), ("seed", "/../../../../x"), ("attack", "../..")):
        record = made()
        record["cell"][name] = value
        try:
            path = Store(tmp_path / "in").write(record)
        except AgrbenchError:
            continue
        assert path.resolve().is_relative_to((tmp_path / "in").resolve())


@pytest.mark.parametrize("status", [None, "", "finished", 3, [], {}])
def test_an_unknown_status_is_refused(status: object, tmp_path: Path) -> None:
    assert "not a complete record" in refused(put(tmp_path, made() | {"status": status}))


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": [0, 10]},
        {"accuracy": [0.5]},
        {"loss": []},
        {"success": [None]},
        {"success_untriggered": [None, 0.5, 0.5, 0.5]},
        {"accuracy": 3},
        {"accuracy": "abc"},
        {"accuracy": {"a": 1, "b": 2, "c": 3}},
        {"accuracy": [0.1, "0.5", 0.5]},
        {"accuracy": [0.1, True, 0.5]},
        {"accuracy": [0.1, [0.5], 0.5]},
        {"accuracy": [0.1, {}, 0.5]},
        {"rounds": None},
        {"rounds": [], "accuracy": [], "loss": [], "trust": {"malicious_share": [], "precision": [], "recall": []}},
        {"classes": None},
        {"classes": 0},
        {"trust": {"malicious_share": [1.0], "precision": [], "recall": []}},
        {"trust": {"malicious_share": None}},
        {"trust": []},
        {"trust": None},
        {"time": None},
        {"time": {}},
        {"time": {"server_s": "x", "round_s": 0.0, "alone": True}},
    ],
    ids=str,
)
def test_curves_of_the_wrong_shape_or_type_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    assert "not a complete record" in refused(put(tmp_path, made() | change))


FIELDS = sorted(made())
INSIDE = [(outer, inner) for outer in ("cell", "trust", "time") for inner in made()[outer]]
CURVE: list[Any] = [0.1, None, None]
WRONG: list[Any] = [None, 3, -1.5, True, "x", [], {}, [None], [None, None, None], CURVE, [{}], 10**30]
WRONG += [10**400, -(10**400), [0.1, 10**400, 0.5], [0.1, math.nan, math.inf], [0, 10, 10**400], [20, 10, 0], "\ud800"]


def damaged(whole: Record, field: str, inner: str | None) -> Iterator[tuple[str, Record]]:
    """Take a field away, then put every wrong value in its place."""
    for value in [..., *WRONG]:
        record = copy.deepcopy(whole)
        holder = record if inner is None else record[field]
        if value is ...:
            del holder[inner or field]
        else:
            holder[inner or field] = value
        yield f"{whole['status']} {field} {inner or ''} = {value!r:.40}", record


def describe(folder: Path, path: Path) -> str:
    return show.as_text(read(path))


def tabulate(folder: Path, path: Path) -> str:
    """Write every table of the record, beside those it is compared with."""
    groups = metrics.groups(record for _, record in collect([folder, folder.parent / "rest"]))
    return "".join(formats.write(tables(groups, metric), "json") for metric in ("triad", *METRICS))


@pytest.mark.parametrize(
    ("field", "inner"),
    [(field, None) for field in FIELDS] + INSIDE,
    ids=lambda part: part or "itself",
)
def test_a_damaged_record_ends_in_an_answer_or_a_sentence_and_never_in_a_crash(
    field: str, inner: str | None, tmp_path: Path
) -> None:
    for defense, attack in (("fedavg", "none"), ("fedavg", "label_flip"), (CELL.defense, "none")):
        Store(tmp_path / "rest").write(made(replace(CELL, defense=defense, attack=attack)))
    crashes = []
    for whole in (made(), failed(CELL, REGISTRY, "out of memory", "Traceback: ...")):
        for place, (what, record) in enumerate(damaged(whole, field, inner)):
            folder = tmp_path / f"{whole['status']}-{place}"
            path = put(folder, record)
            for use in (describe, tabulate):
                try:
                    use(folder, path)
                except RecordError as error:
                    assert str(path) in str(error)
                except Exception as error:
                    crashes.append(f"{use.__name__} with {what} raised {error!r}")
    assert not crashes, "\n".join(crashes)


def test_a_renamed_record_is_refused(tmp_path: Path) -> None:
    path = Store(tmp_path).write(made())
    other = path.with_name(path.name.replace(CELL.key, "0123456789"))
    path.rename(other)
    assert CELL.key in refused(other)


def test_an_edited_cell_is_refused(tmp_path: Path) -> None:
    record = made()
    record["cell"]["seed"] = 2
    assert "do not rename or edit records" in refused(put(tmp_path, record))


def test_fields_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    record = made() | {"energy_j": 12.5, "notes": {"deep": [1, {"er": None}]}}
    record["time"]["attacker_s"] = 0.5
    path = put(tmp_path, record)
    assert read(path)["accuracy"] == made()["accuracy"]
    assert [found for found, _ in collect([tmp_path])] == [path]


# Reading folders


def fill(folder: Path, seeds: range, level: float = 0.75) -> None:
    for seed in seeds:
        Store(folder).write(made(Cell("digits", "krum", "none", seed, rounds=20), level))


def test_folders_are_read_together_and_copies_merge(tmp_path: Path) -> None:
    fill(tmp_path / "a", range(3))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    fill(tmp_path / "c", range(3, 5))
    found = list(collect([tmp_path / "b", tmp_path / "a", tmp_path / "c"]))
    assert sorted(record["cell"]["seed"] for _, record in found) == [0, 1, 2, 3, 4]
    assert {path.relative_to(tmp_path).parts[0] for path, _ in found} == {"b", "c"}


def test_a_folder_of_folders_is_read_whole(tmp_path: Path) -> None:
    fill(tmp_path / "x" / "a", range(2))
    fill(tmp_path / "x" / "b", range(1, 3))
    assert len(list(collect([tmp_path / "x"]))) == 3


def test_the_order_is_that_of_the_paths_and_does_not_depend_on_when_they_were_written(tmp_path: Path) -> None:
    fill(tmp_path / "a", range(4))
    fill(tmp_path / "b", range(3, -1, -1))
    names = [[path.name for path, _ in collect([tmp_path / each])] for each in ("a", "b")]
    assert names[0] == names[1] == sorted(names[0])


def test_timings_may_differ_between_copies_and_the_first_folder_wins(tmp_path: Path) -> None:
    fill(tmp_path / "a", range(1))
    cell = Cell("digits", "krum", "none", 0, rounds=20)
    slower = made(cell) | {"time": {"server_s": 9.0, "round_s": 9.0, "alone": False}, "peak_bytes": 1}
    Store(tmp_path / "b").write(slower)
    ((path, record),) = collect([tmp_path / "b", tmp_path / "a"])
    assert path.is_relative_to(tmp_path / "b")
    assert record["time"]["server_s"] == 9.0


@pytest.mark.parametrize(
    "change",
    [
        {"accuracy": [0.1, 0.75, 0.7500001]},
        {"loss": [2.5, 1.5, None]},
        {"rejected": 1},
        {"empty_steps": 1},
        {"trust": {"malicious_share": [None, 0.25, 0.25], "precision": [None] * 3, "recall": [None] * 3}},
    ],
    ids=str,
)
def test_different_results_for_one_cell_are_named_with_both_paths(change: dict[str, Any], tmp_path: Path) -> None:
    ours = Store(tmp_path / "a").write(made())
    theirs = Store(tmp_path / "b").write(made() | change)
    with pytest.raises(RecordError, match="one cell with different results") as conflict:
        list(collect([tmp_path / "a", tmp_path / "b"]))
    assert str(ours) in str(conflict.value)
    assert str(theirs) in str(conflict.value)


def test_other_protocols_are_other_cells(tmp_path: Path) -> None:
    Store(tmp_path / "a").write(made())
    Store(tmp_path / "b").write(made(level=0.5) | {"protocol": 0})
    assert len(list(collect([tmp_path / "a", tmp_path / "b"]))) == 2


def test_what_must_repeat_is_all_that_was_simulated_and_nothing_that_was_timed() -> None:
    free = {
        "schema",
        "protocol",
        "reason",
        "cell",
        "classes",
        "training",
        "shared_rounds",
        "time",
        "peak_bytes",
        "source",
    }
    assert set(curves(made())) == set(made()) - free - {"environment", "traceback"}


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such folder") as error:
        list(collect([tmp_path, tmp_path / "absent"]))
    assert str(tmp_path / "absent") in str(error.value)


def test_a_damaged_file_among_good_ones_is_named(tmp_path: Path) -> None:
    fill(tmp_path, range(2))
    bad = put(tmp_path, "{", name="digits/notes.json")
    with pytest.raises(RecordError, match="not JSON") as error:
        list(collect([tmp_path]))
    assert str(bad) in str(error.value)


def test_files_that_are_not_json_are_left_alone(tmp_path: Path) -> None:
    fill(tmp_path, range(1))
    put(tmp_path, "# notes", name="digits/README.md")
    assert len(list(collect([tmp_path]))) == 1
