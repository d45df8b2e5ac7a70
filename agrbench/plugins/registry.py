"""Find plugins, check specs against them, and load a plugin only when it is needed.

Plugins come from the files shipped here, from installed packages (entry points of the group `agrbench.plugins`) and
from files that the user names; such a file takes the place of an installed plugin of its name. Names, first lines and
signatures are read from the source text.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib.metadata
import importlib.util
import multiprocessing
import warnings
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar, cast

from agrbench import specs
from agrbench.data.files import content
from agrbench.errors import AgrbenchError, PluginError, SpecError
from agrbench.plugins import contract, elsewhere, names, siblings, source
from agrbench.plugins.cut import ROWS, cut, how_to_write, is_for_harness
from agrbench.plugins.importing import imported
from agrbench.plugins.loading import load
from agrbench.plugins.parsing import exports, parse
from agrbench.plugins.source import PluginSource
from agrbench.plugins.stack import Loaded, Stack, blame
from agrbench.settings import own_rate
from agrbench.specs import Term

if TYPE_CHECKING:
    from agrbench.cells import Cell
    from agrbench.plugins import Attack, Dataset, Stage

GROUP = "agrbench.plugins"
R = TypeVar("R", bound=contract.Plugin)


class Registry:
    """The available plugins: shipped, installed, and in the `files` that a user named.

    Raises:
        PluginError: a named file cannot be read, has a syntax error, exports no plugin, or takes a name in use
            (an installed plugin makes way); if
            `forgiving`, this is raised only when the plugin is looked up.
    """

    def __init__(self, files: Iterable[str | Path] = (), forgiving: bool = False) -> None:
        self.files = tuple(Path(file).resolve() for file in files)
        self._entries: dict[tuple[str, str], PluginSource] = {}
        self._modules: dict[Path, ModuleType] = {}
        for package in siblings.SHIPPED:
            for path in sorted(siblings.shipped(package).glob("[!_]*.py")):
                self._add(path.stem, path, f"agrbench.{package}.{path.stem}")
        for point in importlib.metadata.entry_points(group=GROUP):
            try:
                self._add(point.name, *_installed(point))
            except PluginError as error:
                warnings.warn(f"the installed plugin {point.name!r} is left out: {error}", stacklevel=2)
        self.broken: dict[str, PluginError] = {}
        for path in self.files:
            try:
                self._add(path.stem, path, None)
            except PluginError as error:
                if not forgiving:
                    raise
                self.broken[path.stem] = error

    def names(self, kind: str) -> list[str]:
        """Return the names of the plugins of a kind, sorted."""
        return sorted(name for has, name in self._entries if has == kind)

    def entry(self, kind: str, name: str) -> PluginSource:
        """Look up one plugin.

        Raises:
            SpecError: there is no such plugin; the message suggests similar names.
        """
        if (kind, name) in self._entries:
            return self._entries[kind, name]
        if elsewhere.is_elsewhere(name):
            return elsewhere.find(kind, name)
        if name in self.broken:
            raise self.broken[name]
        others = [has for has, other in self._entries if other == name]
        if others:
            raise SpecError(f"{name} is {_one(others[0])}, not {_one(kind)}")
        near = names.near(kind, name, self.names(kind))
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(self.names(kind))}"
        letter = f", with {strange}" if (strange := names.foreign(name)) else ""
        raise SpecError(f"no {kind} is named {name!r}{letter}; {hint}")

    def canonical(self, kind: str, spec: str) -> str:
        """Check a spec and write it in canonical form: hyperparameters sorted, those equal to their default left out.

        A defense's spec may begin with stages; attacks and datasets are single terms.
        """
        return specs.join(tuple(self._checked(kind_of, term) for kind_of, term in self._terms(kind, spec)))

    def spelled(self, kind: str, spec: str) -> str:
        """Write a spec as titles show it, with all hyperparameters; one of plugins out of reach stays as it is."""
        try:
            terms = [(self.entry(of, term.name), self._checked(of, term)) for of, term in self._terms(kind, spec)]
        except AgrbenchError:
            return spec
        return specs.join(tuple(Term(term.name, {**entry.defaults, **term.arguments}) for entry, term in terms))

    def entries(self, kind: str, spec: str) -> list[PluginSource]:
        """Return the plugins that a spec names, left to right."""
        return [self.entry(kind_of, term.name) for kind_of, term in self._terms(kind, spec)]

    def digest(self, kind: str, spec: str) -> str:
        """Return one SHA-256 for all plugins that a spec names, and the version of a library that one is from."""
        return source.digest(self.entries(kind, spec))

    def plugins_of(self, cell: Cell) -> list[PluginSource]:
        """Return the plugins that a cell names."""
        return [entry for kind in ("dataset", "defense", "attack") for entry in self.entries(kind, getattr(cell, kind))]

    def sources(self, cell: Cell) -> dict[str, str]:
        """Return the digests of the plugins that a cell uses, as its record stores them.

        A dataset's digest covers the content of the files that it `reads`, which have no published checksum.
        """
        found = {kind: self.digest(kind, getattr(cell, kind)) for kind in ("attack", "defense", "dataset")}
        (dataset,) = self.entries("dataset", cell.dataset)
        if not dataset.shipped or dataset.field("reads") is not None:  # a foreign record may be made in any way
            loaded = self.dataset(cell.dataset)
            if loaded.record.reads is not None:
                with blame(loaded, "reads"):
                    contents = [content(Path(path)) for path in loaded.record.reads()]
                found["dataset"] = hashlib.sha256("".join([found["dataset"], *contents]).encode()).hexdigest()
        return found

    def canonical_cell(self, cell: Cell) -> Cell:
        """Check a cell's specs and write each in canonical form, without a rate or model equal to the dataset's.

        Raises:
            SpecError: a spec names no plugin or hyperparameter.
        """
        record = self.dataset(cell.dataset).record
        return dataclasses.replace(
            cell,
            dataset=self.canonical("dataset", cell.dataset),
            defense=self.canonical("defense", cell.defense),
            attack=self.canonical("attack", cell.attack),
            rate=None if cell.rate == record.rate and own_rate(cell.schedule) is None else cell.rate,
            model=None if cell.model == record.model else cell.model,
        )

    def attack(self, spec: str) -> Loaded[Attack]:
        """Load an attack."""
        return self._single(contract.Attack, "attack", spec)

    def stage(self, spec: str) -> Loaded[Stage]:
        """Load a single stage."""
        return self._single(contract.Stage, "stage", spec)

    def dataset(self, spec: str) -> Loaded[Dataset]:
        """Load a dataset's record, not its data."""
        return self._single(contract.Dataset, "dataset", spec)

    def stack(self, spec: str) -> Stack:
        """Load the stages and the defense of a spec."""
        *stages, (_, last) = self._terms("defense", spec)
        loaded = tuple(self._bind(contract.Stage, "stage", term) for _, term in stages)
        return Stack(loaded, self._bind(contract.Defense, "defense", last))

    def _single(self, of: type[R], kind: str, spec: str) -> Loaded[R]:
        ((_, term),) = self._terms(kind, spec)
        return self._bind(of, kind, term)

    def _bind(self, of: type[R], kind: str, term: Term) -> Loaded[R]:
        term = self._checked(kind, term)
        entry = self.entry(kind, term.name)
        if isinstance(entry, elsewhere.Elsewhere):
            return Loaded(str(term), Path(term.name), cast(R, entry.record(term)))
        record = getattr(self._module(entry), kind, None)
        if not isinstance(record, of):
            raise PluginError(f"{entry.path}: `{kind}` is a {type(record).__name__}; write {kind} = {of.__name__}(...)")
        arguments = {name: value for name, value in term.arguments.items() if not is_for_harness(record, name)}
        for name in set(arguments) - set(contract.hyperparameters(record)):
            raise _unknown(entry, name)
        bound = contract.bind(record, arguments)
        if len(arguments) < len(term.arguments):
            bound = cut(bound, term)
        return Loaded(str(term), entry.path, bound, entry.requirement)

    def _terms(self, kind: str, spec: str) -> list[tuple[str, Term]]:
        try:
            terms = specs.parse(spec)
        except specs.IllTyped as error:
            for known in (kind, "stage"):
                if (known, error.name) in self._entries:
                    entry = self.entry(known, error.name)
                    raise SpecError(f"{error}; {how_to_write(entry, error.argument)}") from error
            raise
        except SpecError:
            for name, broken in self.broken.items():
                if not names.is_name(name) and name in spec:
                    raise broken from None
            raise
        if kind != "defense" and len(terms) > 1:
            raise SpecError(f"{spec!r}: only a defense is preceded by stages; write one {kind}, for example {terms[0]}")
        return [("stage", term) for term in terms[:-1]] + [(kind, terms[-1])]

    def _checked(self, kind: str, term: Term) -> Term:
        entry = self.entry(kind, term.name)
        kept = {}
        for name, value in term.arguments.items():
            parameter = entry.parameters.get(name)
            if parameter is None:
                if entry.shipped and (kind, name) != ("dataset", ROWS):
                    raise _unknown(entry, name)
                kept[name] = value  # a foreign file may import its functions from elsewhere, so its record decides
            elif not parameter.accepts(value):
                raise SpecError(
                    f"{term.name}({name}={value!r}): {name} is {parameter.values}; the signature is {entry.signature}"
                )
            elif not parameter.is_default(parameter.read(value)):
                kept[name] = parameter.read(value)
        return Term(term.name, kept)

    def _module(self, entry: PluginSource) -> ModuleType:
        if entry.path not in self._modules:
            with imported(entry.path):
                self._modules[entry.path] = load(entry.name, entry.path, entry.module)
        return self._modules[entry.path]

    def _add(self, name: str, path: Path, module: str | None) -> None:
        exported = exports(parse(path))
        kinds = [kind for kind in contract.KINDS if kind in exported]
        if not kinds:
            raise PluginError(
                f"{path}: it exports no plugin; end it with one of "
                f"{', '.join(f'{kind} = {record.__name__}(...)' for kind, record in contract.KINDS.items())}"
            )
        what, ending = ("file", ".py") if module is None else ("entry point", "")
        if not names.is_name(name):
            raise PluginError(f"{path}: {names.unnameable(name, what, ending)}")
        if {"stage", "defense"} <= set(kinds):
            raise PluginError(
                f"{path}: a spec could not tell its stage from its defense; move one to a file of its own"
            )
        for entry in self._namesakes(name, kinds, path):
            if module is not None or entry.module is None or entry.shipped:
                raise PluginError(
                    f"{path}: {_one(entry.kind)} named {name} exists already ({entry.path}); rename the {what}"
                )
            if multiprocessing.parent_process() is None:  # workers leave it to the program that started them
                warnings.warn(f"{path} is used as {name}, in the place of the installed {entry.path}", stacklevel=3)
            del self._entries[entry.kind, name]
        self._entries.update({(kind, name): PluginSource(kind, name, path, module) for kind in kinds})

    def _namesakes(self, name: str, kinds: Iterable[str], path: Path) -> list[PluginSource]:
        """Return the plugins of other files whose name a plugin of these kinds would take."""
        taken = {each for kind in kinds for each in (kind, names.TWINS.get(kind, kind))}
        entries = [self._entries[kind, name] for kind in sorted(taken) if (kind, name) in self._entries]
        return [entry for entry in entries if entry.path != path]


def of(files: Iterable[str | Path] = ()) -> Registry:
    """Return the registry of plugin files, which are read once and again after an edit."""
    named = tuple(Path(file).resolve() for file in files)
    return _read(named, tuple(each for file in named for each in siblings.contents(file)))


@cache
def _read(files: tuple[Path, ...], contents: tuple[tuple[Path, bytes], ...]) -> Registry:
    return Registry(files)


def _one(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _unknown(entry: PluginSource, name: str) -> SpecError:
    known = [*entry.parameters, *([ROWS] if entry.kind == "dataset" else [])]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return SpecError(
        f"{entry.name} has no hyperparameter {name!r}; {hint}{how_to_write(entry, near[0] if near else name)}"
    )


def _installed(point: importlib.metadata.EntryPoint) -> tuple[Path, str]:
    try:
        module = point.module
        spec = importlib.util.find_spec(module)
    except (Exception, SystemExit):  # finding a module imports its package, which may raise anything
        module, spec = point.value, None
    if spec is None or spec.origin is None:
        raise PluginError(f"its module {module!r} cannot be found; reinstall the package")
    return Path(spec.origin), module
