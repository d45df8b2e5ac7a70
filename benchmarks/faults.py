"""Inject faults, hundreds of each kind, and count what is lost: `python benchmarks/faults.py [--share 0.1] [KIND]...`.

A loss is a wrong value, a traceback, a hang, a process or a file that is left, work that is done twice, or a culprit
that is not named; each is told on standard error. Prints the table of docs/reliability.md, and exits with 1 if anything
was lost. Linux only; kinds that mount a disk or make a container need root.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import click
from injection import disks, grids, hostile, kills, mutations, programs, sharing
from tabulate import tabulate

from agrbench.progress import progress

HEADERS = ("kind", "what is injected", "tries", "losses", "also held by")
AT_ONCE = 3  # tries


class Kind(NamedTuple):
    """One kind of fault: how many batches of tries there are, a function that makes one, and a test of the same.

    The function takes the number of the batch, which seeds it, and returns how many tries it made and what was lost.
    """

    name: str
    what: str
    batches: int
    attempt: Callable[[int], tuple[int, list[str]]]
    test: str


def one(attempt: Callable[..., list[str]], *given: object) -> Callable[[int], tuple[int, list[str]]]:
    """Make a batch of a single try."""
    return partial(_one, partial(attempt, *given))


def _one(attempt: Callable[[int], list[str]], number: int) -> tuple[int, list[str]]:
    return 1, [f"try {number}: {loss}" for loss in attempt(number)]


def kinds(reference: grids.Reference) -> list[Kind]:
    """List the kinds of faults."""
    shared = "cli/test_shared_grids.py::"
    found = [
        Kind(f"kill-{part}", what, 100, one(kills.attempt, part, reference), test)
        for part, what, test in (
            ("driver", "the grid is killed", f"{shared}test_a_grid_takes_over_from_one_that_was_killed"),
            ("worker", "one of its two workers is killed",
             "simulation/test_execution.py::test_a_process_that_is_killed_in_a_branch_costs_that_cell_and_no_other"),
            ("group", "its process group is killed",
             "cli/test_grid.py::test_killed_at_ten_random_moments_a_grid_ends_with_the_same_records"),
        )
    ]  # fmt: skip
    found += [
        Kind(f"{count}-grids", f"{count} grids start in one folder", tries,
             one(sharing.attempt, count, False, reference),
             f"{shared}test_two_grids_in_one_folder_share_the_cells_and_print_the_same")
        for count, tries in ((2, 20), (4, 10))
    ]  # fmt: skip
    found += [
        Kind("containers", "2 grids with equal process ids, in PID namespaces", 10,
             one(sharing.attempt, 2, True, reference),
             "results/test_shared_folders.py::test_containers_with_equal_process_ids_do_not_collide"),
        Kind("full-disk", "a disk of 4 to 48 KiB fills up, and grows", 20, one(disks.attempt, reference),
             f"{shared}test_a_full_disk_ends_a_grid_with_a_sentence_and_keeps_what_was_computed"),
        Kind("full-stream", "standard output, error or both are full or closed", 10, one(disks.unheard, reference),
             f"{shared}test_a_grid_that_nobody_listens_to_finishes"),
        Kind("record", "a record is damaged, and read by every command", 1000, one(mutations.attempt, reference),
             "results/test_store.py::test_a_damaged_record_ends_in_an_answer_or_a_sentence_and_never_in_a_crash"),
        Kind("resume", "half of a grid's records are damaged, and it is resumed", 10, one(mutations.resume),
             "results/test_odd_folders.py::test_a_grid_computes_a_damaged_record_again_and_no_other"),
        Kind("plugin", "a hostile plugin runs beside krum", len(hostile.GROUPS), partial(hostile.attempt, reference),
             "simulation/test_workers.py::test_hostile_plugins_cost_their_own_cells_are_named_and_leave_nothing_behind"),
    ]  # fmt: skip
    return found


@click.command()
@click.argument("names", nargs=-1, metavar="[KIND]...")
@click.option("--share", default=1.0, show_default=True, help="Part of the tries to make, at least one of each kind.")
def main(names: tuple[str, ...], share: float) -> None:
    """Inject faults of all kinds, or of those that are named, and print a table of what was lost."""
    with tempfile.TemporaryDirectory() as folder:
        known = kinds(reference(Path(folder)))
        chosen = [kind for kind in known if not names or kind.name in names]
        if len(chosen) < len(set(names)):
            raise click.UsageError(f"the kinds are {', '.join(kind.name for kind in known)}")
        table = [row(kind, max(round(share * kind.batches), 1)) for kind in chosen]
    print(tabulate(table, headers=HEADERS, tablefmt="github"))
    sys.exit(any(losses for _, _, _, losses, _ in table))


def reference(folder: Path) -> grids.Reference:
    """Run the grid undisturbed: once for its records, then as often at once as tries run, for its time."""
    records = grids.undisturbed(folder)
    with pool() as workers:
        times = [each.result() for each in [workers.submit(grids.measured) for _ in range(AT_ONCE)]]
    return grids.Reference(folder / "records", records, max(times))


def row(kind: Kind, batches: int) -> tuple[str, str, int, int, str]:
    """Make the tries of a kind, and return its row; each loss is told on standard error."""
    losses = tries = 0
    with pool() as workers, progress(kind.name, batches) as report:
        going = [workers.submit(kind.attempt, number) for number in range(batches)]
        for each in as_completed(going):
            error = each.exception()  # of the benchmark itself, which must not cost the other tries
            done, found = (1, [repr(error)]) if error is not None else each.result()
            tries, losses = tries + done, losses + len(found)
            for loss in found:
                print(f"{kind.name}: LOST: {loss}", file=sys.stderr, flush=True)
            report(kind.name)
    return kind.name, kind.what, tries, losses, f"`tests/{kind.test}`"


def pool() -> ProcessPoolExecutor:
    """Return processes that have imported what a grid imports, and that tries are copies of."""
    return ProcessPoolExecutor(AT_ONCE, mp_context=get_context("spawn"), initializer=programs.warm)


if __name__ == "__main__":
    main()
