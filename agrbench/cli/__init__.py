"""The command line: one file per command, and this file, which collects them. None imports torch to start."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from agrbench import machine, processes
from agrbench.cli.bench import bench_defenses
from agrbench.cli.breaking_point import find_breaking_points
from agrbench.cli.check import check_plugin
from agrbench.cli.compare import compare_measurements
from agrbench.cli.data import data_group
from agrbench.cli.export import export_records
from agrbench.cli.grid import run_grid
from agrbench.cli.leaderboard import leaderboard_group
from agrbench.cli.list import list_plugins
from agrbench.cli.merge import merge_records
from agrbench.cli.new import write_plugin
from agrbench.cli.options import TRACEBACK
from agrbench.cli.pack import pack_records
from agrbench.cli.plot import plot_group
from agrbench.cli.report import write_report
from agrbench.cli.show import show_record
from agrbench.cli.snapshot import keep_round
from agrbench.cli.streams import guard
from agrbench.cli.supervise import plugin_files, supervised
from agrbench.cli.table import show_table
from agrbench.cli.tune import tune_rate
from agrbench.cli.validate import validate_suite
from agrbench.errors import AgrbenchError
from agrbench.results.text import LINES, printable, tolerate, warn_on_stderr


class Commands(click.Group):
    """Print an error that the user can fix as one sentence, and exit with 2."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **given: Any) -> Any:
        """Run the command line; as a program of its own, it ends in order when it is interrupted."""
        tolerate(sys.stdout)
        run = partial(super().main, args, *more, **given)
        if args is not None:
            return run()
        processes.begun(machine.age())
        guard()
        processes.interruptible()
        return supervised(run) if plugin_files() and hasattr(os, "fork") else run()

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and print its errors and warnings."""
        warnings.showwarning = warn_on_stderr
        try:
            machine.check_address_space()
            return super().invoke(ctx)
        except AgrbenchError as error:
            if ctx.meta.get(TRACEBACK):
                traceback.print_exc()
            click.echo(f"Error: {printable(str(error), keep=LINES)}", err=True)
            ctx.exit(2)
        except BrokenPipeError:  # of standard output, whose reader has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more is told at the end
            click.echo(f"Error: {printable(str(error))}", err=True)
            ctx.exit(2)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="agrbench", message="%(package)s %(version)s")
def main() -> None:
    """Measure defenses against poisoning in federated learning: robustness, fidelity and efficiency.

    Every defense runs in its base form and in its amplified form (AgrAmplifier: it judges max-pooled updates), on the
    same data, clients and seeds. Start with `agrbench grid`.
    """


for command in (
    list_plugins, run_grid, find_breaking_points, bench_defenses, check_plugin, write_plugin, tune_rate, show_table,
    compare_measurements, show_record, pack_records, merge_records, export_records, write_report, plot_group,
    keep_round, validate_suite, leaderboard_group, data_group,
):  # fmt: skip
    main.add_command(command)
