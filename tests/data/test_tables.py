"""People's own tables: what is read, what is learnt from training rows, and one sentence for each mistake."""

from __future__ import annotations

import csv
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agrbench.data import columns, encoding, files, tables
from agrbench.data.examples import Examples
from agrbench.data.roles import Roles
from agrbench.errors import DataError
from tests.helpers.datasets import Halves

ROLES = Roles("y", test="part")
SMALL = "age,ward,part,y\n30,a,train,no\n50,b,train,yes\n40,a,test,no\n"
REPEATED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def halves(path: Path, roles: Roles = ROLES) -> Halves:
    return encoding.examples(tables.read(str(path), roles), roles)


def read(folder: Path, content: str | bytes, roles: Roles = ROLES) -> Halves:
    return halves(write(folder / "t.csv", content), roles)


def refusal(path: Path, roles: Roles) -> str:
    """Return the sentence that refuses a table; it names the file."""
    with pytest.raises(DataError) as refused:
        halves(path, roles)
    text = str(refused.value)
    assert text.startswith(f"{path}: ")
    assert len(text.splitlines()) == 1
    assert ". " not in text, "more than one sentence"
    return text[len(f"{path}: ") :]


def rows(examples: Examples) -> list[tuple[float, ...]]:
    """List the rows in an order that does not depend on that of the file: features, label, owner."""
    owners = torch.zeros_like(examples.labels) if examples.owners is None else examples.owners
    parts = [examples.features.flatten(1), examples.labels[:, None], owners[:, None]]
    return sorted(map(tuple, torch.cat(parts, 1).tolist()))


def many(column: str, values: list[str]) -> str:
    """Write a table of one feature, whose label and part alternate."""
    lines = [f"{value},{'ab'[place % 2]},{('train', 'test')[place // 2 % 2]}" for place, value in enumerate(values)]
    return "\n".join([f"{column},y,part", *lines, ""])


# ---------------------------------------------------------------- what is read


def test_numbers_are_standardised_and_categories_one_hot_by_training_rows(tmp_path: Path) -> None:
    train, test = read(tmp_path, SMALL)
    assert rows(train) == [(-1, 1, 0, 0, 0), (1, 0, 1, 1, 0)]
    assert rows(test) == [(0, 1, 0, 0, 0)]
    assert train.about.classes == ("no", "yes")
    assert train.features.dtype == torch.float32
    assert train.about.remarks == ("t.csv: 3 rows, 3 features of 2 columns",)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_any_separator_byte_order_mark_line_end_and_blank_line_reads_the_same(
    delimiter: str, end: str, tmp_path: Path
) -> None:
    lines = SMALL.replace(",", delimiter).splitlines()
    content, roles = "\ufeff" + (end * 2).join(lines) + end * 3, ROLES._replace(categorical=("age",))
    for one, other in zip(read(tmp_path, content, roles), read(tmp_path, SMALL, roles), strict=True):
        assert rows(one) == rows(other)


def test_a_header_whose_quoted_names_hold_separators_is_split_where_most_columns_come_out(tmp_path: Path) -> None:
    content = '"weight; in kg, dressed";part;y\n60;train;a\n70;train;b\n65;test;a\n'
    train, _ = read(tmp_path, content)
    assert rows(train) == [(-1, 0, 0), (1, 1, 0)]


def test_quoted_fields_may_hold_separators_quotes_and_line_ends(tmp_path: Path) -> None:
    content = 'ward,y,part\n"a, ""b""\nc",no,train\nd,yes,train\n,no,test\n'
    assert refusal(write(tmp_path / "t.csv", content), ROLES).startswith(
        "row 4, column 'ward' has no value, and 1 are missing in all ('ward' 1); write missing='fill'"
    )


def test_a_name_over_two_lines_is_one_name_in_a_spec(tmp_path: Path) -> None:
    train, _ = read(tmp_path, '"blood\npressure ",part,y\n1,train,a\n2,train,b\n3,test,b\n', Roles("y", test="part"))
    assert train.features.shape == (2, 1)
    path = write(tmp_path / "t.csv", '"blood\npressure ",part,y\n1,train,a\n')
    with pytest.raises(DataError, match="its columns are 'blood pressure', 'part', 'y'"):
        tables.read(str(path), Roles("y", "zzz"))


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["10", "9", "1.0"], ("1", "9", "10")),
        (["10", "9", "b"], ("10", "9", "b")),
        (["true", "false", "true"], ("false", "true")),
        (["1", "1.0", "0.5"], ("0.5", "1")),
        (["9007199254740993", "9007199254740992", "0"], ("0", "9007199254740992", "9007199254740993")),
        ([" yes", "yes ", "no"], ("no", "yes")),
    ],
)
def test_labels_and_owners_are_numbered_by_size_if_all_are_numbers_else_by_text(
    values: list[str], names: tuple[str, ...], tmp_path: Path
) -> None:
    lines = "".join(
        f"{place},{value},{value},train\n{place},{value},{value},test\n" for place, value in enumerate(values)
    )
    train, test = read(tmp_path, f"x,y,who,part\n{lines}", Roles("y", "who", "part"))
    assert train.about.classes == test.about.classes == train.about.owners == test.about.owners == names
    for half in (train, test):
        assert half.owners is not None
        assert half.owners.tolist() == half.labels.tolist()
        assert [names[label] for label in sorted(half.labels.tolist())] == sorted(
            (columns.categories(columns.of_texts([each])).names[0] for each in values), key=names.index
        )


@pytest.mark.parametrize(
    "words", [("train", "test"), ("TRAIN", "Test"), ("false", "true"), ("0", "1"), ("no", "Yes"), ("0.0", "1.0")]
)
def test_a_column_marks_the_test_rows_by_any_of_four_pairs_of_words(words: tuple[str, str], tmp_path: Path) -> None:
    content = SMALL.replace("train", words[0]).replace("test", words[1])
    for one, other in zip(read(tmp_path, content), read(tmp_path, SMALL), strict=True):
        assert rows(one) == rows(other)


def test_a_constant_number_becomes_zero_in_training_and_test_rows(tmp_path: Path) -> None:
    train, test = read(tmp_path, "x,part,y\n0.1,train,a\n0.1,train,b\n0.1,train,b\n7,test,a\n")
    assert not train.features.any()
    assert not test.features.any()


def test_numbers_that_are_categories_are_one_hot(tmp_path: Path) -> None:
    train, _ = read(tmp_path, SMALL, Roles("y", test="part", categorical=("age",), drop=("ward",)))
    assert rows(train) == [(0, 1, 1, 0), (1, 0, 0, 0)]


def test_a_category_of_test_rows_alone_is_all_zeros_and_a_remark_says_so(tmp_path: Path) -> None:
    train, test = read(tmp_path, SMALL + "60,c,test,yes\n")
    assert train.features.shape[1] == 3
    assert rows(test) == [(0, 1, 0, 0, 0), (2, 0, 0, 1, 0)]
    assert train.about.remarks[1] == "column 'ward': 'c' in 1 test rows only, so all its features are 0 there"


def test_a_class_without_training_rows_is_remarked(tmp_path: Path) -> None:
    train, _ = read(tmp_path, SMALL + "60,a,test,maybe\n")
    assert train.classes == 3
    assert train.about.remarks[1] == "classes without training rows: 'maybe'"


def test_the_share_of_test_rows_is_drawn_within_each_owner_who_keeps_training_rows(tmp_path: Path) -> None:
    sizes = {"a": 1, "b": 2, "c": 10, "d": 101}
    lines = [f"{place},{place % 2},{owner}" for owner, size in sizes.items() for place in range(size)]
    path = write(tmp_path / "t.csv", "\n".join(["x,y,who", *lines]))
    train, test = halves(path, Roles("y", "who", 0.3))
    again, _ = halves(path, Roles("y", "who", 0.3))
    assert train.owners is not None
    assert test.owners is not None
    assert train.owners.bincount().tolist() == [1, 1, 7, 71]
    assert test.owners.bincount(minlength=4).tolist() == [0, 1, 3, 30]
    assert torch.equal(train.features, again.features), "it is drawn once"
    assert train.owners.tolist() != sorted(train.owners.tolist()), "an even partition takes rows in their order"
    mostly, _ = halves(path, Roles("y", "who", 0.99))
    assert mostly.owners is not None
    assert mostly.owners.bincount().tolist() == [1, 1, 1, 1]


# ---------------------------------------------------------------- missing values


@pytest.mark.parametrize("word", ["", " ", "NA", "n/a", "NaN", "null", "None", "?", " nan "])
def test_missing_values_are_counted_by_column_filled_or_dropped(word: str, tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", f"{SMALL}{word},a,train,yes\n40,{word},train,yes\n{word},b,test,yes\n")
    assert refusal(path, ROLES) == (
        "row 5, column 'age' has no value, and 3 are missing in all ('age' 2, 'ward' 1); write missing='fill' to fill "
        "them in, or missing='drop' to leave such rows out"
    )
    train, test = halves(path, ROLES._replace(missing="fill"))
    ends = np.sqrt(1.5)
    assert rows(train) == [
        pytest.approx(row)
        for row in [(-ends, 1, 0, 0, 0, 0), (0, 0, 0, 1, 1, 0), (0, 1, 0, 0, 1, 0), (ends, 0, 1, 0, 1, 0)]
    ]
    assert rows(test) == [(0, 0, 1, 0, 1, 0), (0, 1, 0, 0, 0, 0)]
    assert train.about.remarks[1].startswith("3 missing values were filled in ('age' 2, 'ward' 1): ")
    dropped, _ = halves(path, ROLES._replace(missing="drop"))
    assert rows(dropped) == rows(read(tmp_path, SMALL)[0])
    assert dropped.about.remarks[1] == "3 of 6 rows lack a value and were left out"


def test_a_category_missing_in_test_rows_alone_is_all_zeros(tmp_path: Path) -> None:
    train, test = read(tmp_path, SMALL + "60,,test,yes\n", ROLES._replace(missing="fill"))
    assert rows(test)[1] == (2, 0, 0, 1, 0)
    assert "'ward': a missing value in 1 test rows only" in train.about.remarks[2]


@pytest.mark.parametrize(
    ("role", "line"), [("label", "1,a,train,,w"), ("owner", "1,a,train,no,"), ("test", "1,a,,no,w")]
)
@pytest.mark.parametrize("missing", ["refuse", "fill"])
def test_a_missing_label_owner_or_test_mark_is_refused_unless_its_row_is_dropped(
    role: str, line: str, missing: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "t.csv", "age,ward,part,y,who\n30,a,train,no,v\n50,b,train,yes,v\n40,a,test,no,v\n" + line)
    roles = Roles("y", "who", "part", missing=missing)
    assert refusal(path, roles).startswith(f"row 5, column {roles.special[role]!r} has no value, but it is the {role}")
    assert len(halves(path, roles._replace(missing="drop"))[0].labels) == 2


# ---------------------------------------------------------------- mistakes in a CSV file


NAMES = [f"p{place}" for place in range(40)]
MIXED = many("x", [*map(str, range(30)), "abc", *map(str, range(9))])
REFUSED: dict[str, tuple[str | bytes, Roles, tuple[str, ...]]] = {
    "an empty file": ("", ROLES, ("the file is empty", "row 1")),
    "an empty header": ("\n1,2\n", ROLES, ("row 1, the header, is empty",)),
    "a header only": ("x,part,y\n", ROLES, ("no rows",)),
    "a name that is empty": ("x,,part,y\n1,2,train,a\n", ROLES, ("header", "no name for column 2")),
    "a name that is double": ("x,part,x,y\n1,train,1,a\n", ROLES, ("columns 1 and 3", "header", "'x'")),
    "too few fields": ("x,part,y\n1,train,a\n2,train\n", ROLES, ("row 3 has 2 fields", "the header 3")),
    "too many fields": ("x,part,y\n1,5,train,a\n", ROLES, ("row 2 has 4 fields", "the header 3", "'1'")),
    "bytes that are no text": (b"x,part,y\n1,train,a\n1,train,\xe9\n", ROLES, ("row 3", "not UTF-8")),
    "UTF-16": ("x,part,y\n".encode("utf-16"), ROLES, ("row 1", "UTF-8")),
    "a NUL byte": ("x,part,y\n1,train,a\n2,tr\0ain,b\n", ROLES, ("row 3", "NUL byte")),
    "a long field": ("x,part,y\n1,train,a\n" + "z" * 140_000 + ",train,b\n", ROLES, ("row 3", "field")),
    "a long header": ("z" * 140_000 + ",part,y\n1,train,a\n", ROLES, ("row 1", "field")),
    "an open quote": ('x,part,y\n1,train,a\n"2,train,b\n3,train,a\n', ROLES, ("row 3", "unexpected end")),
    "an unknown label": (SMALL, Roles("yy"), ("label is 'yy'", "did you mean 'y'")),
    "no label": (SMALL, Roles(""), ("no label", "'age', 'ward', 'part', 'y'")),
    "an unknown owner": (SMALL, Roles("y", "wards"), ("owner is 'wards'", "did you mean 'ward'")),
    "an unknown test column": (SMALL, Roles("y", test="split"), ("test is 'split'", "its columns are 'age'")),
    "an unknown column to drop": (SMALL, Roles("y", drop=("agee",)), ("drop is 'agee'", "did you mean 'age'")),
    "an unknown category": (SMALL, Roles("y", categorical=("Ward",)), ("categorical is 'Ward'", "'ward'")),
    "a label that is the owner": (SMALL, Roles("y", "y"), ("'y' is named 2 times", "label and owner")),
    "a label that is dropped": (SMALL, Roles("y", drop=("y",)), ("'y' is named 2 times", "label and drop")),
    "a column dropped twice": (SMALL, Roles("y", drop=("age", "age")), ("'age' is named 2 times, as drop",)),
    "no feature": (SMALL, Roles("y", "part", drop=("age", "ward")), ("no column is left for features",)),
    "a share of 0": (SMALL, Roles("y", test=0.0), ("test=0.0", "between 0 and 1")),
    "a share of 1": (SMALL, Roles("y", test=1.0), ("test=1.0", "between 0 and 1")),
    "a share of nobody": (SMALL, Roles("y", test=0.1), ("none of 3 rows as test rows", "test=0.5")),
    "no test row": (SMALL.replace("test", "train"), ROLES, ("test='part' leaves none of 3 rows as test rows",)),
    "no training row": (SMALL.replace("train", "test"), ROLES, ("test='part' leaves none of 3 rows as training rows",)),
    "another test mark": (SMALL + "1,a,valid,no\n", ROLES, ("row 5, column 'part' has 'valid'", "train or test")),
    "one class": (SMALL.replace("yes", "no"), ROLES, ("'y', the label, is 'no' in all 3 rows",)),
    "a label that is a number": (
        many("x", ["1", "2"] * 20).replace(",a,", ",1,"), Roles("x", drop=("y",), test="part"), ("no column is left",),
    ),
    "a label of many values": (
        "\n".join(["x,y", *(f"{place % 3},{place}" for place in range(30))]), Roles("y"),
        ("'y', the label, has 30 different values in 30 rows",),
    ),
    "a label of over 1,000 values": (
        "\n".join(["x,y", *(f"{place % 3},{place % 1001}" for place in range(4004))]), Roles("y"),
        ("'y', the label, has 1,001 different values",),
    ),
    "a word among numbers": (MIXED, ROLES, ("row 32, column 'x' has 'abc'", "categorical=('x',)")),
    "an underscore": (many("x", ["1", "2", "3", "1_0"]), ROLES, ("row 5, column 'x' has '1_0'",)),
    "a decimal comma": (
        many("x", [f"{place},5" for place in range(4)]).replace(",5,", ";5;").replace(",", ";").replace(";5;", ",5;"),
        ROLES, ("row 2, column 'x' has '0,5'", "write 3.5", "categorical=('x',)"),
    ),
    "infinity": (many("x", ["1", "2", "inf", "4"]), ROLES, ("row 4, column 'x'", "inf", "infinite")),
    "a number beyond all": (many("x", ["1", "2", "4", "-1e999"]), ROLES, ("row 5, column 'x'", "infinite")),
    "names": (many("patient", NAMES), ROLES, ("column 'patient' has 'p0'", "40 different", "drop=('patient',)")),
    "dates": (
        many("day", [f"2024-01-{day:02}" for day in range(1, 31)]), ROLES, ("column 'day'", "drop=('day',)"),
    ),
    "over 1,000 categories": (
        many("zip", [f"z{place % 1001}" for place in range(4004)]), ROLES, ("1,001 different", "drop=('zip',)"),
    ),
    "numbers that are too many categories": (
        many("x", list(map(str, range(30)))), ROLES._replace(categorical=("x",)), ("30 different", "drop=('x',)"),
    ),
    "a column without a value": (SMALL.replace("0,", ",").replace("3,", ",").replace("5,", ",").replace("4,", ","),
                                 ROLES, ("column 'age' has no value in any row", "drop=('age',)")),
    "no row without a gap": (
        "x,part,y\n,train,a\n1,,b\n", ROLES._replace(missing="drop"), ("every row lacks a value", "missing='fill'"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", REFUSED)
def test_each_mistake_in_a_csv_file_is_one_sentence_that_names_file_row_and_column(
    mistake: str, tmp_path: Path
) -> None:
    content, roles, said = REFUSED[mistake]
    path = write(tmp_path / "t.csv", content)
    try:
        roles.share()
    except DataError as refused:
        text = str(refused)
    else:
        text = refusal(path, roles)
    for part in said:
        assert part in text, text


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_rows_are_counted_as_a_spreadsheet_shows_them(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field with line ends is in one row, and a blank row is one."""
    monkeypatch.setattr(tables, "CHUNK", size)
    content = 'x,part,y\n"1",train,"a\nb"\n\n2,train,c\noops,test,c\n3,test,c\n'
    assert refusal(write(tmp_path / "t.csv", content), ROLES).startswith("row 5, column 'x' has 'oops'")


def test_rows_are_counted_through_all_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(tmp_path, SMALL + "7,b,train,yes\n" * 10)
    for size in (1, 2, 5):
        monkeypatch.setattr(tables, "CHUNK", size)
        for one, other in zip(read(tmp_path, SMALL + "7,b,train,yes\n" * 10), whole, strict=True):
            assert torch.equal(one.features, other.features)
        said = refusal(write(tmp_path / "u.csv", SMALL + "7,b,train,yes\n" * 10 + "oops,a,train,no\n1\n"), ROLES)
        assert said.startswith("row 16 has 1 fields")


def test_progress_of_a_large_file_is_reported_on_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from agrbench import progress

    monkeypatch.setattr(progress, "PERIOD", 0.0)
    read(tmp_path, SMALL)
    assert not capsys.readouterr().err
    monkeypatch.setattr(tables, "BLOCK", 20)
    read(tmp_path, SMALL)
    shown = capsys.readouterr()
    assert "reading t.csv: 1 of" in shown.err
    assert not shown.out


# ---------------------------------------------------------------- mistakes in the path


def test_a_missing_file_is_refused_with_both_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(files.FOLDER, "/nowhere")
    with pytest.raises(DataError) as refused:
        tables.read("visits.csv", ROLES)
    assert str(refused.value).startswith(
        f"visits.csv: there is no such file in the current folder {tmp_path} or in the data folder /nowhere; "
    )
    monkeypatch.delenv(files.FOLDER)
    with pytest.raises(DataError, match="or in a data folder, since none is named"):
        tables.read("x" * 300 + ".csv", ROLES)


def test_a_file_is_looked_for_in_the_current_folder_and_then_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv(files.FOLDER, str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path / "here")
    assert tables.locate("t.csv") == Path("t.csv")
    there = write(tmp_path / "data/t.csv", SMALL)
    assert tables.locate("t.csv") == there
    write(tmp_path / "here/t.csv", SMALL)
    assert tables.locate("t.csv") == Path("t.csv")
    monkeypatch.setenv("HOME", str(tmp_path / "data"))
    assert tables.locate("~/t.csv") == there


def test_a_folder_another_suffix_and_no_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"it is a folder; write the path of a file in it"):
        tables.read(str(tmp_path), ROLES)
    path = write(tmp_path / "t.xlsx", "")
    assert "does not end in .csv or .parquet or .npz" in refusal(path, ROLES)
    with pytest.raises(tables.Unnamed, match=r"write table\(path='visits.csv', label='outcome'\)"):
        tables.read("", ROLES)


# ---------------------------------------------------------------- npz


GOOD = {"x": np.arange(6.0), "y": np.array(["a", "b"] * 3), "part": np.array([False, False, True] * 2)}


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_arrays_of_two_dimensions_are_many_columns_and_images_keep_their_shape(tmp_path: Path) -> None:
    values = np.arange(12).reshape(6, 2).astype(np.int32)
    train, _ = halves(npz(tmp_path / "t.npz", **(GOOD | {"x": values})))
    assert train.features.shape == (4, 2)
    images = np.arange(6 * 12, dtype=np.uint8).reshape(6, 3, 4)
    train, test = halves(npz(tmp_path / "t.npz", **(GOOD | {"x": images})))
    assert train.features.shape == (4, 3, 4)
    kept = images[[0, 1, 3, 4]].astype(float)
    wanted = (images.astype(float) - kept.mean()) / kept.std()
    np.testing.assert_allclose(sorted(test.features[:, 0, 0].tolist()), wanted[[2, 5], 0, 0], rtol=1e-5)
    assert train.about.remarks == ("t.npz: 6 rows, 3 x 4 features of 1 column",)


def test_a_column_of_an_array_of_two_dimensions_is_named_by_its_place(tmp_path: Path) -> None:
    values = np.array([[0, 1], [1, 5], [0, 3], [1, 4], [0, 9], [1, 2]])
    path = npz(tmp_path / "t.npz", x=values, part=GOOD["part"])
    train, _ = halves(path, Roles("x[0]", test="part"))
    assert train.about.classes == ("0", "1")
    assert train.features.shape == (4, 1)


def test_nan_in_npz_is_missing(tmp_path: Path) -> None:
    values = np.array([np.nan, 1, 2, 3, 4, 5])
    text = refusal(npz(tmp_path / "t.npz", **(GOOD | {"x": values})), ROLES)
    assert text.startswith("row 1, column 'x' has no value, and 1 are missing in all")
    images = np.zeros((6, 2, 2), np.float32)
    images[:3] = 1
    images[4, 0, 1] = np.nan
    path = npz(tmp_path / "t.npz", **(GOOD | {"x": images}))
    assert "row 5, column 'x' has no value" in refusal(path, ROLES)
    train, _ = halves(path, ROLES._replace(missing="fill"))
    assert int((train.features == 0).sum()) == 1
    assert len(halves(path, ROLES._replace(missing="drop"))[0].labels) == 3


class Trap:
    """Leaves a trace if it is loaded from a pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise AssertionError('a pickle was loaded')",)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.arange(5.0)}, ("array 'y' has 6 rows, and array 'x' 5", "equal length")),
        ({"x": np.array([Trap()] * 6, dtype=object)}, ("array 'x' holds Python objects", "drop=('x',)")),
        ({"x": np.float64(3)}, ("array 'x' holds a single value",)),
        ({"x": np.arange(6) * 1j}, ("array 'x' holds complex128",)),
        ({"x": np.array([b"\xff", b"a"] * 3)}, ("array 'x' holds bytes that are not UTF-8",)),
        ({"z": np.zeros((6, 2, 2))}, ("array 'z' has 2 x 2 values a row", "only feature")),
        ({"y": np.zeros((6, 2, 2))}, ("array 'y' has 2 x 2 values a row",)),
        ({"x": np.full((6, 2, 2), np.inf)}, ("row 1, column 'x'", "infinite")),
        ({"x": np.array([1, 2, np.inf, 4, 5, 6])}, ("row 3, column 'x'", "infinite")),
        ({"x": np.array([["a", "b"]] * 6)[:, :, None]}, ("array 'x' holds <U1 values",)),
        ({"x": np.zeros((6, 0, 3))}, ("array 'x' holds no values",)),
        ({"x": np.zeros((6, 0))}, ("no column is left",)),
        ({"x": np.zeros((6, 2)), "x[1]": np.zeros(6)}, ("columns 2 and 5", "'x[1]'")),
    ],
)  # fmt: skip
def test_each_mistake_in_an_npz_file_is_one_sentence(
    arrays: dict[str, Any], said: tuple[str, ...], tmp_path: Path
) -> None:
    text = refusal(npz(tmp_path / "t.npz", **(GOOD | arrays)), ROLES)
    for part in said:
        assert part in text, text


def test_an_array_that_does_not_fit_may_be_left_out(tmp_path: Path) -> None:
    extra = {"z": np.zeros((3, 2, 2)), "w": np.array([Trap()], dtype=object)}
    train, _ = halves(npz(tmp_path / "t.npz", **GOOD, **extra), ROLES._replace(drop=("z", "w")))
    assert train.features.shape == (4, 1)


def test_texts_of_npz_may_be_bytes_dates_and_empty(tmp_path: Path) -> None:
    days = np.array(["NaT", "2024-01-01", "2024-01-01"] * 2, "datetime64[D]")
    path = npz(tmp_path / "t.npz", **(GOOD | {"y": np.array([b"a", b"b"] * 3), "day": days}))
    train, _ = halves(path, ROLES._replace(missing="drop"))
    assert train.about.classes == ("a", "b")
    assert train.features.shape == (2, 2)


def test_the_text_of_an_absent_date_is_a_text(tmp_path: Path) -> None:
    train, _ = halves(npz(tmp_path / "t.npz", **(GOOD | {"x": np.array(["NaT", "b"] * 3)})))
    assert train.features.shape == (4, 2)


def broken(folder: Path, suffix: str, how: str) -> Path:
    """Write a damaged file."""
    path = folder / f"t{suffix}"
    if suffix == ".npz":
        np.savez_compressed(path, **(GOOD | {"x": np.random.default_rng(0).normal(size=6)}))  # type: ignore[arg-type]
    else:
        parquet(path, GOOD)
    content = path.read_bytes()
    cut = {"half": content[: len(content) // 2], "empty": b"", "other": b"x,y\n1,2\n", "end": content[:-3]}
    if how == "flipped":
        cut["flipped"] = content[:70] + bytes(255 - each for each in content[70:120]) + content[120:]
    return write(path, cut[how])


@pytest.mark.parametrize("how", ["half", "empty", "other", "end", "flipped"])
@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_damaged_file_is_refused_by_name(suffix: str, how: str, tmp_path: Path) -> None:
    if (suffix, how) != (".parquet", "flipped"):  # Parquet has no checksum of values
        assert "no whole" in refusal(broken(tmp_path, suffix, how), ROLES)


def test_a_single_array_or_a_pickle_under_another_name_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "t.npz").open("wb") as stream:
        np.save(stream, np.arange(6))
    assert "it holds one array without a name" in refusal(tmp_path / "t.npz", ROLES)
    import pickle

    write(tmp_path / "t.npz", pickle.dumps(Trap()))
    assert "no whole .npz file" in refusal(tmp_path / "t.npz", ROLES)
    with zipfile.ZipFile(tmp_path / "t.npz", "w"):
        pass
    assert "it has no columns" in refusal(tmp_path / "t.npz", ROLES)


# ---------------------------------------------------------------- Parquet


def parquet(path: Path, data: dict[str, Any]) -> Path:
    import pyarrow
    from pyarrow import parquet as writer

    writer.write_table(pyarrow.table(data), path)
    return path


def test_parquet_of_every_plain_kind_is_read(tmp_path: Path) -> None:
    import datetime
    import decimal

    import pyarrow

    data = {
        "whole": pyarrow.array([1, 2, None, 4], pyarrow.int64()),
        "tiny": pyarrow.array([1, 2, 3, None], pyarrow.uint8()),
        "real": [0.5, 1.5, None, float("nan")],
        "decimal": [decimal.Decimal("1.5")] * 4,
        "flag": [True, False, None, True],
        "text": pyarrow.array(["a", "b", None, ""]).dictionary_encode(),
        "day": [datetime.date(2024, 1, 1)] * 4,
        "y": ["no", "yes"] * 2,
        "part": [False, False, True, True],
    }
    path = parquet(tmp_path / "t.parquet", data)
    gaps = "'whole' 1, 'tiny' 1, 'real' 2, 'flag' 1, 'text' 2"
    assert f"row 3, column 'whole' has no value, and 7 are missing in all ({gaps})" in refusal(path, ROLES)
    train, _ = halves(path, ROLES._replace(missing="fill"))
    assert train.features.shape == (2, 4 + 2 + 2 + 1)
    assert refusal(parquet(path, data | {"none": pyarrow.nulls(4)}), ROLES).startswith("column 'none' has no value")


def test_files_of_columns_without_rows_are_refused(tmp_path: Path) -> None:
    data = {name: values[:0] for name, values in GOOD.items()}
    assert "has no rows" in refusal(parquet(tmp_path / "t.parquet", data), ROLES)
    assert "has no rows" in refusal(npz(tmp_path / "t.npz", **data), ROLES)
    images = npz(tmp_path / "t.npz", **(data | {"x": np.zeros((0, 2, 2))}))
    assert "has no rows" in refusal(images, ROLES)


@pytest.mark.parametrize("values", [[[1], [2, 3], [], [4]], [{"a": 1}] * 4, [b"a", b"b"] * 2])
def test_nested_columns_of_parquet_are_refused_unless_they_are_left_out(values: list[Any], tmp_path: Path) -> None:
    data = {"x": [1, 2, 3, 4], "tags": values, "y": ["a", "b"] * 2, "part": ["train", "train", "test", "test"]}
    path = parquet(tmp_path / "t.parquet", data)
    text = refusal(path, ROLES)
    assert text.startswith("column 'tags' holds ")
    assert "drop=('tags',)" in text
    assert len(halves(path, ROLES._replace(drop=("tags",)))[0].labels) == 2


def test_parquet_without_pyarrow_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(tmp_path / "t.parquet", GOOD)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert refusal(path, ROLES).endswith("write pip install 'agrbench[parquet]'")


# ---------------------------------------------------------------- properties


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=4).filter(
    lambda text: text.strip() == text and text.lower() not in columns.MISSING and np.isnan(columns.number(text))
)
FLOATS = st.floats(-1e6, 1e6, width=32)
KINDS = st.sampled_from(["float", "int", "flag", "text"])


@st.composite
def typed(draw: st.DrawFn) -> dict[str, np.ndarray[Any, Any]]:
    """Draw columns of one type each, with every class among training and test rows."""
    rows = draw(st.integers(4, 12))
    values = {
        "float": (FLOATS, np.float64), "int": (st.integers(-1000, 1000), np.int64), "flag": (st.booleans(), np.bool_),
        "text": (st.sampled_from(draw(st.lists(TEXTS, min_size=1, max_size=3))), np.str_),
    }  # fmt: skip
    data: dict[str, np.ndarray[Any, Any]] = {}
    for place, kind in enumerate(draw(st.lists(KINDS, min_size=1, max_size=4))):
        each, dtype = values[kind]
        data[f"c{place}"] = np.array(draw(st.lists(each, min_size=rows, max_size=rows)), dtype)
    data["part"] = np.array(
        [True, True, False, False, *draw(st.lists(st.booleans(), min_size=rows - 4, max_size=rows - 4))]
    )
    data["y"] = np.array([0, 1, 0, 1, *draw(st.lists(st.integers(0, 1), min_size=rows - 4, max_size=rows - 4))])
    data["who"] = np.array(draw(st.lists(st.sampled_from(["v", "w", "x"]), min_size=rows, max_size=rows)))
    return data


def written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_csv(path: Path, data: dict[str, np.ndarray[Any, Any]], order: list[int] | None = None) -> Path:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(data)
    lines = [[written(value) for value in row] for row in zip(*(each.tolist() for each in data.values()), strict=True)]
    writer.writerows(lines if order is None else [lines[place] for place in order])
    return write(path, stream.getvalue())


WHO = Roles("y", "who", "part")


@REPEATED
@given(data=typed())
def test_typed_columns_written_as_csv_are_read_back(data: dict[str, np.ndarray[Any, Any]], tmp_path: Path) -> None:
    table = tables.read(str(as_csv(tmp_path / "t.csv", data)), WHO)
    assert list(table.columns) == list(data)
    assert table.rows.tolist() == list(range(2, len(data["y"]) + 2))
    for name, values in data.items():
        found = columns.numbers(table, name) if values.dtype.kind in "if" else None
        if found is not None:
            assert found.tolist() == values.tolist()
        else:
            kinds = columns.categories(table.columns[name])
            assert [kinds.names[code] for code in kinds.codes] == [written(value) for value in values.tolist()]


@REPEATED
@given(data=typed())
def test_csv_parquet_and_npz_of_the_same_data_give_equal_examples(
    data: dict[str, np.ndarray[Any, Any]], tmp_path: Path
) -> None:
    paths = (
        as_csv(tmp_path / "t.csv", data), parquet(tmp_path / "t.parquet", data), npz(tmp_path / "t.npz", **data)
    )  # fmt: skip
    first, *others = (halves(path, WHO) for path in paths)
    for other in others:
        for one, two in zip(first, other, strict=True):
            assert torch.equal(one.features, two.features)
            assert torch.equal(one.labels, two.labels)
            assert one.owners is not None
            assert two.owners is not None
            assert torch.equal(one.owners, two.owners)
            assert one.about[:2] == two.about[:2]


@REPEATED
@given(data=typed(), draw=st.data())
def test_the_order_of_rows_in_the_file_only_permutes_the_examples(
    data: dict[str, np.ndarray[Any, Any]], draw: st.DataObject, tmp_path: Path
) -> None:
    order = draw.draw(st.permutations(range(len(data["y"]))))
    given_, turned = (halves(as_csv(tmp_path / "t.csv", data, each), WHO) for each in (None, order))
    for one, other in zip(given_, turned, strict=True):
        np.testing.assert_allclose(rows(one), rows(other), rtol=1e-5, atol=1e-5)
