"""A stack of stages and a defense: the loaded plugins, what they are defined for, and how their errors are named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from agrbench import processes
from agrbench.errors import AgrbenchError, DataError, Inapplicable, PluginError, SpecError
from agrbench.plugins import Attack, Defense, Stage
from agrbench.plugins.ambient import apart
from agrbench.plugins.contract import Plugin

R = TypeVar("R", bound=Plugin)
SECONDS = 10.0  # that `requires` may take for one cell
TRIED = (*range(1, 64), *(1 << power for power in range(6, 21)))  # numbers of clients at which a rule may be defined


@dataclass(frozen=True)
class Loaded(Generic[R]):
    """A plugin's record with its hyperparameters bound, and its name, file and requirement for messages."""

    name: str
    path: Path
    record: R
    requirement: str = "nothing"


@dataclass(frozen=True)
class Stack:
    """Stages, applied left to right, and the defense that judges the result."""

    stages: tuple[Loaded[Stage], ...]
    defense: Loaded[Defense]

    def meet(self, attack: Loaded[Attack]) -> None:
        """Raise `Inapplicable`, with the reason, if the attack rehearses and the defense is too slow for that."""
        if attack.record.queries and "rehearsed" in self.defense.record.waives:
            reason = self.defense.record.waives["rehearsed"]
            raise Inapplicable(f"{attack.name} does not rehearse {self.defense.name}: {reason}")

    def check(self, n: int, f: int) -> None:
        """Raise `Inapplicable`, with the reason, unless every part is defined for `n` clients and the bound `f`."""
        if f < 0:
            raise AgrbenchError(f"byzantine is {f}; write a number from 0")
        for stage in self.stages:
            _require(stage, n, f)
            with blame(stage, "rows"):
                left = stage.record.rows(n)
            if left != n and "regrouped" in self.defense.record.waives:
                reason = self.defense.record.waives["regrouped"]
                raise Inapplicable(f"{self.defense.name} cannot follow {stage.name}, which regroups clients: {reason}")
            n = left
        _require(self.defense, n, f)
        wanted = self.defense.record.amplifier
        for stage in self.stages:
            if stage.record.columns is None:
                continue
            if wanted is None:
                reason = self.defense.record.waives.get("amplified", "it has no amplified form")
                raise Inapplicable(f"{self.defense.name} judges no view but the updates themselves: {reason}")
            if wanted == "restored" and "restored" in stage.record.waives:
                reason = stage.record.waives["restored"]
                raise Inapplicable(f"{self.defense.name} needs a restored view, which {stage.name} lacks: {reason}")


def _require(part: Loaded[Stage] | Loaded[Defense], n: int, f: int) -> None:
    late = PluginError(f"{part.path}: requires took longer than {SECONDS:g} s; mend the file and try again")
    with processes.within(SECONDS, late), blame(part, "requires"):
        defined = part.record.requires(n, f)
        possible = defined or any(part.record.requires(many, few) for many in TRIED for few in (0, 1))
    if not possible:
        raise SpecError(
            f"{part.name} requires {part.requirement}, which no number of clients meets; write other values"
        )
    if not defined:
        raise Inapplicable(f"{part.name} requires {part.requirement}, and here n={n}, f={f}")


@contextmanager
def blame(part: Loaded[Any], action: str) -> Iterator[None]:
    """Turn whatever a plugin raises, even `SystemExit`, into an error that names the plugin.

    What it prints goes to standard error, and global state that it changes is put back (`agrbench.plugins.ambient`).
    """
    try:
        with apart(part.path):
            yield
    except AgrbenchError as error:
        if isinstance(error, (Inapplicable, PluginError)):
            raise
        kind = DataError if isinstance(error, DataError) else PluginError  # a data file or the plugin is at fault
        raise kind(f"{part.name}: {error}") from error
    except BaseException as error:
        raise fault(part.path, action, error) from error


def fault(path: Path, action: str, error: BaseException) -> PluginError:
    """Return the error that a plugin file raised something; raise it as it is if the user ends the program."""
    if isinstance(error, GeneratorExit) or (processes.interrupted() and not isinstance(error, Exception)):
        raise error
    text = f": {said}" if (said := _text(error)) else ""
    return PluginError(f"{path}: {action} raised {type(error).__name__}{text}; mend the file and try again")


def _text(error: BaseException) -> str:
    """Return what an error says, which a plugin's own class may fail to."""
    try:
        return str(error)
    except Exception:
        return "no text, because its __str__ raises"
