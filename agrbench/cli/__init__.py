"""The command line: parse, call, print."""

from __future__ import annotations

import json
import os
import shlex
import sys
import traceback as tracebacks
import warnings
from pathlib import Path
from typing import Any

import click

from agrbench.cli.options import (
    Malicious,
    Numbers,
    data_option,
    device_option,
    out_option,
    plugin_option,
    report_option,
    settings_options,
    table_option,
)
from agrbench.errors import AgrbenchError, DataError

TRACEBACK = "agrbench.traceback"


class Commands(click.Group):
    """Print what a user can mend as one sentence and exit with 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        warnings.showwarning = lambda message, *_: click.echo(f"Warning: {message}", err=True)
        try:
            return super().invoke(ctx)
        except AgrbenchError as error:
            if ctx.meta.get(TRACEBACK):
                tracebacks.print_exc()
            click.echo(f"Error: {error}", err=True)
            ctx.exit(2)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)


def _keep_traceback(ctx: click.Context, option: click.Parameter, wanted: bool) -> bool:
    ctx.meta[TRACEBACK] = wanted
    return wanted


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="agrbench", message="%(package)s %(version)s")
def main() -> None:
    """Measure defenses against poisoning in federated learning: robustness, fidelity and efficiency.

    Every defense runs in its base form and amplified (AgrAmplifier: it judges max-pooled updates), on the same data,
    clients and seeds. Start with `agrbench grid`.
    """


@main.command("list")
@click.argument("kind", type=click.Choice(["attacks", "defenses", "stages", "datasets", "suites"]), required=False)
@click.option("--long", "in_full", is_flag=True, help="Name papers, formulas, variants and requirements.")
@plugin_option
def list_plugins(kind: str | None, in_full: bool, plugins: tuple[str, ...]) -> None:
    """List attacks, defenses, stages, datasets and suites, with their hyperparameters."""
    from agrbench.cli import list as listing
    from agrbench.plugins.registry import Registry
    from agrbench.simulation import suites

    registry = Registry(plugins)
    for each in ("attacks", "defenses", "stages", "datasets"):
        if kind not in (None, each):
            continue
        entries = [registry.entry(each.removesuffix("s"), name) for name in registry.names(each.removesuffix("s"))]
        click.echo(f"{each}:")
        for entry in entries:
            click.echo(listing.in_full(entry) if in_full else listing.in_short(entry))
    if kind in (None, "suites"):
        click.echo("suites:")
        for name in suites.shipped():
            click.echo(f"  {name}\n      {suites.read(name).title}")


@main.command("grid")
@click.option("--suite", metavar="NAME|FILE.toml", help="A grid in words: a shipped one or a file.")
@click.option("-a", "attacks", multiple=True, metavar="SPEC", help="An attack; again for more.")
@click.option(
    "-d",
    "defenses",
    multiple=True,
    metavar="SPEC",
    help="A defense, or stages and a defense: amp(kernel=3)+krum.",
)
@click.option("-D", "datasets", multiple=True, metavar="SPEC", help="A dataset.")
@click.option("--seeds", type=click.IntRange(min=1), help="How many seeds, from 0 (default 3).")
@settings_options()
@click.option("--jobs", type=click.IntRange(min=1), help="Cells computed at once (default: cores / threads).")
@device_option
@plugin_option
@data_option
@out_option
@click.option("--only-base", "forms", flag_value="base", help="Leave the amplified forms out.")
@click.option("--only-amplified", "forms", flag_value="amplified", help="Leave the base forms out.")
@click.option("--keep-stale", is_flag=True, help="Use records made by plugin files that have changed since.")
@click.option("--dry-run", is_flag=True, help="Say what would be computed, and how long it may take.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no advice on standard error.")
@click.option("-v", "--verbose", is_flag=True, help="Name every finished cell.")
@click.option("--traceback", is_flag=True, callback=_keep_traceback, help="Show tracebacks of what went wrong.")
def run_grid(
    suite: str | None, attacks: tuple[str, ...], defenses: tuple[str, ...], datasets: tuple[str, ...], seeds: int |
    None,
    jobs: int | None, device: str, plugins: tuple[str, ...], out: Path, forms: str | None, keep_stale: bool,
    dry_run: bool, quiet: bool, verbose: bool, traceback: bool, **settings: Any,
) -> None:  # fmt: skip
    """Run attacks x datasets x defenses, base and amplified, and print the triad of each defense.

    Cells that are already in the folder of records are not computed again. fedavg under every attack, and every
    defense without attack, always run too: the metrics compare with them. Exit codes: 0 done, 1 a cell failed, 2 wrong
    usage, 130 interrupted.
    """
    from agrbench.cli import execute as running
    from agrbench.plugins.registry import Registry
    from agrbench.results.store import Store
    from agrbench.simulation import grid, suites

    command = shlex.join(["agrbench", *sys.argv[1:]])
    try:
        registry = Registry(plugins, forgiving=True)
        given = {name: value for name, value in settings.items() if value is not None}
        given |= {"device": running.device(device)} if device != "cpu" else {}
        wanted = suites.choose(suite, attacks, defenses, datasets, seeds, given, forms)
        wanted, broken = grid.sound(wanted, registry)
        for error in broken:
            click.echo(f"Left out: {error}", err=True)
        store = Store(out)
        plan = grid.plan(grid.expand(wanted, registry), registry, store, keep_stale)
        if dry_run:
            running.describe(plan, registry, jobs, quiet)
            return
        sys.exit(running.run(plan, registry, store, jobs, quiet, verbose, traceback) or bool(broken))
    except KeyboardInterrupt:
        click.echo(f"Interrupted; finished cells are kept. To go on: {command}", err=True)
        sys.exit(130)


@main.command("breaking-point")
@click.option("-D", "dataset", metavar="SPEC", required=True, help="A dataset.")
@click.option("-d", "defenses", multiple=True, required=True, metavar="SPEC", help="A defense; again for more.")
@click.option(
    "-a", "attacks", multiple=True, metavar="SPEC", help="An attack; again for more (default: the suite worst)."
)
@click.option("--seeds", type=click.IntRange(min=1), help="How many seeds, from 0 (default 3).")
@click.option("--clients", type=int, help="How many clients (default 20).")
@click.option("--rounds", type=int, help="Rounds (default 100).")
@click.option("--start", type=int, help="First attacked round, a multiple of 10 (default 20).")
@settings_options("rate", "schedule", "model", "partition", "root", "threads")
@click.option("--jobs", type=click.IntRange(min=1), help="Cells computed at once (default: cores / threads).")
@device_option
@table_option
@plugin_option
@data_option
@out_option
@click.option("--only-base", "forms", flag_value="base", help="Leave the amplified forms out.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
@click.option("--traceback", is_flag=True, callback=_keep_traceback, help="Show tracebacks of what went wrong.")
def find_breaking_points(
    dataset: str, defenses: tuple[str, ...], attacks: tuple[str, ...], seeds: int | None, jobs: int | None, device: str,
    form: str, plugins: tuple[str, ...], out: Path, forms: str | None, quiet: bool, traceback: bool, **settings: Any,
) -> None:  # fmt: skip
    """Find the smallest malicious share at which the worst attack costs a defense ten points of accuracy.

    A bisection over the number of malicious clients, which the server knows, from none to half of all; base and
    amplified. Attacks and settings that are not given are those of the suite `worst`: 20 clients, 100 rounds, attack
    from 20. Runs are ordinary records: what is there is not computed again. Exit codes: 0 done, 1 a run failed, 2 wrong
    usage, 130 interrupted.
    """
    from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
    from agrbench.cli import execute as running
    from agrbench.plugins.registry import Registry
    from agrbench.results import breaking, formats
    from agrbench.results.store import Store
    from agrbench.simulation import grid, suites

    command = shlex.join(["agrbench", *sys.argv[1:]])
    try:
        registry, store = Registry(plugins), Store(out)
        given = {name: value for name, value in settings.items() if value is not None}
        given |= {"device": running.device(device)} if device != "cpu" else {}
        (wanted,) = suites.choose("worst", attacks, defenses, [dataset], seeds, given, forms)
        cell = Cell(dataset, UNDEFENDED, UNATTACKED, **wanted.settings)
        stacks = grid.forms(wanted.defenses, registry, wanted.forms)
        specs = [registry.canonical("attack", attack) for attack in wanted.attacks]
        found = breaking.searches(cell, stacks, specs, wanted.seeds, registry)
        failures = running.search(found, registry, store, jobs, quiet)
        click.echo(formats.write([breaking.table(found)], form))  # type: ignore[arg-type]
        running.report_failures(failures, store, traceback)
        sys.exit(1 if failures else 0)
    except KeyboardInterrupt:
        click.echo(f"Interrupted; finished cells are kept. To go on: {command}", err=True)
        sys.exit(130)


@main.command("bench")
@click.option(
    "-d", "defenses", multiple=True, metavar="SPEC", help="A defense; again for more (default: all there are)."
)
@click.option(
    "--clients", type=Numbers(), default="20,50", show_default=True, metavar="N,...", help="Numbers of clients."
)
@click.option(
    "--parameters",
    type=Numbers(),
    default="25000,250000",
    show_default=True,
    metavar="N,...",
    help="Sizes of the model; the nearest that a perceptron of 446 features and 30 classes has.",
)
@click.option(
    "--byzantine",
    type=Malicious(),
    default="0.2",
    show_default=True,
    metavar="SHARE|COUNT",
    help="How many malicious clients there are and the server assumes.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads to compute with (default: all cores).")
@device_option
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float64", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Of the updates and the model.",
)
@click.option("--against", type=click.Choice(["byzfl"]), help="Time another library's rules beside ours.")
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Repetitions, of which medians are shown.",
)
@click.option(
    "--patience",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="Leave out a defense at a size where it would take longer.",
)
@table_option
@plugin_option
@click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
def bench_defenses(
    defenses: tuple[str, ...], clients: tuple[int, ...], parameters: tuple[int, ...], byzantine: float, form: str,
    plugins: tuple[str, ...], quiet: bool, against: str | None, device: str, threads: int | None, **options: Any,
) -> None:  # fmt: skip
    """Time what each defense costs the server, base and amplified, over clients x parameters.

    Seconds a round and peak memory, each as a ratio to fedavg in the same run, and how time grows with both. Nobody is
    trained or attacked: the updates are drawn (docs/bench.md). Exit codes: 0 done, 1 a plugin failed, 2 wrong usage.
    """
    from agrbench.cells import UNDEFENDED
    from agrbench.cli import execute as running
    from agrbench.plugins.registry import Registry
    from agrbench.progress import progress
    from agrbench.results import formats
    from agrbench.simulation import execution, grid

    registry = Registry(plugins)
    named = [registry.canonical("defense", spec) for spec in defenses or registry.names("defense")]

    from agrbench.bench import byzfl as peers
    from agrbench.bench import measure as bench
    from agrbench.bench import report as costs
    from agrbench.bench import workload

    peer = peers.load() if against else None
    stacks = dict.fromkeys([UNDEFENDED, *grid.forms(named, registry, "both")])
    plan = bench.Plan(
        tuple(stacks), workload.sizes(clients, parameters, byzantine), peer=peer, threads=threads or execution.cores(),
        device=device if device == "cpu" else running.device(device), **options,
    )  # fmt: skip
    with progress("costs", plan.points, quiet) as report:
        found = bench.run(plan, registry, report)
    click.echo(json.dumps(found.as_json(), indent=1) if form == "json" else formats.write(costs.tables(found), form))  # type: ignore[arg-type]
    sys.exit(any(skip.failed for skip in found.skipped))


@main.command("check")
@click.argument("named", metavar="SPEC|FILE.py")
@click.option(
    "--examples", type=click.IntRange(min=1), default=100, show_default=True, help="Inputs tried for each property."
)
@report_option
@click.option("--against", metavar="SPEC", help="Find the smallest input on which another defense differs, instead.")
@plugin_option
@data_option
@click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
def check_plugin(
    named: str, examples: int, form: str, against: str | None, plugins: tuple[str, ...], quiet: bool
) -> None:
    """Certify a plugin: try to refute, by Hypothesis, every property that its kind must have.

    What it waives is printed with the reason; what does not hold, with the smallest counterexample as Python that can
    be run. Exit codes: 0 all hold, 1 one is violated (or --against found a difference), 2 wrong usage.
    """
    from agrbench.conformance.subjects import subjects

    found = subjects(named, plugins)
    if against is not None:
        subjects(against, found[0].plugins)
    from agrbench.conformance import certificates, reports

    if against is not None:
        difference = certificates.compare(found[0], against, examples)
        click.echo(reports.difference(found[0].spec, against, difference, form))
        sys.exit(difference.verdict == "violated")
    made = [certificates.certify(each, examples, quiet) for each in found]
    click.echo(reports.write(made, form))
    sys.exit(any(each.violated for each in made))


@main.command("new")
@click.argument("kind", type=click.Choice(["attack", "defense", "stage", "dataset"]))
@click.argument("name")
def write_plugin(kind: str, name: str) -> None:
    """Write NAME.py, a plugin that passes its certificate, and test_NAME.py, which runs it, into this folder."""
    from agrbench.plugins import scaffold as scaffolds

    for path in scaffolds.write(kind, name):
        click.echo(path)


@main.command("tune")
@click.argument("dataset", metavar="DATASET")
@click.option("--rate", "rates", type=float, multiple=True, help="A rate to try; again for more (default: a scale).")
@settings_options("clients", "rounds", "start", "schedule", "model", "partition", "threads")
@plugin_option
@data_option
@click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
def tune_rate(dataset: str, rates: tuple[float, ...], plugins: tuple[str, ...], quiet: bool, **settings: Any) -> None:
    """Choose a dataset's learning rate on held-out training rows, nobody attacking or defending."""
    from agrbench.cells import UNATTACKED, UNDEFENDED, Cell
    from agrbench.plugins.registry import Registry
    from agrbench.progress import progress
    from agrbench.results import formats
    from agrbench.settings import without_rate
    from agrbench.simulation import tuning

    given = {name: value for name, value in settings.items() if value is not None}
    if without_rate(given.get("schedule", "sgd"))[1] is not None:
        raise AgrbenchError(f"the schedule {given['schedule']} names a rate; write the rates to try as --rate")
    cell = Cell(dataset, UNDEFENDED, UNATTACKED, **given)
    wanted = tuple(dict.fromkeys(rates)) or tuning.candidates(cell)
    trials: list[tuning.Trial] = []
    try:
        with progress("rates", len(wanted), quiet) as report:
            for trial in tuning.tune(cell, wanted, Registry(plugins)):
                trials.append(trial)
                report(f"{trial.rate:g}: {100 * trial.mean:.2f} %")
    finally:
        if trials:
            click.echo(formats.write([tuning.table(cell, trials)], "plain"))


@main.command("table")
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path), metavar="[DIR]...")
@click.option(
    "--metric", type=click.Choice(["triad", "worst", "loss", "success", "fidelity", "time", "trust", "final"]),
    show_default="triad", help="What to show.",
)  # fmt: skip
@click.option(
    "--like", type=click.Choice(["table1", "table2", "table3", "table4", "table5"]),
    help="Show a table of the AgrAmplifier paper, ours beside each published value.",
)  # fmt: skip
@table_option
@data_option
def show_table(folders: tuple[Path, ...], metric: str | None, like: str | None, form: str) -> None:
    """Print tables of the records in one or more folders (default: results)."""
    from agrbench.plugins.registry import Registry
    from agrbench.results import formats, metrics, store, tables
    from agrbench.results.paper import tables as comparing

    if metric and like:
        raise AgrbenchError(f"--metric {metric} and --like {like} are two tables; write one of them")
    wanted = folders or (() if like == "table5" else (Path("results"),))  # the fifth is made from data files
    groups = metrics.groups(record for _, record in store.collect(wanted))
    if like:
        made = [comparing.compare(like, groups, Registry())]
    elif groups:
        made = tables.tables(groups, metric or "triad")
    else:
        raise AgrbenchError("no finished record there; run `agrbench grid` first, or name another folder")
    if not made:
        raise AgrbenchError(
            "no record under an attack there; run `agrbench grid --suite worst`, or name another folder"
        )
    click.echo(formats.write(made, form))  # type: ignore[arg-type]


@main.command("compare")
@click.argument("base", type=click.Path(path_type=Path), metavar="BASE")
@click.argument("head", type=click.Path(path_type=Path), metavar="HEAD")
@click.option(
    "--tolerance", type=click.FloatRange(min=0), default=2.0, show_default=True, metavar="POINTS",
    help="Points of accuracy or success that a change for the worse may cost.",
)  # fmt: skip
@report_option
@plugin_option
def compare_measurements(base: Path, head: Path, tolerance: float, form: str, plugins: tuple[str, ...]) -> None:
    """Say whether HEAD is worse than BASE: two folders of records, or two outputs of `agrbench bench --format json`.

    Red is what is worse by more than seeds explain (Holm over all rows, 5%) and by more than the tolerance; times are
    red from 1.5 times as long, as ratios to fedavg. Exit codes: 0 green, 1 red, 2 not comparable.
    """
    from agrbench.results.gate import compare as gate
    from agrbench.results.gate import report as reporting
    from agrbench.results.gate.gating import compare

    found = compare(base, head, tolerance, plugins)
    click.echo(reporting.write(found, form, tolerance))  # type: ignore[arg-type]
    sys.exit(gate.CODES[found.verdict])


@main.command("show")
@click.argument("path", type=click.Path(path_type=Path), metavar="RECORD")
def show_record(path: Path) -> None:
    """Print one record: settings, curves, reason, and the command that reproduces it."""
    from agrbench.cli import show as showing
    from agrbench.results import store

    click.echo(showing.describe(store.read(path)))


@main.group("leaderboard")
def leaderboard_group() -> None:
    """Take records into the leaderboard of a checkout, and write its page."""


@leaderboard_group.command("publish")
@click.argument("folder", type=click.Path(path_type=Path), metavar="[DIR]", required=False)
@click.option("--as", "name", metavar="NAME", help="The folder of records to join (default: the name of DIR).")
@click.option(
    "--to", "board", type=click.Path(path_type=Path), default=Path("leaderboard"), show_default=True,
    help="Where the leaderboard is.",
)  # fmt: skip
@plugin_option
def publish_records(folder: Path | None, name: str | None, board: Path, plugins: tuple[str, ...]) -> None:
    """Check the records in DIR, copy them to leaderboard/records/NAME, and write leaderboard/README.md anew.

    A record must be whole, finished or skipped, and made by the plugin files within reach; one that differs from what
    is there never replaces it, unless that is stale. Without DIR the page alone is written. Exit codes: 0 done, 1
    records were refused (the others are published), 2 wrong usage.
    """
    from agrbench.plugins.registry import Registry
    from agrbench.results.leaderboard import page as leaderboard
    from agrbench.results.leaderboard import publish as publishing

    registry = Registry(plugins)
    refused = False
    if folder is not None:
        found = publishing.publish(folder, board, name or folder.resolve().name, registry)
        for path in found.replaced:
            click.echo(f"Replaced, its plugin files have changed since: {path}", err=True)
        for error in found.refused:
            click.echo(f"Refused: {error}", err=True)
        click.echo(f"{found.copied} records copied, {found.there} there already, {len(found.refused)} refused")
        refused = bool(found.refused)
    path = publishing.find(board) / leaderboard.PAGE
    path.write_text(leaderboard.page(board, registry), encoding="utf-8")
    click.echo(f"Wrote {path}")
    sys.exit(1 if refused else 0)


@main.group("data")
def data_group() -> None:
    """List, fetch and locate data files."""


@data_group.command("list")
@click.argument("specs", nargs=-1, metavar="[DATASET]...")
@plugin_option
@data_option
def list_data(specs: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """List datasets (none named: all): sizes, how alike a class is, licences, and whether they are at hand."""
    from agrbench.data import summary as describing
    from agrbench.plugins.registry import Registry
    from agrbench.results import formats

    click.echo(formats.write([describing.table(Registry(plugins), specs)], "plain"))


@data_group.command("get")
@click.argument("name")
@plugin_option
@data_option
def get_data(name: str, plugins: tuple[str, ...]) -> None:
    """Download a dataset's files that are not at hand into the user cache, checked by their checksums."""
    from agrbench.data import files as data
    from agrbench.plugins.registry import Registry

    for file in data.files(name, Registry(plugins).dataset(name).record.source):
        click.echo(data.fetch(file))


@data_group.command("path")
@click.argument("name")
@plugin_option
@data_option
def locate_data(name: str, plugins: tuple[str, ...]) -> None:
    """Print where a dataset's files lie."""
    from agrbench.data import files as data
    from agrbench.plugins.registry import Registry

    for file in data.files(name, Registry(plugins).dataset(name).record.source):
        found = data.find(file)
        if found is None:
            raise DataError(f"{file.path} is not at hand; {data.advice(name, file)}")
        click.echo(found)
