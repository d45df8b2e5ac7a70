"""`agrbench bench`: measure the time and memory that defenses cost the server."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from agrbench.cli.engines import chosen
from agrbench.cli.options import Amount, Numbers, device_option, plugin_option, quiet_option, table_option


@click.command("bench")
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
    type=Amount(),
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
@quiet_option
def bench_defenses(
    defenses: tuple[str, ...], clients: tuple[int, ...], parameters: tuple[int, ...], byzantine: float, form: str,
    plugins: tuple[str, ...], quiet: bool, against: str | None, device: str, threads: int | None, **options: Any,
) -> None:  # fmt: skip
    """Time what each defense costs the server, base and amplified, over clients x parameters.

    Shows time per round and peak memory, each with its ratio to fedavg in the same run, and how time grows with
    clients and parameters. Nothing is trained or attacked: the updates are random (docs/bench.md). Exit codes: 0 done,
    1 a plugin failed, 2 wrong usage.
    """
    from agrbench import specs
    from agrbench.cells import UNDEFENDED
    from agrbench.plugins.registry import Registry
    from agrbench.progress import progress
    from agrbench.results import formats
    from agrbench.simulation import grid

    registry = Registry(plugins)
    named = [registry.canonical("defense", spec) for spec in specs.spread(defenses or registry.names("defense"))]

    from agrbench.bench import measure, report, workload
    from agrbench.machine import cores
    from agrbench.plugins import elsewhere

    peer = elsewhere.byzfl() if against else None
    stacks = dict.fromkeys([UNDEFENDED, *grid.forms(named, registry, "both")])
    plan = measure.BenchPlan(
        tuple(stacks), workload.sizes(clients, parameters, byzantine), peer=peer, threads=threads or cores(),
        device=device if device == "cpu" else chosen(device), **options,
    )  # fmt: skip
    with progress("costs", plan.points, quiet) as tell:
        found = measure.run(plan, registry, tell)
    click.echo(json.dumps(found.as_json(), indent=1) if form == "json" else formats.write(report.tables(found), form))
    sys.exit(any(skip.failed for skip in found.skipped))
