"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agrbench.results.formats import FORMATS

if TYPE_CHECKING:

    class AmountType(click.ParamType[float | str]):
        """The type of values that `Amount` reads."""

    class NumbersType(click.ParamType[tuple[int, ...]]):
        """The type of values that `Numbers` reads."""
else:  # before click 8.4 the type takes no parameter
    AmountType = NumbersType = click.ParamType

TRACEBACK = "agrbench.traceback"


def _keep_traceback(ctx: click.Context, option: click.Parameter, wanted: bool) -> bool:
    ctx.meta[TRACEBACK] = wanted
    return wanted


def _use_data_dir(ctx: click.Context, option: click.Parameter, folder: str | None) -> None:
    if folder:
        os.environ["AGRBENCH_DATA"] = str(Path(folder).resolve())


plugin_option = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="FILE",
    help="A plugin file of yours; it is code that will run.",
)
data_option = click.option(
    "--data-dir", type=click.Path(exists=True, file_okay=False), metavar="DIR", expose_value=False,
    callback=_use_data_dir,
    help="Where published data files lie (default: the environment variable AGRBENCH_DATA, then the user cache).",
)  # fmt: skip
device_option = click.option(
    "--device", type=click.Choice(["cpu", "cuda", "auto"]), default="cpu", show_default=True, help="Where to compute."
)


def _format_option(*forms: str, hint: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--format",
        "form",
        type=click.Choice(forms),
        default=forms[0],
        show_default=True,
        help=f"How to write it{hint}.",
    )


table_option = _format_option(*FORMATS, hint="; csv and json at full precision")
report_option = _format_option("plain", "github", "json")
out_option = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Where records go.",
)
jobs_option = click.option(
    "--jobs", type=click.IntRange(min=1), help="Cells computed at once (default: cores / threads)."
)
seeds_option = click.option("--seeds", type=click.IntRange(min=1), help="How many seeds, from 0 (default 3).")
only_base_option = click.option("--only-base", "forms", flag_value="base", help="Leave the amplified forms out.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
traceback_option = click.option(
    "--traceback", is_flag=True, callback=_keep_traceback, help="Show tracebacks of what went wrong."
)


timeout_option = click.option(
    "--cell-timeout", "seconds", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
    help="Most time that one cell may take; then it has failed.",
)  # fmt: skip
memory_option = click.option(
    "--cell-memory", "gigabytes", type=click.FloatRange(min=0, min_open=True), metavar="GB",
    help="Most memory that the process of one cell may take; then it has failed.",
)  # fmt: skip


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """Print the command that resumes an interrupted run, and exit with 130."""
    try:
        yield
    except KeyboardInterrupt:
        command = shlex.join(["agrbench", *sys.argv[1:]])
        click.echo(f"Interrupted; finished cells are kept. To go on: {command}", err=True)
        sys.exit(130)


class Amount(AmountType):
    """A share of the clients such as 0.3, their number such as 15, or a spec such as bernoulli(share=0.3)."""

    name = "SHARE|COUNT|SPEC"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """Read a whole number as a count, any other number as a share, and a name as a spec."""
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(value)
        if str(value)[:1].isalpha():
            return str(value)
        return self.fail(f"{value!r} is no number; write a share such as 0.3 or a number such as 15", param, ctx)


class Numbers(NumbersType):
    """Whole numbers from 1, separated by commas: 20,50."""

    name = "N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Read the numbers, each once, in ascending order."""
        try:
            numbers = {int(part) for part in str(value).split(",")}
        except ValueError:
            numbers = set()
        if not numbers or min(numbers) < 1:
            return self.fail(
                f"{value!r} is no list of whole numbers; write one such as 20, or several: 20,50", param, ctx
            )
        return tuple(sorted(numbers))


SETTINGS = {
    "clients": click.option("--clients", type=int, help="How many clients (default 50; with natural all owners)."),
    "malicious": click.option(
        "--malicious", type=Amount(),
        help="Malicious clients: a share, a number, bernoulli(share=0.3), each for itself, ids(0,3) or owners('north') "
        "by name (default 0.3).",
    ),
    "byzantine": click.option(
        "--byzantine", type=int, metavar="COUNT",
        help="How many the server assumes in a round (default: the true number; if drawn, the expected one).",
    ),
    "sample": click.option(
        "--sample", type=Amount(),
        help="Clients that take part in a round: a share, a number, sample(100,by='size') or "
        "sample(100,quantile=0.95) (default: all).",
    ),
    "rounds": click.option("--rounds", type=int, help="Rounds (default 200)."),
    "start": click.option("--start", type=int, help="First attacked round (default: a quarter of the rounds)."),
    "stop": click.option("--stop", type=int, help="Last attacked round (default: the last round)."),
    "every": click.option("--every", type=int, help="Attack in every k-th round from the first (default 1)."),
    "rate": click.option("--rate", type=float, help="Learning rate (default: the dataset's; 0.001 with adam)."),
    "schedule": click.option(
        "--schedule", metavar="SPEC",
        help="How clients train: sgd(momentum=0.9), sgd(batch=32,steps=1), adam(epochs=2,batches=5) (default: sgd)."
    ),
    "model": click.option("--model", metavar="SPEC", help="mlp(512,1024), cnn, resnet(20) (default: the dataset's)."),
    "partition": click.option(
        "--partition", metavar="SPEC",
        help="Who holds which data: iid (default), dirichlet(alpha=0.1), shards(labels=2), sorted, "
        "similarity(gamma=0.5), natural, quantity(sigma=1).",
    ),
    "server": click.option(
        "--server", metavar="SPEC",
        help="How the server moves the model by the combined step: sgd(rate=1.0,momentum=0.9), adam(rate=0.01), "
        "yogi, adagrad (default: by the step itself).",
    ),
    "root": click.option(
        "--root", metavar="train|test", help="Which rows the server's root set is taken from (default train)."
    ),
    "threads": click.option("--threads", type=int, help="Threads a cell computes with (default 1)."),
}  # fmt: skip


def settings_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options for a cell's settings to a command: those named, or all."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for name in reversed(names or tuple(SETTINGS)):
            command = SETTINGS[name](command)
        return command

    return decorate
