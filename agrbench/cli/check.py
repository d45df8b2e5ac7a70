"""`agrbench check`: certify a plugin."""

from __future__ import annotations

import os
import sys
import tempfile

import click

from agrbench.cli.options import data_option, plugin_option, quiet_option, report_option


@click.command("check")
@click.argument("named", metavar="SPEC|FILE.py")
@click.option(
    "--examples", type=click.IntRange(min=1), default=100, show_default=True, help="Inputs tried for each property."
)
@report_option
@click.option("--against", metavar="SPEC", help="Find the smallest input on which another defense differs, instead.")
@plugin_option
@data_option
@quiet_option
def check_plugin(
    named: str, examples: int, form: str, against: str | None, plugins: tuple[str, ...], quiet: bool
) -> None:
    """Certify a plugin: try to refute, with Hypothesis, every property that its kind must have.

    Prints each waived property with the reason, and each violated one with the smallest counterexample as Python code
    that can be run. Exit codes: 0 all hold, 1 one is violated (or --against found a difference), 2 wrong usage.
    """
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", tempfile.gettempdir())  # not the folder worked in
    from agrbench.conformance.subjects import subjects

    found = subjects(named, plugins)
    if against is not None:
        subjects(against, found[0].plugins)
    from agrbench.conformance import certificates, reports

    if against is not None:
        difference = certificates.difference_from(found[0], against, examples)
        click.echo(reports.difference(found[0].spec, against, difference, form))
        sys.exit(difference.verdict == "violated")
    made = [certificates.certify(each, examples, quiet) for each in found]
    click.echo(reports.write(made, form))
    sys.exit(any(each.violated for each in made))
