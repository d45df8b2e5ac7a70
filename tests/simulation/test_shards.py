"""Shards: each cell in one, trunks whole, about equal work, and together the same records as the whole grid."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agrbench.cells import Cell
from agrbench.results.record import curves
from agrbench.results.store import Store
from agrbench.simulation.engines.local import Local
from agrbench.simulation.execution import execute
from agrbench.simulation.grid import Grid, expand
from agrbench.simulation.shards import part, work
from tests.helpers.commands import ask, invoke
from tests.helpers.records import REGISTRY, stored

GRID = ("grid", "-D", "digits", "-d", "median", "-a", "ipm", "--seeds", "1", "--clients", "6", "--rounds", "10")


def cells(defenses: int, attacks: int, seeds: int) -> list[Cell]:
    names = ("none", "ipm", "lie", "min_max")[:attacks], ("fedavg", "krum", "median", "mda")[:defenses]
    return [Cell("digits", d, a, seed, rounds=40) for seed, d, a in itertools.product(range(seeds), *names[::-1])]


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 6))
def test_every_cell_is_in_one_shard_with_its_trunk_and_in_its_order(
    defenses: int, attacks: int, seeds: int, count: int
) -> None:
    whole = cells(defenses, attacks, seeds)
    shards = [part(whole, REGISTRY, (number, count)) for number in range(1, count + 1)]
    assert sorted(map(str, itertools.chain(*shards))) == sorted(map(str, whole))
    for shard in shards:
        assert [cell for cell in whole if cell in shard] == list(shard)
        assert {cell.trunk for cell in shard}.isdisjoint({cell.trunk for cell in whole if cell not in shard})
    loads = [work(shard, REGISTRY) if shard else 0 for shard in shards]
    trunks = [work([cell for cell in whole if cell.trunk == trunk], REGISTRY) for trunk in {c.trunk for c in whole}]
    assert max(loads) - min(loads) <= max(trunks)


def test_the_parts_are_the_same_whatever_the_order_of_cells_and_on_every_machine() -> None:
    whole = cells(4, 3, 2)
    forwards, backwards = part(whole, REGISTRY, (2, 3)), part(whole[::-1], REGISTRY, (2, 3))
    assert set(forwards) == set(backwards)
    assert sorted({f"{cell.defense} {cell.seed}" for cell in forwards}) == ["krum 0", "mda 1", "median 1"]


def test_without_a_shard_there_are_all_cells() -> None:
    assert part(cells(2, 2, 2), REGISTRY, None) == tuple(cells(2, 2, 2))


def test_rounds_count_once_where_they_are_shared_and_for_each_client_and_rehearsals_count_more() -> None:
    def told(clients: int, *attacks: str) -> int:
        return work([Cell("digits", "krum", each, clients=clients, rounds=40, start=11) for each in attacks], REGISTRY)

    assert told(5, "none", "ipm") == 5 * (10 + 2 * 30)
    assert told(10, "none") == 2 * told(5, "none")
    assert told(5, "none", "adaptive") > 5 * told(5, "none", "ipm")


def test_shards_merged_are_the_whole_grid(tmp_path: Path) -> None:
    whole = expand([Grid(("digits",), ("ipm",), ("median",), 1, {"clients": 6, "rounds": 10})], REGISTRY)
    shards = {f"{number}": part(whole, REGISTRY, (number, 3)) for number in (1, 2, 3)}
    with Local(REGISTRY, 1) as engine:
        for name, mine in {"whole": whole, "2": shards["2"], "3": shards["3"]}.items():
            Store(tmp_path / name).prepare()
            assert len(list(execute(mine, REGISTRY, Store(tmp_path / name), engine))) == len(mine)
    done = invoke(*GRID, "--jobs", "1", "--shard", "1/3", "--out", tmp_path / "1")
    assert done.stdout == "", "a part has no table"
    assert "agrbench merge DIR... --out DIR" in done.stderr
    assert [len(stored(tmp_path / name)) for name in shards] == [2, 2, 2]
    invoke("merge", *(tmp_path / name for name in shards), "--out", tmp_path / "merged")
    merged, wanted = stored(tmp_path / "merged"), stored(tmp_path / "whole")
    assert {path: curves(record) for path, record in merged.items()} == {
        path: curves(record) for path, record in wanted.items()
    }


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0"])
def test_what_is_no_part_is_refused(text: str) -> None:
    done = ask(*GRID, "--shard", text)
    assert done.exit_code == 2
    assert "write 2/5 for the second of five" in done.stderr
