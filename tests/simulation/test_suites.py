"""Suites: what the shipped ones run, how files compose, and what is refused."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from agrbench import specs
from agrbench.cells import Cell
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.simulation import suites
from agrbench.simulation.grid import Grid, expand

FIVE = {"location30", "mnist", "cifar10", "purchase100", "texas100"}
UNTARGETED = {"label_flip", "gradient_ascent", "min_max", "flip_ascent"}
PAIRS = [(name.replace("-released", ""), name) for name in suites.shipped() if name.endswith("-released")]
LEAST = 'datasets = ["digits"]\nattacks = ["none"]\ndefenses = ["krum"]\n'


@cache
def registry() -> Registry:
    return Registry()


@cache
def cells_of(name: str) -> tuple[Cell, ...]:
    return expand(suites.read(name).grids, registry())


def names(spec: str) -> tuple[str, ...]:
    """Give the plugins of a spec, without their hyperparameters."""
    return tuple(term.name for term in specs.parse(spec))


def write(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(AgrbenchError) as caught:
        suites.read(write(folder, text))
    return str(caught.value)


# ---------------------------------------------------------------- what is shipped


def test_every_part_of_the_paper_is_shipped_in_both_profiles() -> None:
    parts = ["table1", "table2", "table3", "table4", "fig10", "fig11", "fig12"]
    both = {"paper", "released", *parts, *(f"{part}-released" for part in parts)}
    assert set(suites.shipped()) == both | {"baseline", "demo", "catalogue", "controls", "worst"}


def test_worst_is_every_untargeted_attack() -> None:
    untargeted = {name for name in registry().names("attack") if registry().attack(name).record.trigger is None}
    untargeted.remove("size_inflation")  # to rules that ignore sizes, as all ranked ones do, it is sign_flip
    assert {names(attack)[0] for grid in suites.read("worst").grids for attack in grid.attacks} == untargeted


def test_controls_are_six_views_of_every_rule_on_both_datasets() -> None:
    """The updates, pooled, one random entry, the mean, shuffled, the largest magnitude."""
    for grid in suites.read("controls").grids:
        rules = {specs.parse(stack)[-1].name for stack in grid.defenses} - {"fedavg"}
        views = ["", "amp+", "sample+", "mean_pool+", "amp(shuffle=True)+", "amp(by='magnitude')+"]
        assert sorted(grid.defenses) == sorted(["fedavg", *(view + rule for view in views for rule in rules)])


@pytest.mark.parametrize("name", suites.shipped())
def test_shipped_suite_expands_to_cells_each_once(name: str) -> None:
    cells = cells_of(name)
    assert cells
    assert len(set(cells)) == len(cells)
    assert len({cell.key for cell in cells}) == len(cells)
    assert suites.read(name).title


@pytest.mark.parametrize("name", suites.shipped())
def test_shipped_suite_has_the_baseline_and_no_attack_for_every_other_cell(name: str) -> None:
    there = {(cell.dataset, cell.defense, cell.attack, cell.seed, cell.model, cell.clients) for cell in cells_of(name)}
    for cell in cells_of(name):
        for defense, attack in (("fedavg", "none"), ("fedavg", cell.attack), (cell.defense, "none")):
            assert (cell.dataset, defense, attack, cell.seed, cell.model, cell.clients) in there


def test_table1_is_5_datasets_3_seeds_11_stacks_and_5_attacks_with_none() -> None:
    cells = cells_of("table1")
    assert {cell.dataset for cell in cells} == FIVE
    assert {cell.seed for cell in cells} == {0, 1, 2}
    assert len({cell.defense for cell in cells}) == 11
    assert {cell.attack for cell in cells} == {*UNTARGETED, "none"}
    assert len(cells) == 5 * 3 * 11 * 5


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "fig12"])
def test_tables_run_50_clients_200_rounds_and_the_attack_from_50_on(name: str) -> None:
    for cell in cells_of(name):
        assert (cell.clients, cell.attackers, cell.rounds, cell.first) == (50, 15, 200, 50)
        assert (cell.schedule, cell.partition, cell.root) == ("sgd", "iid", "train")


def test_whole_paper_is_its_tables_together() -> None:
    assert set(cells_of("table1")) | set(cells_of("table3")) < set(cells_of("paper"))
    assert set(cells_of("table2")) < set(cells_of("paper"))
    assert {cell.attack for cell in cells_of("paper")} == {*UNTARGETED, "scaling", "none"}


@pytest.mark.parametrize("name", ["table2", "table2-released"])
def test_table2_is_the_scaling_attack_alone(name: str) -> None:
    assert {names(cell.attack) for cell in cells_of(name)} == {("scaling",), ("none",)}


@pytest.mark.parametrize("name", ["table3", "table3-released"])
def test_table3_attacks_nobody(name: str) -> None:
    assert {cell.attack for cell in cells_of(name)} == {"none"}


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("table4", ["mlp(512)", "mlp(1024)", "mlp(2048)"]),
        ("table4-released", ["mlp(512,1024)", "mlp(1024,2048)", "mlp(2048,4096)"]),
    ],
)
def test_table4_is_location30_by_hidden_width(name: str, widths: list[str]) -> None:
    cells = cells_of(name)
    assert {cell.dataset for cell in cells} == {"location30"}
    own = registry().dataset("location30").record.model  # a cell leaves out what is its dataset's own
    assert {cell.model or own for cell in cells} == set(widths)
    assert {names(cell.attack)[0] for cell in cells} == {*UNTARGETED, "none"}


@pytest.mark.parametrize("name", ["fig10", "fig10-released"])
def test_fig10_is_10_to_1000_clients(name: str) -> None:
    assert {cell.clients for cell in cells_of(name)} == {10, 50, 100, 500, 1000}
    by_count = {count: [cell for cell in cells_of(name) if cell.clients == count] for count in (10, 1000)}
    assert len(by_count[10]) == len(by_count[1000])


@pytest.mark.parametrize("name", ["fig11", "fig11-released"])
def test_fig11_is_10_to_50_percent_malicious_of_100_clients(name: str) -> None:
    assert {(cell.clients, cell.attackers) for cell in cells_of(name)} == {(100, k) for k in (10, 20, 30, 40, 50)}
    assert {cell.bound for cell in cells_of(name)} == {10, 20, 30, 40, 50}


def kernels(name: str, rule: str) -> set[int]:
    """Give the kernels that a suite pools a rule by; 2 is the amplifier's own."""
    stacks = [specs.parse(cell.defense) for cell in cells_of(name)]
    return {terms[0].arguments.get("kernel", 2) for terms in stacks if [t.name for t in terms] == ["amp", rule]}


@pytest.mark.parametrize("rule", ["cosden", "fang", "fltrust"])
def test_fig12_is_kernels_of_2_to_9_beside_the_base_rule(rule: str) -> None:
    assert kernels("fig12", rule) == {2, 3, 5, 7, 9}
    assert rule in {cell.defense for cell in cells_of("fig12")}


def test_fig12_released_sweeps_the_rules_that_the_code_passes_a_kernel_to() -> None:
    assert kernels("fig12-released", "fang") == kernels("fig12-released", "fltrust") == {2, 3, 5, 7, 9}
    assert kernels("fig12-released", "cosden") == {3}


@pytest.mark.parametrize(("text", "released"), [*PAIRS, ("paper", "released")])
def test_released_suite_runs_the_plugins_of_its_text_one_on_the_same_data(text: str, released: str) -> None:
    for field in ("dataset", "attack", "defense"):
        ours, theirs = ({names(getattr(cell, field)) for cell in cells_of(name)} for name in (text, released))
        assert ours == theirs
    assert {cell.seed for cell in cells_of(text)} == {cell.seed for cell in cells_of(released)}


@pytest.mark.parametrize("name", [name for name in suites.shipped() if "released" in name])
def test_released_suite_trains_as_the_code_does(name: str) -> None:
    written = "adam(epochs=2,batches=5,poisoned='after',root='size')"
    schedule = Cell("digits", "krum", "none", schedule=written).schedule
    for cell in cells_of(name):
        assert (cell.schedule, cell.rate, cell.root) == (schedule, 0.001, "test")
        assert cell.draw is not None
        assert (cell.draw.name, cell.rounds, cell.first) == ("bernoulli", 200, 50)


@pytest.mark.parametrize("name", [name for name in suites.shipped() if "released" in name])
def test_released_suite_has_no_stack_in_the_form_of_the_text(name: str) -> None:
    """A rule whose released form differs is named with it, and pooling folds as the code folds."""
    for cell in cells_of(name):
        *stages, rule = specs.parse(cell.defense)
        assert all(stage.arguments.get("fold") == "released" for stage in stages)
        if rule.name in ("cosden", "euden", "mgden"):
            assert rule.arguments["score"] == "released"
        if rule.name == "fang":
            assert rule.arguments["impact"] == "released"
        if rule.name == "fltrust" and stages:
            assert rule.arguments["norm"] == "pooled"
        if cell.attack != "none":
            [attack] = specs.parse(cell.attack)
            own = {"label_flip": "pool", "flip_ascent": "pool", "scaling": "triggered"}
            assert own.get(attack.name, "released") in attack.arguments.values()


# ---------------------------------------------------------------- how files compose


def test_path_of_a_file_is_a_suite(tmp_path: Path) -> None:
    suite = suites.read(write(tmp_path, 'title = "mine"\nseeds = 2\nforms = "base"\n' + LEAST))
    assert suite.title == "mine"
    assert suite.grids == (Grid(("digits",), ("none",), ("krum",), 2, {}, "base"),)


def test_include_and_variations_make_their_product(tmp_path: Path) -> None:
    write(tmp_path, LEAST + "[[grids]]\nsettings = { rounds = 10 }\n[[grids]]\nsettings = { rounds = 20 }\n", "a.toml")
    text = 'include = ["a.toml"]\nattacks = ["min_max"]\n[settings]\nclients = 7\n' + "".join(
        f"[[grids]]\nsettings = {{ malicious = {count} }}\n" for count in (1, 2, 3)
    )
    grids = suites.read(write(tmp_path, text)).grids
    assert len(grids) == 6
    assert {grid.attacks for grid in grids} == {("min_max",)}
    assert {grid.defenses for grid in grids} == {("krum",)}
    found = [(grid.settings["malicious"], grid.settings["rounds"], grid.settings["clients"]) for grid in grids]
    assert sorted(found) == [(count, rounds, 7) for count in (1, 2, 3) for rounds in (10, 20)]


def test_several_includes_stand_side_by_side(tmp_path: Path) -> None:
    write(tmp_path, LEAST, "a.toml")
    write(tmp_path, LEAST.replace("krum", "median"), "b.toml")
    grids = suites.read(write(tmp_path, 'include = ["a.toml", "b.toml"]\nseeds = 1\n')).grids
    assert [(grid.defenses, grid.seeds) for grid in grids] == [(("krum",), 1), (("median",), 1)]


def test_later_words_win_variation_over_file_over_include(tmp_path: Path) -> None:
    write(tmp_path, "seeds = 5\n" + LEAST + "[settings]\nrounds = 10\nclients = 5\nrate = 0.5\n", "a.toml")
    text = 'include = ["a.toml"]\nseeds = 4\nsettings = { rounds = 20, clients = 6 }\n'
    [grid] = suites.read(write(tmp_path, text + "[[grids]]\nseeds = 3\nsettings = { rounds = 30 }\n")).grids
    assert grid.seeds == 3
    assert dict(grid.settings) == {"rounds": 30, "clients": 6, "rate": 0.5}


def test_file_includes_a_shipped_suite_by_name(tmp_path: Path) -> None:
    grids = suites.read(write(tmp_path, 'include = ["table1"]\nseeds = 1\n')).grids
    assert len(expand(grids, registry())) == 5 * 11 * 5


def test_included_file_lies_beside_the_file_that_names_it_however_deep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    write(tmp_path, LEAST, "sub/deep/c.toml")
    write(tmp_path, 'include = ["deep/c.toml"]\n', "sub/b.toml")
    path = write(tmp_path, 'include = ["sub/b.toml"]\nseeds = 1\n', "a.toml")
    assert suites.read(path).grids == (Grid(("digits",), ("none",), ("krum",), 1),)


def test_file_that_includes_itself_is_refused_with_the_chain(tmp_path: Path) -> None:
    said = refusal(tmp_path, 'include = ["mine.toml"]\n' + LEAST)
    assert "includes itself" in said
    assert re.search(r"mine\.toml > (\S+ > )*\S*mine\.toml", said)


def test_file_that_includes_itself_through_others_is_refused_with_the_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    write(tmp_path, 'include = ["mine.toml"]\n' + LEAST, "b.toml")
    said = refusal(tmp_path, 'include = ["b.toml"]\n')
    assert "includes itself" in said
    assert re.search(r"mine\.toml > \S*b\.toml > \S*mine\.toml", said)


def test_same_suite_may_be_included_twice_on_different_ways(tmp_path: Path) -> None:
    """A diamond is no circle; its cells are computed once."""
    write(tmp_path, LEAST, "base.toml")
    for name in ("a", "b"):
        write(tmp_path, 'include = ["base.toml"]\n', f"{name}.toml")
    grids = suites.read(write(tmp_path, 'include = ["a.toml", "b.toml"]\n')).grids
    assert len(grids) == 2
    assert expand(grids, registry()) == expand(grids[:1], registry())


# ---------------------------------------------------------------- what is given beside a suite


def grid_of(name: str, dataset: str) -> Grid:
    [grid] = [grid for grid in suites.read(name).grids if grid.datasets == (dataset,)]
    return grid


def test_dataset_that_is_given_picks_its_grid_with_its_settings() -> None:
    [grid] = suites.choose("table1", [], [], ["cifar10(test='batch5')"], 1, {})
    own = grid_of("table1", "cifar10")
    assert grid.datasets == ("cifar10(test='batch5')",)
    assert (grid.attacks, grid.defenses, grid.seeds) == (own.attacks, own.defenses, 1)
    assert grid.settings == own.settings
    assert len({tuple(sorted(g.settings.items(), key=str)) for g in suites.read("table1").grids}) > 1
    assert len(expand([grid], registry())) == 11 * 5


def test_several_datasets_each_pick_their_own_grid() -> None:
    grids = suites.choose("table1", [], [], ["mnist", "location30"], None, {})
    assert {grid.datasets for grid in grids} == {("mnist",), ("location30",)}
    assert all(grid.settings == grid_of("table1", grid.datasets[0]).settings for grid in grids)


def test_dataset_picks_every_variation_that_has_it() -> None:
    grids = suites.choose("fig10", [], [], ["location30"], None, {})
    assert sorted(grid.settings["clients"] for grid in grids) == [10, 50, 100, 500, 1000]


def test_dataset_of_a_grid_that_has_two_comes_alone() -> None:
    assert {grid.datasets for grid in suites.choose("released", [], [], ["mnist"], None, {})} == {("mnist",)}


def test_dataset_that_no_grid_has_is_refused_with_those_there() -> None:
    with pytest.raises(AgrbenchError, match="digits") as caught:
        suites.choose("table1", [], [], ["digits"], None, {})
    assert all(name in str(caught.value) for name in FIVE)


def test_attacks_defenses_forms_and_settings_that_are_given_replace_those_of_every_grid() -> None:
    grids = suites.choose("table1", ["none"], ["krum"], [], 2, {"rounds": 10, "rate": 3.0}, "amplified")
    assert len(grids) == len(suites.read("table1").grids)
    for grid in grids:
        assert (grid.attacks, grid.defenses, grid.seeds, grid.forms) == (("none",), ("krum",), 2, "amplified")
        own = grid_of("table1", grid.datasets[0])
        assert grid.settings == {**own.settings, "rounds": 10, "rate": 3.0}


def test_nothing_given_is_the_suite_itself_and_no_suite_the_demo() -> None:
    assert suites.choose("table2", [], [], [], None, {}) == suites.read("table2").grids
    assert suites.choose(None, [], [], [], None, {}) == suites.read("demo").grids


def test_one_grid_alone_takes_any_dataset() -> None:
    [grid] = suites.choose("demo", [], [], ["mnist"], None, {})
    assert grid.datasets == ("mnist",)
    assert grid.settings == suites.read("demo").grids[0].settings


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("dataset = ['digits']\n" + LEAST, "dataset"),
        (LEAST + "[[grids]]\nattack = ['none']\n", "attack"),
        (LEAST + "[[grids]]\ntitle = 'a variation has none'\n", "title"),
        (LEAST + "[[grids]]\ninclude = ['paper']\n", "include"),
        (LEAST + "[settings]\nround = 3\n", "round"),
        (LEAST + "[[grids]]\nsettings = { client = 3 }\n", "client"),
        (LEAST + "[settings]\nseed = 3\n", "seed"),
    ],
)
def test_unknown_key_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    said = refusal(tmp_path, text)
    assert f"'{named}'" in said
    assert "mine.toml" in said


def test_unknown_setting_is_answered_with_settings_even_if_the_suite_has_such_a_key(tmp_path: Path) -> None:
    said = refusal(tmp_path, "seeds = 2\n" + LEAST + "[settings]\nseeds = 3\n")
    assert "'seeds'" in said
    assert "write seeds" not in said
    assert "rounds" in said


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("title = 3\n" + LEAST, "title"),
        ("include = 'paper'\n", "include"),
        ("include = [3]\n" + LEAST, "include"),
        (LEAST + "grids = 3\n", "grids"),
        (LEAST + "[grids]\nseeds = 1\n", "grids"),
        (LEAST + "settings = 3\n", "settings"),
        (LEAST + "[[grids]]\nsettings = 'clients=3'\n", "settings"),
        *((f"seeds = {wrong}\n{LEAST}", "seeds") for wrong in ("0", "-1", "true", '"3"', "1.5", "[3]")),
        *((f"{LEAST}[[grids]]\nseeds = {wrong}\n", "seeds") for wrong in ("0", "true")),
        *((f"forms = {wrong}\n{LEAST}", "forms") for wrong in ("'all'", "3", "true", "['base']")),
        *((LEAST.replace('["krum"]', wrong), "defenses") for wrong in ("'krum'", "[]", "[3]", "{ krum = 1 }")),
        *((LEAST.replace('["none"]', wrong), "attacks") for wrong in ("'none'", "[]", "[['none']]")),
        *((LEAST.replace('["digits"]', wrong), "datasets") for wrong in ("'digits'", "[]", "true")),
        *((LEAST.replace(f"{axis} = ", f"# {axis} = "), axis) for axis in ("datasets", "attacks", "defenses")),
    ],
)
def test_value_of_a_wrong_type_is_refused_by_its_key(tmp_path: Path, text: str, key: str) -> None:
    said = refusal(tmp_path, text)
    assert key in said
    assert "mine.toml" in said


@pytest.mark.parametrize("text", ["datasets = [", "a = 1\na = 2\n", "\x00"])
def test_text_that_is_not_toml_is_refused(tmp_path: Path, text: str) -> None:
    assert "not TOML" in refusal(tmp_path, text)


def test_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AgrbenchError, match=r"mine\.toml"):
        suites.read(str(path))


def test_suite_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(AgrbenchError, match="table1"):
        suites.read("tabel1")
    with pytest.raises(AgrbenchError, match=r"absent\.toml"):
        suites.read(str(tmp_path / "absent.toml"))
    assert "absent.toml" in refusal(tmp_path, 'include = ["absent.toml"]\n')


def test_dataset_of_a_file_of_several_grids_is_picked_as_among_shipped_ones(tmp_path: Path) -> None:
    variations = "".join(f"[[grids]]\nsettings = {{ rounds = {rounds} }}\n" for rounds in (10, 20))
    path = write(tmp_path, LEAST + variations)
    given: dict[str, Any] = {"seeds": None, "settings": {}}
    assert len(suites.choose(path, [], [], ["digits"], **given)) == 2
    with pytest.raises(AgrbenchError, match="digits"):
        suites.choose(path, [], [], ["mnist"], **given)


def test_a_schedule_drops_a_rate_that_was_set_for_another() -> None:
    """Adam at the rate of gradient steps would be nonsense that looks like a result."""
    (asked,) = suites.choose("table1", [], [], ["location30"], 1, {"schedule": "adam(epochs=2)"})
    assert "rate" not in asked.settings
    (both,) = suites.choose("table1", [], [], ["location30"], 1, {"schedule": "adam(rate=0.01,epochs=2)"})
    assert both.settings["rate"] == 0.01
    (plain,) = suites.choose("table1-released", [], [], ["location30"], 1, {"schedule": "sgd"})
    assert "rate" not in plain.settings


def test_a_rate_replaces_the_one_that_a_suite_s_schedule_names() -> None:
    (asked,) = suites.choose("table1-released", [], [], ["location30"], 1, {"rate": 0.01})
    (cell, *_) = expand([asked], Registry())
    assert (cell.rate, cell.schedule) == (0.01, "adam(batches=5,epochs=2,poisoned='after',root='size')")


def test_a_spec_with_several_values_is_a_sweep_in_a_file_and_in_an_option(tmp_path: Path) -> None:
    path = write(tmp_path, LEAST.replace('"krum"', '"amp(kernel=2|3)+krum", "median"') + 'forms = "base"\n')
    (grid,) = suites.read(path).grids
    defenses = dict.fromkeys(cell.defense for cell in expand([grid], registry()))
    assert list(defenses) == ["fedavg", "amp+krum", "amp(kernel=3)+krum", "median"]
    (chosen,) = suites.choose(path, ["ipm(epsilon=0.5|2.0)"], [], [], None, {})
    assert {cell.attack for cell in expand([chosen], registry())} == {"none", "ipm", "ipm(epsilon=2.0)"}
