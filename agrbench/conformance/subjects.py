"""Subjects of certificates: a plugin or a stack, named by a spec or a plugin file. This module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from agrbench import specs
from agrbench.errors import SpecError
from agrbench.plugins import elsewhere, names, registry
from agrbench.plugins.contract import KINDS
from agrbench.plugins.parsing import exports, parse


@dataclass(frozen=True)
class Subject:
    """A plugin or a stack to be certified; `plugins` are the files it may come from."""

    kind: str
    spec: str
    plugins: tuple[str, ...] = ()

    @cached_property
    def records(self) -> list[Any]:
        """Load the records of all its parts."""
        known = registry.of(self.plugins)
        if self.kind == "defense":
            stack = known.stack(self.spec)
            return [*(stage.record for stage in stack.stages), stack.defense.record]
        return [getattr(known, self.kind)(self.spec).record]


def subjects(named: str, plugins: tuple[str, ...] = ()) -> list[Subject]:
    """Find what a spec or a plugin file names: one plugin, or one of each kind with that name.

    Raises:
        AgrbenchError: there is none, or the file cannot be read.
    """
    if named.endswith(".py"):
        files = (*plugins, named)
        registry.of(files)  # refuses a file that exports nothing
        return [Subject(kind, Path(named).stem, files) for kind in KINDS if kind in exports(parse(Path(named)))]
    known, terms = registry.of(plugins), specs.parse(named)
    kinds = [kind for kind in KINDS if terms[0].name in known.names(kind)] if len(terms) == 1 else ["defense"]
    if any(elsewhere.is_elsewhere(term.name) for term in terms):
        kinds = ["defense"]
    if not kinds:
        near = list(
            dict.fromkeys(each for kind in KINDS for each in names.near(kind, terms[0].name, known.names(kind)))
        )
        hint = f"did you mean {' or '.join(near)}?" if near else "write a name that `agrbench list` has, or a .py file"
        raise SpecError(f"no plugin is named {terms[0].name!r}; {hint}")
    return [Subject(kind, known.canonical(kind, named), plugins) for kind in kinds]
