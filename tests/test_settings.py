"""Settings that are specs: one form for one meaning, a key for each, and a sentence for every mistake."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from agrbench import settings
from agrbench.cells import Cell
from agrbench.cli import main
from agrbench.clients import models
from agrbench.errors import AgrbenchError, SpecError
from tests.helpers.project import ROOT

RECORDS = ROOT / "leaderboard" / "records"

NUMBERS = st.sampled_from([("0.5", 0.5), ("5e-1", 0.5), ("0.50", 0.5), ("2", 2.0), ("2.0", 2.0), ("1e-3", 0.001)])
COUNTS = st.sampled_from([("1", 1), ("2", 2), ("0x2", 2), ("10", 10), ("1_0", 10)])
SHARES = st.sampled_from([("0", 0.0), ("0.0", 0.0), ("0.9", 0.9), ("9e-1", 0.9), ("0.3", 0.3)])
WORDS = st.sampled_from([("'anew'", "anew"), ('"anew"', "anew"), ("'after'", "after"), ('"after"', "after")])
CUTS = st.sampled_from([("'batches'", "batches"), ('"batches"', "batches"), ("'size'", "size"), ('"size"', "size")])
FLAGS = st.sampled_from([("True", True), ("False", False)])
DECAYS = st.sampled_from(
    [("'cosine'", "cosine"), ('"cosine"', "cosine"), ("{9: 1, 5: .5}", {5: 0.5, 9: 1.0}), ("{5:0.5}", {5: 0.5})]
)
EVERYTHING = st.sampled_from([("'all'", "all"), ('"all"', "all")])
TRAINING = {
    "rate": (None, NUMBERS), "epochs": (1, COUNTS), "batches": (1, COUNTS), "poisoned": ("anew", WORDS),
    "root": ("batches", CUTS), "clip": (None, NUMBERS), "decay": (None, DECAYS), "reset": (False, FLAGS),
    "weight_decay": (0.0, SHARES),
}  # fmt: skip
MINE = {"malicious": (None, EVERYTHING)}
AVERAGED = {"beta1": (0.9, SHARES), "beta2": (0.99, SHARES), "rate": (0.01, NUMBERS), "tau": (0.001, NUMBERS)}
CHOICES: dict[str, dict[str, dict[str, tuple[Any, st.SearchStrategy[tuple[str, Any]]]]]] = {
    "schedule": {"sgd": {**TRAINING, "momentum": (0.0, SHARES), "dampening": (0.0, SHARES)}, "adam": TRAINING},
    "partition": {
        "iid": MINE,
        "dirichlet": {"alpha": (0.1, NUMBERS), **MINE},
        "shards": {"labels": (2, COUNTS), **MINE},
        "natural": {},
        "quantity": {"sigma": (1.0, NUMBERS), **MINE},
        "sorted": MINE,
        "similarity": {"gamma": (0.5, SHARES), **MINE},
    },
    "server": {
        "sgd": {"rate": (1.0, NUMBERS), "momentum": (0.0, SHARES)},
        "adagrad": {"rate": (0.1, NUMBERS), "beta1": (0.0, SHARES), "tau": (0.001, NUMBERS)},
        "adam": AVERAGED,
        "yogi": AVERAGED,
    },
    "malicious": {"bernoulli": {"share": (0.3, SHARES)}},
}
Meaning = tuple[str, tuple[tuple[str, Any], ...]]


@st.composite
def spelled(draw: st.DrawFn, setting: str, only: str | None = None) -> tuple[str, Meaning]:
    """Spell a setting in one of many ways; give the text and what it means, every default in place."""
    name = only or draw(st.sampled_from(sorted(CHOICES[setting])))
    options = CHOICES[setting][name]
    given = draw(st.lists(st.sampled_from(sorted(options)), unique=True)) if options else []
    written, meant = [], {option: default for option, (default, _) in options.items()}
    for option in given:
        text, meant[option] = draw(options[option][1])
        space = draw(st.sampled_from(["", " "]))
        written.append(f"{option}{space}={space}{text}")
    brackets = f"({draw(st.sampled_from([',', ', ', ' ,']))[:9].join(written)})" if written else ""
    brackets = brackets or draw(st.sampled_from(["", "()"]))
    return f"{name}{brackets}", (name, tuple(sorted(meant.items())))


ANY = st.sampled_from(sorted(CHOICES)).flatmap(lambda setting: spelled(setting).map(lambda pair: (setting, *pair)))


@given(drawn=ANY)
def test_reading_a_setting_puts_every_default_in_place(drawn: tuple[str, str, Meaning]) -> None:
    setting, text, (name, meant) = drawn
    term = settings.read(setting, text)
    assert term.name == name
    assert {key: value for key, value in term.arguments.items() if value is not None} == {
        key: value for key, value in meant if value is not None
    }
    # 1 == 1.0 == True in Python: what is counted stays whole, what is measured is a float
    kinds = {key: type(value) for key, value in meant if value is not None}
    assert {key: type(value) for key, value in term.arguments.items() if value is not None} == kinds


@given(drawn=ANY)
def test_the_one_form_is_its_own_form_and_means_the_same(drawn: tuple[str, str, Meaning]) -> None:
    setting, text, _ = drawn
    form = settings.canonical(setting, text)
    assert settings.canonical(setting, form) == form
    assert settings.read(setting, form) == settings.read(setting, text)


@given(setting=st.sampled_from(sorted(CHOICES)), data=st.data())
def test_two_spellings_have_one_form_exactly_if_they_mean_the_same(setting: str, data: st.DataObject) -> None:
    one, meant = data.draw(spelled(setting))
    two, other = data.draw(spelled(setting, meant[0]))
    assert (settings.canonical(setting, one) == settings.canonical(setting, two)) == (meant == other)


@given(drawn=spelled("schedule"))
def test_a_schedule_gives_its_rate_to_the_cell(drawn: tuple[str, Meaning]) -> None:
    text, (name, meant) = drawn
    cell = Cell("digits", "krum", "none", schedule=text)
    unnamed = 0.001 if name == "adam" else None  # gradient steps have the dataset's rate
    assert cell.rate == (dict(meant)["rate"] or unnamed)
    assert "rate" not in cell.schedule
    rest = dict(meant) | {"rate": None}
    kept = settings.read("schedule", cell.schedule)
    assert kept.name == name
    assert {key: value for key, value in kept.arguments.items() if value is not None} == {
        key: value for key, value in rest.items() if value is not None
    }


@given(name=st.sampled_from(["sgd", "adam"]), data=st.data())
def test_cells_share_a_key_exactly_if_their_schedules_mean_the_same(name: str, data: st.DataObject) -> None:
    keys, meanings = [], []
    for _ in range(2):
        text, (_, meant) = data.draw(spelled("schedule", name))
        keys.append(Cell("digits", "krum", "none", schedule=text).key)
        # the default rate of Adam needs no dataset to be known
        default = {"rate": 0.001} if name == "adam" and dict(meant)["rate"] is None else {}
        meanings.append(dict(meant) | default)
    assert (keys[0] == keys[1]) == (meanings[0] == meanings[1])


def test_a_cell_writes_its_settings_in_their_one_form() -> None:
    cell = Cell(
        "digits", "krum", "none",
        malicious="bernoulli( share = 0.30 )",
        schedule="adam(rate=1e-3, epochs=2,batches=5)",
        model=" mlp( 512,1024 ) ",
        partition="dirichlet(alpha=1)",
    )  # fmt: skip
    assert cell.rate == 0.001
    assert cell.schedule == "adam(batches=5,epochs=2)"
    assert cell.model == "mlp(512,1024)"
    assert cell.partition == "dirichlet(alpha=1.0)"
    assert cell.malicious == "bernoulli"
    assert Cell("digits", "krum", "none", partition="dirichlet(alpha=0.1)").partition == "dirichlet"
    assert Cell("digits", "krum", "none", schedule="sgd(momentum=0,epochs=1)").settings == {}


@pytest.mark.parametrize(
    "text",
    ["mlp", "mlp(512)", "mlp(512,1024)", "cnn", "cnn(of='byzfl')", "resnet(20)", "resnet(8)", "resnet(110)"],
)
def test_every_published_model_has_one_form(text: str) -> None:
    assert settings.canonical("model", text) == text
    assert settings.canonical("model", f" {text.replace(',', ' , ')} ") == text
    assert Cell("digits", "krum", "none", model=text).settings == {"model": text}


@pytest.mark.parametrize(
    ("text", "parameters"),
    [("mlp", 65 * 10), ("mlp(7)", 65 * 7 + 8 * 10), ("mlp(7,5)", 65 * 7 + 8 * 5 + 6 * 10), ("mlp()", 65 * 10)],
)
def test_a_model_is_built_with_the_sizes_that_are_written(text: str, parameters: int) -> None:
    module = models.named(text)((1, 8, 8), 10)
    assert sum(part.numel() for part in module.parameters()) == parameters


def test_each_setting_that_is_changed_changes_the_key() -> None:
    changes: list[dict[str, Any]] = [
        {}, {"schedule": "adam"}, {"schedule": "adam(epochs=2)"}, {"schedule": "adam(batches=2)"},
        {"schedule": "sgd(momentum=0.9)"}, {"schedule": "sgd(epochs=2)"}, {"schedule": "sgd(batches=2)"},
        {"schedule": "sgd(poisoned='after')"}, {"schedule": "sgd(rate=0.25)"}, {"schedule": "adam(rate=0.25)"},
        {"model": "mlp"}, {"model": "mlp(512)"}, {"model": "mlp(512,512)"}, {"model": "cnn"}, {"model": "resnet(20)"},
        {"partition": "dirichlet"}, {"partition": "dirichlet(alpha=1.0)"}, {"partition": "shards"},
        {"partition": "shards(labels=3)"}, {"partition": "natural"}, {"partition": "quantity"},
        {"partition": "quantity(sigma=2.0)"}, {"root": "test"}, {"malicious": "bernoulli"},
        {"malicious": "bernoulli(share=0.2)"}, {"malicious": 0.2},
    ]  # fmt: skip
    cells = [Cell("digits", "krum", "label_flip", **change) for change in changes]
    assert len({cell.key for cell in cells}) == len(cells)
    for one, two in itertools.combinations(cells, 2):
        assert one != two


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"schedule": "sgd"}, {}),
        ({"schedule": "sgd()"}, {}),
        ({"schedule": "sgd(epochs=1,batches=1,momentum=0.0,poisoned='anew',root='batches')"}, {}),
        ({"schedule": "sgd(rate=0.25)"}, {"rate": 0.25}),
        ({"schedule": "sgd(rate=0.25)", "rate": 0.25}, {"rate": 0.25}),
        ({"schedule": "sgd(rate=1)", "rate": 1}, {"rate": 1.0}),
        ({"schedule": "adam(rate=0.01)"}, {"schedule": "adam", "rate": 0.01}),
        ({"schedule": "adam(rate=0.001)"}, {"schedule": "adam"}),
        ({"schedule": "adam(epochs=2,batches=5)"}, {"schedule": "adam(batches=5, epochs=2)"}),
        ({"partition": "iid"}, {}),
        ({"partition": "iid()"}, {}),
        ({"root": "train"}, {}),
        ({"model": None}, {}),
        ({"partition": "shards(labels=2)"}, {"partition": "shards"}),
        ({"partition": "quantity(sigma=1)"}, {"partition": "quantity"}),
        ({"malicious": "bernoulli(share=0.3)"}, {"malicious": "bernoulli"}),
        ({"malicious": "bernoulli", "byzantine": 15}, {"malicious": "bernoulli"}),
    ],
    ids=str,
)
def test_two_spellings_of_one_cell_have_one_key(one: dict[str, Any], two: dict[str, Any]) -> None:
    first, second = (Cell("digits", "krum", "none", **change) for change in (one, two))
    assert first.key == second.key
    assert first.settings == second.settings


@given(
    schedule=spelled("schedule"),
    partition=spelled("partition"),
    malicious=st.none() | spelled("malicious"),
    model=st.sampled_from([None, "mlp", "mlp(3,4)", "cnn", "resnet(20)"]),
    root=st.sampled_from(["train", "test"]),
)
def test_a_record_s_cell_is_read_back_with_the_same_key_and_settings(
    schedule: tuple[str, Meaning],
    partition: tuple[str, Meaning],
    malicious: tuple[str, Meaning] | None,
    model: str | None,
    root: str,
) -> None:
    given: dict[str, Any] = {"schedule": schedule[0], "partition": partition[0], "model": model, "root": root}
    given |= {"malicious": malicious[0]} if malicious else {}
    cell = Cell("digits", "krum", "label_flip", clients=20, **given)
    again = Cell.from_json(json.loads(json.dumps(cell.as_json(), allow_nan=False)))
    assert again.key == cell.key
    assert again.settings == cell.settings
    assert again.as_json() == cell.as_json()
    assert (again.attackers, again.bound, again.draw) == (cell.attackers, cell.bound, cell.draw)


def test_every_committed_record_keeps_its_key() -> None:
    lines = [line for path in RECORDS.glob("*.jsonl") for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) > 300
    for record in map(json.loads, lines):
        assert record["key"] == Cell.from_json(record["cell"]).key


@pytest.mark.parametrize(
    ("cell", "key"),
    [
        (Cell("digits", "krum", "label_flip"), "537f6970df"),
        (
            Cell(
                "digits", "krum", "label_flip", 2, 20, 3, 5, rounds=100, start=30, rate=0.25, threads=2, device="cuda"
            ),
            "ffcc180c2b",
        ),
        (Cell("location30", "amp+krum", "none", malicious=0.1), "0b2715fef3"),
    ],
    ids=str,
)
def test_cells_without_a_new_setting_keep_the_keys_of_before(cell: Cell, key: str) -> None:
    assert cell.key == key


MISTAKES: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    # a name that is none: what was given, and the one that was meant or all there are
    ({"schedule": "adm"}, ("schedule", "adm", "adam")),
    ({"schedule": "sdg"}, ("schedule", "sdg", "sgd")),
    ({"schedule": "zzz"}, ("schedule", "zzz", "adam", "sgd")),
    ({"model": "mpl(3)"}, ("model", "mpl", "mlp")),
    ({"model": "resnt(20)"}, ("model", "resnt", "resnet")),
    ({"partition": "dirichlt(alpha=0.1)"}, ("partition", "dirichlt", "dirichlet")),
    ({"partition": "shard"}, ("partition", "shard", "shards")),
    ({"malicious": "bernouli(share=0.3)"}, ("malicious", "bernouli", "bernoulli")),
    ({"malicious": "0.3"}, ("malicious", "0.3")),
    # a hyperparameter that is none: the signature
    ({"schedule": "adam(momentum=0.9)"}, ("momentum", "adam(", "epochs", "batches", "rate")),
    ({"schedule": "sgd(epoch=2)"}, ("epoch", "sgd(", "epochs", "momentum")),
    ({"partition": "dirichlet(alhpa=0.1)"}, ("alhpa", "dirichlet(alpha")),
    ({"partition": "shards(alpha=0.1)"}, ("alpha", "shards(labels")),
    ({"partition": "iid(alpha=0.1)"}, ("alpha", "iid")),
    ({"model": "mlp(hidden=3)"}, ("hidden", "mlp")),
    ({"model": "cnn(width=3)"}, ("width", "cnn")),
    ({"malicious": "bernoulli(p=0.3)"}, ("p", "bernoulli(share")),
    # a value out of range
    *(
        ({setting: f"{name}({option}={value})"}, (option, wanted))
        for setting, name, option, wanted, values in (
            ("schedule", "sgd", "rate", "above 0", ("0", "0.0", "-1", "-0.5", "True", "'a'")),
            ("schedule", "adam", "rate", "above 0", ("0", "1e400", "False", "[1]", "(1,)")),
            ("schedule", "sgd", "epochs", "from 1", ("0", "-1", "1.0", "1.5", "True", "''")),
            ("schedule", "adam", "batches", "from 1", ("0", "1.5", "1e400", "True", "{}")),
            ("schedule", "sgd", "momentum", "below 1", ("1", "1.0", "-0.1", "True", "2")),
            ("schedule", "sgd", "poisoned", "after", ("'before'", "True", "1", "['after']")),
            ("schedule", "sgd", "root", "size", ("'rows'", "True", "1", "['size']")),
            ("partition", "dirichlet", "alpha", "above 0", ("0", "-1", "1e400", "True", "''")),
            ("partition", "shards", "labels", "from 1", ("0", "-2", "1.5", "2.0", "True")),
            ("partition", "quantity", "sigma", "above 0", ("0", "-1", "1e400", "True", "{}")),
            ("malicious", "bernoulli", "share", "below 1", ("1", "1.0", "-0.1", "1e400", "True")),
            ("schedule", "sgd", "rate", "rate", ("nan", "inf", "None")),
            ("partition", "dirichlet", "alpha", "alpha", ("nan", "inf", "None")),
            ("malicious", "bernoulli", "share", "share", ("nan", "inf", "None")),
        )
        for value in values
    ),
    *(({"model": f"mlp({value})"}, ("mlp", value)) for value in ("0", "-1", "1.5", "True", "'3'", "512,0", "512,-1")),
    *(({"model": f"resnet({value})"}, ("resnet", "6")) for value in ("21", "2", "0", "-4", "20,20", "")),
    ({"model": "resnet"}, ("resnet", "6")),
    ({"model": "cnn(3)"}, ("cnn",)),
    ({"model": "cnn(of='lenet')"}, ("lenet", "'mcmahan', 'karimireddy' or 'byzfl'")),
    # what is no such spec at all
    ({"partition": "dirichlet(0.1)"}, ("dirichlet(0.1)", "alpha")),
    ({"partition": "shards(2)"}, ("shards(2)", "labels")),
    ({"schedule": "sgd(0.1)"}, ("sgd(0.1)", "rate")),
    ({"partition": "iid+iid"}, ("partition", "iid+iid")),
    ({"schedule": "sgd+adam"}, ("schedule", "sgd+adam")),
    ({"model": "mlp(3)+mlp(3)"}, ("model", "mlp(3)+mlp(3)")),
    ({"malicious": "bernoulli+bernoulli"}, ("malicious", "bernoulli+bernoulli")),
    ({"schedule": "sgd(rate=0.1,rate=0.1)"}, ("sgd(rate=0.1,rate=0.1)",)),
    *(({name: ""}, (name,)) for name in ("schedule", "model", "partition", "malicious")),
    *(({name: "a b("}, ("a b(",)) for name in ("schedule", "model", "partition", "malicious")),
    *(({"schedule": value}, ("schedule", str(value))) for value in (5, 0.5, True, ["sgd"])),
    *(({"model": value}, ("model", str(value))) for value in (5, 0.5, True, ["mlp"])),
    *(({"partition": value}, ("partition", str(value))) for value in (5, 0.5, True, ["iid"])),
    ({"schedule": None}, ("schedule", "None")),
    ({"partition": None}, ("partition", "None")),
    ({"malicious": ["bernoulli"]}, ("malicious", "bernoulli")),
    # the root set, and a rate that is given twice
    *(({"root": value}, ("root", str(value), "train", "test")) for value in ("server", "", None, True, 5, ["train"])),
    ({"schedule": "sgd(rate=0.5)", "rate": 0.25}, ("rate", "0.25", "0.5")),
    ({"schedule": "adam(rate=0.5)", "rate": 0.001}, ("rate", "0.001", "0.5")),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), MISTAKES, ids=[str(change) for change, _ in MISTAKES])
def test_a_mistake_is_answered_with_what_was_given_and_what_to_write(
    change: dict[str, Any], said: tuple[str, ...]
) -> None:
    with pytest.raises(AgrbenchError) as refused:
        Cell("digits", "krum", "none", **change)
    for word in said:
        assert word in str(refused.value)
    assert str(refused.value).count("\n") == 0


@pytest.mark.parametrize(
    ("setting", "text", "meant", "other"),
    [
        ("schedule", "adm", "adam", "sgd"),
        ("model", "resnt(20)", "resnet", "mlp"),
        ("partition", "dirichlt(alpha=0.1)", "dirichlet", "quantity"),
    ],
)
def test_a_name_that_is_nearly_right_is_answered_with_that_name_alone(
    setting: str, text: str, meant: str, other: str
) -> None:
    with pytest.raises(SpecError, match=f"write.*{meant}") as refused:
        settings.canonical(setting, text)
    assert other not in str(refused.value)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("schedule", "zzz"), ("schedule", "adam(x=1)"), ("schedule", "sgd(x=1)"), ("schedule", "sgd(0.5)"),
        ("partition", "zzz"), ("partition", "dirichlet(x=1)"), ("partition", "shards(2)"),
        ("malicious", "zzz"), ("malicious", "bernoulli(x=1)"),
    ],
)  # fmt: skip
def test_the_forms_that_an_answer_offers_can_be_written(setting: str, text: str) -> None:
    with pytest.raises(SpecError) as refused:
        settings.canonical(setting, text)
    offered = re.findall(r"\w+\([^()]*\)", str(refused.value).replace(text, ""))
    assert offered
    for form in offered:
        assert settings.read(setting, form).name == form.partition("(")[0]


@pytest.mark.parametrize("setting", ["schedule", "model", "partition", "malicious"])
@pytest.mark.parametrize(
    "text", ["nobody", "a b(", "", "x+y", None, 5, True, ["sgd"], {"sgd": 1}, "a" * 5000, "é", "\0"]
)
def test_whatever_is_no_setting_is_a_spec_error(setting: str, text: object) -> None:
    for function in (settings.read, settings.canonical):
        with pytest.raises(SpecError):
            function(setting, text)


@given(setting=st.sampled_from(["schedule", "model", "partition", "malicious"]), text=st.text(max_size=30))
def test_no_text_crashes_a_setting(setting: str, text: str) -> None:
    try:
        form = settings.canonical(setting, text)
    except SpecError:
        return
    assert settings.canonical(setting, form) == form


@pytest.mark.parametrize(
    "change",
    [
        {"schedule": f"sgd(rate={10**400})"},
        {"schedule": f"sgd(epochs={10**400})"},
        {"schedule": f"adam(batches={10**400})"},
        {"schedule": f"sgd(momentum={10**400})"},
        {"partition": f"dirichlet(alpha={10**400})"},
        {"partition": f"shards(labels={10**400})"},
        {"partition": f"quantity(sigma={10**400})"},
        {"malicious": f"bernoulli(share={10**400})"},
        {"model": f"mlp({10**400})"},
        {"model": f"resnet({6 * 10**400 + 2})"},
    ],
    ids=lambda change: str(next(iter(change.values())))[:16],
)
def test_a_number_too_large_for_a_float_is_refused_or_kept_but_never_a_crash(change: dict[str, Any]) -> None:
    try:
        cell = Cell("digits", "krum", "none", **change)
    except AgrbenchError:
        return
    assert Cell.from_json(json.loads(json.dumps(cell.as_json()))).key == cell.key


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("schedule = 'adm'", "adam"),
        ("schedule = 'sgd(momentum=1)'", "momentum"),
        ("model = 'resnet(21)'", "resnet"),
        ("partition = 'dirichlet(0.1)'", "alpha"),
        ("malicious = 'bernoulli(share=1)'", "share"),
        ("root = 'server'", "root"),
    ],
)
def test_the_command_line_exits_with_2_and_says_the_sentence(
    tmp_path: Path, line: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the command sets its own
    suite = tmp_path / "suite.toml"
    suite.write_text(
        f"datasets = ['digits']\nattacks = ['none']\ndefenses = ['fedavg']\nseeds = 1\n[settings]\n{line}\n"
    )
    done = CliRunner().invoke(main, ["grid", "--suite", str(suite), "--dry-run", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert done.output.startswith("Error: ")
    assert said in done.output
    assert "Traceback" not in done.output


def test_naming_a_cell_imports_no_torch() -> None:
    code = (
        "import sys; from agrbench.cells import Cell\n"
        "Cell('digits', 'krum', 'none', schedule='adam', model='resnet(20)', partition='shards', "
        "malicious='bernoulli').key\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("share", "clients", "expected"),
    [(0.3, 50, 15), (0.25, 10, 2), (0.35, 10, 4), (0.01, 10, 0), (0, 10, 0), (0.5, 1, 0)],
)
def test_the_server_s_bound_on_drawn_clients_is_the_expected_number(share: float, clients: int, expected: int) -> None:
    cell = Cell("digits", "krum", "none", clients=clients, malicious=f"bernoulli(share={share})")
    assert (cell.attackers, cell.bound) == (expected, expected)
    assert dataclasses.replace(cell, byzantine=0).bound == 0


@given(clients=st.integers(1, 60), share=st.floats(0, 1, exclude_max=True))
def test_the_bound_on_drawn_clients_leaves_an_honest_one(clients: int, share: float) -> None:
    """As a bound that is written, from 0 to `clients - 1`."""
    try:
        cell = Cell("digits", "krum", "none", clients=clients, malicious=f"bernoulli(share={share!r})")
    except AgrbenchError:
        return
    assert 0 <= cell.bound < clients
