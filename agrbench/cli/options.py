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

from agrbench import processes
from agrbench.results.formats import FORMATS

if TYPE_CHECKING:

    class AmountType(click.ParamType[float | str]):
        """The type of values that `Amount` reads."""

    class NumbersType(click.ParamType[tuple[int, ...]]):
        """The type of values that `Numbers` reads."""

    class DurationType(click.ParamType[float]):
        """The type of values that `Duration` reads."""

    class ShareType(click.ParamType[tuple[int, int]]):
        """The type of values that `Share` reads."""
else:  # before click 8.4 the type takes no parameter
    AmountType = NumbersType = DurationType = ShareType = click.ParamType

TRACEBACK = "agrbench.traceback"
TRY_AGAIN = 75  # the exit code of a command whose time limit is reached, as EX_TEMPFAIL in sysexits.h
LONGEST = 10**7  # seconds of a time limit


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
seeds_option = click.option("--seeds", type=click.IntRange(min=1), help="How many seeds, from 0 (default 3).")
only_base_option = click.option("--only-base", "forms", flag_value="base", help="Leave the amplified forms out.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
traceback_option = click.option(
    "--traceback", is_flag=True, callback=_keep_traceback, help="Show tracebacks of what went wrong."
)


class Duration(DurationType):
    """A duration such as 5400 or 1:30:00."""

    name = "SECONDS|H:MM:SS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read seconds, or hours, minutes and seconds with colons between them."""
        try:
            parts = [float(part) for part in str(value).split(":")]
        except ValueError:
            parts = []
        seconds = sum(part * 60.0**place for place, part in enumerate(reversed(parts)))
        if not 1 <= len(parts) <= 3 or min(parts) < 0 or not 0 < seconds < LONGEST:
            return self.fail(f"{value!r} is no duration; write seconds such as 5400, or 1:30:00", param, ctx)
        return seconds


time_limit_option = click.option(
    "--time-limit", type=Duration(),
    help=f"End in order before this much time has passed, with exit code {TRY_AGAIN} if there is more to do.",
)  # fmt: skip


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """Print the command that resumes a run which is interrupted or reaches its time limit, and exit with 130 or 75."""
    try:
        yield
    except KeyboardInterrupt:
        _say_how_to_go_on("Interrupted")
        sys.exit(130)
    except processes.TimeIsUp:
        _say_how_to_go_on("Time is up (--time-limit)")
        sys.exit(TRY_AGAIN)


def _say_how_to_go_on(why: str) -> None:
    command = shlex.join(["agrbench", *sys.argv[1:]])
    click.echo(f"{why}; finished cells are kept. To go on: {command}", err=True)


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


class Share(ShareType):
    """One of several equal parts: 2/5 is the second of five."""

    name = "K/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Read the number of the part, from 1, and how many there are."""
        with contextlib.suppress(ValueError):
            number, count = (int(part) for part in str(value).split("/"))
            if 1 <= number <= count:
                return number, count
        return self.fail(f"{value!r} is no part; write 2/5 for the second of five", param, ctx)


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
