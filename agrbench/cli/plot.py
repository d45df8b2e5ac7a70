"""`agrbench plot`: draw figures of records, of costs and of snapshots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agrbench import specs
from agrbench.cli.options import data_option, only_base_option, plugin_option
from agrbench.errors import AgrbenchError
from agrbench.results import figures
from agrbench.results.figures import KINDS

if TYPE_CHECKING:
    from agrbench.plugins.registry import Registry
    from agrbench.results.metrics import Group
    from agrbench.results.record import Record

Command = Callable[..., None]
TABLES = ("loss", "success", "fidelity", "time", "trust", "final", "classes", "clients")


class Kinds(click.Group):
    """List the kinds of figures in the order of their table, and name them all where there is no such kind."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the kinds."""
        return list(KINDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of a kind.

        Raises:
            AgrbenchError: there is none.
        """
        if args[0] not in KINDS:
            raise AgrbenchError(f"there is no figure {args[0]!r}; write agrbench plot {', '.join(KINDS)}")
        return super().resolve_command(ctx, args)


@click.group("plot", cls=Kinds)
def plot_group() -> None:
    """Draw a figure, sized for a column of a paper, into an SVG, PNG, PDF or HTML file.

    Figures show the numbers that tables show. Drawing needs the extra `page`: pip install 'agrbench[page]'.
    """


def _kind(name: str, operand: str) -> Callable[[Command], click.Command]:
    """Make a command of a kind, with the options that all kinds have; `operand` names what it reads."""

    def decorate(command: Command) -> click.Command:
        for add in (
            click.option("--width", type=float, default=figures.COLUMN, show_default=True, metavar="INCHES",
                         help="How wide the figure is; text keeps its size."),
            click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, metavar="FILE",
                         help="The file to write, which ends in .svg, .png, .pdf or .html."),
            click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar=operand),
        ):  # fmt: skip
            command = add(command)
        return plot_group.command(name, help=KINDS[name])(command)

    return decorate


def _filters(command: Command) -> Command:
    """Add the options that choose records."""
    for add in (
        data_option, plugin_option, only_base_option,
        click.option("-d", "defenses", multiple=True, metavar="SPEC",
                     help="Draw this defense, base and amplified; again for more (default: all)."),
        click.option("-a", "attacks", multiple=True, metavar="SPEC", help="Draw this attack; again for more."),
        click.option("-D", "datasets", multiple=True, metavar="SPEC", help="Draw this dataset; again for more."),
    ):  # fmt: skip
        command = add(command)
    return command


def _metric(default: str, *choices: str) -> Callable[[Command], Command]:
    return click.option(
        "--metric", type=click.Choice(choices), default=default, show_default=True, help="What to draw."
    )


@_kind("curves", "[DIR]...")
@_filters
@_metric("accuracy", "accuracy", "success", "loss")
def draw_curves(paths: Sequence[Path], out: Path, width: float, metric: str, **chosen: Any) -> None:
    """Draw curves over rounds."""
    _write("curves", out, partial(_groups, paths, **chosen), metric=metric, width=width)


@_kind("bars", "[DIR]...")
@_filters
@_metric("worst", "worst", "mean", *TABLES)
def draw_bars(paths: Sequence[Path], out: Path, width: float, metric: str, **chosen: Any) -> None:
    """Draw bars of defenses."""
    _write("bars", out, partial(_groups, paths, **chosen), metric=metric, width=width)


@_kind("sweep", "[DIR]...")
@click.option(
    "--over", required=True, metavar="NAME",
    help="What to draw along: clients, malicious, rate or another setting, or a hyperparameter such as amp.kernel.",
)  # fmt: skip
@_filters
@_metric("loss", "worst", "mean", *TABLES)
def draw_sweep(
    paths: Sequence[Path], out: Path, width: float, metric: str, over: str, plugins: tuple[str, ...], **chosen: Any
) -> None:
    """Draw a metric along a hyperparameter or setting."""

    def read() -> tuple[Any, ...]:
        return *_groups(paths, plugins, **chosen), over, _registry(plugins)

    _write("sweep", out, read, metric=metric, width=width)


@_kind("heatmap", "[DIR]...")
@_filters
@_metric("loss", *TABLES)
def draw_heatmap(paths: Sequence[Path], out: Path, width: float, metric: str, **chosen: Any) -> None:
    """Draw defenses by attacks."""
    _write("heatmap", out, partial(_groups, paths, **chosen), metric=metric, width=width)


@_kind("pareto", "[DIR]...")
@_filters
def draw_pareto(paths: Sequence[Path], out: Path, width: float, **chosen: Any) -> None:
    """Draw loss against time."""
    _write("pareto", out, partial(_groups, paths, **chosen), width=width)


@_kind("breaking", "[DIR]...")
@_filters
def draw_breaking(paths: Sequence[Path], out: Path, width: float, plugins: tuple[str, ...], **chosen: Any) -> None:
    """Draw breaking points."""

    def read() -> tuple[Any, ...]:
        registry = _registry(plugins)
        return _records(paths, registry, **chosen), registry

    _write("breaking", out, read, width=width)


@_kind("cost", "BENCH.json...")
def draw_cost(paths: Sequence[Path], out: Path, width: float) -> None:
    """Draw costs."""
    from agrbench.bench.compare import read

    _write("cost", out, lambda: ([read(path) for path in _named(paths, "BENCH.json")],), width=width)


@_kind("views", "SNAPSHOT.npz...")
def draw_views(paths: Sequence[Path], out: Path, width: float) -> None:
    """Draw updates on principal components."""
    _write("views", out, partial(_snapshots, paths), width=width)


@_kind("neighbours", "SNAPSHOT.npz...")
@click.option("--client", type=int, help="Whose neighbours (default: those of the first honest client).")
@click.option("--nearest", type=int, help="How many neighbours count (default: 60% of the clients).")
def draw_neighbours(paths: Sequence[Path], out: Path, width: float, client: int | None, nearest: int | None) -> None:
    """Draw angles between updates."""
    _write("neighbours", out, partial(_snapshots, paths), client=client, nearest=nearest, width=width)


def _write(kind: str, out: Path, read: Callable[[], tuple[Any, ...]], **options: Any) -> None:
    """Draw what is read into a file; a wrong name of a file and a missing library are told before anything is read."""
    figures.check(out)
    draw = figures.drawing(kind)
    figures.save(draw(*read(), **options), out)
    click.echo(f"{out} written", err=True)


def _registry(plugins: tuple[str, ...]) -> Registry:
    from agrbench.plugins.registry import Registry

    return Registry(plugins)


def _groups(paths: Sequence[Path], plugins: tuple[str, ...], **chosen: Any) -> tuple[list[Group]]:
    from agrbench.results import metrics

    registry = _registry(plugins)
    return (metrics.groups(_records(paths, registry, **chosen), partial(registry.spelled, "dataset")),)


def _records(
    paths: Sequence[Path], registry: Registry, datasets: tuple[str, ...], attacks: tuple[str, ...],
    defenses: tuple[str, ...], forms: str | None,
) -> list[Record]:  # fmt: skip
    from agrbench.results import metrics, store

    wanted = [registry.canonical("dataset", each) for each in specs.spread(datasets)]
    shown = [registry.canonical("defense", each) for each in specs.spread(defenses)]
    under = [registry.canonical("attack", each) for each in specs.spread(attacks)]
    found = (record for _, record in store.readable(paths or (Path("results"),)))
    kept = (record for record in found if not wanted or record["cell"]["dataset"] in wanted)
    return list(metrics.chosen(kept, shown, under, forms == "base"))


def _snapshots(paths: Sequence[Path]) -> tuple[list[Any]]:
    from agrbench.results import snapshots

    return ([snapshots.read(path) for path in _named(paths, "SNAPSHOT.npz")],)


def _named(paths: Sequence[Path], what: str) -> Sequence[Path]:
    """Check that there are files.

    Raises:
        AgrbenchError: there are none.
    """
    if not paths:
        raise AgrbenchError(f"no file is named; write {what}")
    return paths
