"""`agrbench show`: print one record: what was run, its curves, and how to run it again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from agrbench.cells import Cell
from agrbench.plugins.registry import Registry
from agrbench.results import metrics
from agrbench.results.again import reproduce
from agrbench.results.record import Record
from agrbench.results.store import read
from agrbench.results.tables.notes import federation
from agrbench.results.text import one_line, printable
from agrbench.settings import spelled

BARS = "▁▂▃▄▅▆▇█"


def as_text(record: Record) -> str:
    """Write a record's settings, curves, reason, traceback and the command that reproduces it, each printable."""
    lines = [*map(one_line, _described(record))]
    if record["traceback"]:
        lines.append(printable(record["traceback"].rstrip(), keep="\n\t"))
    lines.append(one_line(f"again: {reproduce(Cell.from_json(record['cell']), Registry())}"))
    return "\n".join(lines)


def _described(record: Record) -> list[str]:
    """List what was run and, of a finished record, its curves and costs."""
    cell = Cell.from_json(record["cell"])
    lines = [f"{cell}: {record['status']}"]
    if record["reason"]:
        lines.append(f"reason: {record['reason']}")
    lines.append(
        f"{federation(cell)}, {cell.rounds} rounds, attack from {cell.first}, "
        f"rate {cell.rate or 'of the dataset'}, schedule {spelled('schedule', cell.schedule)}, model "
        f"{spelled('model', cell.model) if cell.model else 'of the dataset'}, "
        f"partition {spelled('partition', cell.partition)}, root set from {cell.root}, "
        f"{cell.threads} thread(s) on {cell.device}"
    )
    if record["status"] == "done":
        training = record.get("training")
        if isinstance(training, dict):  # older records have none
            lines.append(f"trained at rate {training.get('rate')}, {training.get('parameters')} parameters")
        curves = {name: record[name] for name in ("accuracy", "loss", "success", "success_untriggered")}
        lines += [_curve(name, values) for name, values in (curves | record["trust"]).items() if values]
        lines += [text for kind in ("classes", "clients") if (text := _worst(record, kind))]
        rejected, honest = record["rejected"], record["rejected_honest"]
        lines.append(f"rejected rows {rejected} (honest {honest}), empty steps {record['empty_steps']}")
        server, all_ = (1000 * record["time"][part] for part in ("server_s", "round_s"))
        beside = "" if record["time"]["alone"] else " (other cells ran beside it)"
        peak = record["peak_bytes"] / 2**20
        lines.append(f"server {server:.2f} ms a round, all {all_:.2f} ms{beside}; peak memory {peak:.0f} MiB")
        lines.append(", ".join(f"{key} {value}" for key, value in record["environment"].items()))
    return lines


def _worst(record: Record, kind: str) -> str:
    """Write on which class or honest client the last model is worst and best; empty for records that do not tell."""
    found = metrics.shares(record, kind)
    if not found:
        return ""
    ranked = sorted(found, key=found.__getitem__)
    worst, best = (f"{name} with {100 * found[name]:.1f} %" for name in (ranked[0], ranked[-1]))
    return f"{kind}: worst {worst}, best {best}"


def _curve(name: str, values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return f"{name:20} (no values)"
    low, high = min(known), max(known)
    last = "none" if values[-1] is None else f"{values[-1]:.4f}"
    return f"{name:20} {sparkline(values, low, high)}  {low:.4f} to {high:.4f}, last {last}"


def sparkline(values: Sequence[float | None], low: float, high: float) -> str:
    """Draw values as bars between `low` and `high`, missing ones as blanks."""
    span = high - low
    return "".join(
        " " if value is None else BARS[round((value - low) / span * (len(BARS) - 1)) if span else 0] for value in values
    )


@click.command("show")
@click.argument("path", type=click.Path(path_type=Path), metavar="RECORD")
def show_record(path: Path) -> None:
    """Print one record: settings, curves, reason, and the command that reproduces it."""
    click.echo(as_text(read(path)))
