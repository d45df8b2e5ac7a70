"""Federations of people's own clients: all owners take part unless a number is given, and may be named malicious."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from agrbench.cells import Cell
from agrbench.clients.federation import Federation, federate
from agrbench.data.examples import About, Examples
from agrbench.errors import AgrbenchError
from agrbench.plugins.registry import Registry
from agrbench.randomness import generator
from agrbench.simulation import grid, suites
from agrbench.simulation.grid import Grid
from tests.helpers import plugins
from tests.helpers.commands import ask, invoke
from tests.helpers.examples import numbered

NAMES = ("north", "south", "east", "west", "center")
SIZES = (5, 40, 10, 20, 25)

OWNED = """
    import torch
    from agrbench.data.examples import About, Examples
    from agrbench.plugins import Dataset, Source

    def load():
        rng = torch.Generator().manual_seed(1)
        features, owners = torch.randn(200, 4, generator=rng), torch.arange(200) % 7
        labels = (features.sum(1) > 0).long()
        about = About(owners=tuple("abcdefg"))
        return (Examples(features[:150], labels[:150], 2, owners[:150], about),
                Examples(features[150:], labels[150:], 2, owners[150:], about))

    dataset = Dataset(load, model="mlp(8)", rate=0.1, root_size=10, source=Source("made here"))
"""


def federation(seed: int = 0, **settings: Any) -> Federation:
    owners = torch.repeat_interleave(torch.arange(5), torch.tensor(SIZES))
    train = numbered(torch.arange(100) % 4, 4, owners=owners)._replace(about=About(owners=NAMES))
    given = {"clients": 5, "partition": "natural", "root": "test", **settings}
    cell = Cell("digits", "fedavg", "none", seed, **given)
    return federate(train, numbered(torch.arange(40) % 4, 4, 1000), 8, cell, partial(generator, seed))


@pytest.mark.parametrize("seed", range(4))
def test_named_owners_are_malicious_wherever_the_seed_puts_them(seed: int) -> None:
    made = federation(seed, malicious="owners('north','west')")
    assert {made.shards.owners[client] for client in made.malicious} == {"north", "west"}
    assert {made.shards.owners[client] for client in made.honest} == {"south", "east", "center"}
    sizes = dict(zip(made.shards.owners, made.shards.sizes.tolist(), strict=True))
    assert sizes == dict(zip(NAMES, SIZES, strict=True))
    for client, shard in enumerate(made.shards):
        assert shard.owners is not None
        assert {NAMES[owner] for owner in shard.owners.tolist()} == {made.shards.owners[client]}


def test_owners_without_names_are_named_by_their_numbers() -> None:
    owners = torch.tensor([3, 3, 8, 8, 11, 11])
    train = numbered(torch.arange(6) % 2, 2, owners=owners)
    cell = Cell("digits", "fedavg", "none", clients=3, partition="natural", root="test", malicious="owners(8)")
    made = federate(train, numbered(torch.arange(9) % 2, 2, 1000), 2, cell, partial(generator, 0))
    assert [made.shards.owners[client] for client in made.malicious] == ["8"]


def test_the_order_and_repetition_of_names_make_no_difference() -> None:
    def cell(malicious: str) -> Cell:
        return Cell("digits", "fedavg", "none", clients=5, partition="natural", malicious=malicious)

    one, other = cell("owners('south','north')"), cell("owners('north', 'south', 'north')")
    assert one == other
    assert one.key == other.key
    assert (one.count, one.attackers, one.bound) == ("owners('north','south')", 2, 2)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"malicious": "owners('nort')"}, "no client is the owner 'nort'; among the clients are north"),
        ({"malicious": "owners()"}, "write names of owners, such as 'north'"),
        ({"malicious": "owners(0.5)"}, "write names of owners, such as 'north'"),
        ({"malicious": "owners('north')", "partition": "iid"}, "partition is iid; write natural"),
        ({"malicious": "owners('a','b','c','d','e')"}, "write at most 4 of 5 clients"),
        ({"clients": 6}, "have 5 owners, not 6; write --clients 5 or fewer"),
    ],
)
def test_wrong_owners_are_refused_in_a_sentence(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(AgrbenchError) as refused:
        federation(**settings)
    assert words in str(refused.value)


def test_natural_clients_are_all_owners_unless_a_number_is_given(tmp_path: Path) -> None:
    registry = Registry([plugins.write(tmp_path, "owned", OWNED)])

    def clients(**settings: Any) -> set[int]:
        cells = grid.expand([Grid(("owned",), ("none",), ("krum",), 1, settings)], registry)
        return {cell.clients for cell in cells}

    assert clients(partition="natural") == {7}
    assert clients(partition="natural", clients=5) == {5}
    assert clients() == {50}


def test_natural_owners_replace_the_number_of_clients_that_a_suite_chose() -> None:
    [worst] = suites.choose("worst", (), (), ("digits",), None, {"partition": "natural"})
    assert "clients" not in worst.settings
    [told] = suites.choose("worst", (), (), ("digits",), None, {"partition": "natural", "clients": 9})
    assert told.settings["clients"] == 9
    [other] = suites.choose("worst", (), (), ("digits",), None, {"partition": "iid"})
    assert other.settings["clients"] == 20


def test_a_grid_of_owners_runs_from_the_command_line(tmp_path: Path) -> None:
    path, out = plugins.write(tmp_path, "owned", OWNED), tmp_path / "records"
    words = (
        "grid",
        "-D",
        "owned",
        "--plugin",
        path,
        "-d",
        "median",
        "-a",
        "sign_flip",
        "--rounds",
        "20",
        "--only-base",
    )
    own = ("--partition", "natural", "--seeds", "1", "--jobs", "1", "--out", out)
    done = invoke(*words, *own, "--malicious", "owners('c','f')")
    assert "7 clients, owners('c','f') malicious (server assumes 2)" in done.stdout
    assert "owners: 7, 21 to 22 training rows each: a, b, c, d, e, f, g" in done.stderr
    wrong = ask(*words, *own, "--malicious", "owners('z')")
    assert wrong.exit_code == 2
    assert "no client is the owner 'z'; among the clients are a, b, c" in wrong.stderr


def test_breaking_points_and_tuning_take_all_owners_too(tmp_path: Path) -> None:
    path = plugins.write(tmp_path, "owned", OWNED)
    short = ("--plugin", path, "--partition", "natural", "--rounds", "10", "-q")
    assert "owned, 7 clients" in invoke("tune", "owned", "--rate", "0.1", *short).stdout


def test_remarks_are_said_once_in_a_search_of_many_steps(tmp_path: Path) -> None:
    path = plugins.write(tmp_path, "owned", OWNED)
    words = ("breaking-point", "-D", "owned", "--plugin", path, "-d", "median", "-a", "sign_flip", "--rounds", "10")
    done = invoke(*words, "--start", "10", "--seeds", "1", "--only-base", "--partition", "natural", "--out", tmp_path)
    assert done.stderr.count("Malicious clients: ") > 1
    assert done.stderr.count("owners: 7, ") == 1


def test_data_that_do_not_depend_on_the_number_of_clients_are_loaded_once_to_check_a_grid(tmp_path: Path) -> None:
    path = plugins.write(tmp_path, "owned", OWNED.replace("rng =", 'print("loading")\n        rng ='))
    suite = tmp_path / "two.toml"
    suite.write_text(
        'datasets = ["owned"]\nattacks = ["none"]\ndefenses = ["median"]\nseeds = 1\nforms = "base"\n'
        "[[grids]]\nsettings = {clients = 4, rounds = 10}\n[[grids]]\nsettings = {clients = 6, rounds = 10}\n"
    )
    done = invoke("grid", "--suite", suite, "--plugin", path, "--jobs", "1", "--out", tmp_path / "records")
    assert done.stderr.count("loading") == 1  # workers, which load for themselves, print elsewhere


def test_remarks_and_names_survive_taking_rows_and_moving() -> None:
    made = Examples(
        torch.zeros(3, 1), torch.zeros(3, dtype=torch.long), 1, torch.arange(3), About(owners=("a", "b", "c"))
    )
    for other in (made.take(torch.tensor([1])), made.to(torch.device("cpu")), made.clone(), made.join(made)):
        assert other.about == made.about
