"""Rules from elsewhere: `byzfl:TrMean(f=3)`, `flower:Krum(num_malicious_nodes=3)`, `python:my_module:aggregate`.

They return a step and no weights. So they have no amplified form, and nobody knows whom they trust.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from agrbench.errors import AgrbenchError, Inapplicable, SpecError
from agrbench.plugins.contract import Defense, Step
from agrbench.plugins.importing import imported
from agrbench.plugins.source import PluginSource
from agrbench.specs import Term

if TYPE_CHECKING:
    from torch import Tensor

Rule = Callable[[Any], Any]
"""Maps a `Round` to a step `(parameters,)`."""

BOUNDS = ("f", "byzantine", "num_malicious_nodes")  # what libraries call the number of malicious rows
COLUMNS = 3  # of the rows on which a rule is tried
WAIVES = {"amplified": "it returns a step and no weights, by which amplification would combine the updates"}


@dataclass(frozen=True)
class Library:
    """A package of rules: how it is installed and imported, and the function that reads a rule from its module."""

    package: str
    install: str
    load: Callable[[], ModuleType]
    rule: Callable[[ModuleType, str, Mapping[str, Any]], Callable[[], Rule]]


@dataclass(frozen=True)
class Elsewhere(PluginSource):
    """A rule of a library, or a function of a user's module, which decides itself which hyperparameters it has."""

    @property
    def record_call(self) -> None:
        """Return `None`: its file makes no record."""

    @property
    def library(self) -> str:
        """Name the library and its version; empty for a user's module."""
        name = self.name.partition(":")[0]
        package = LIBRARIES[name].package if name in LIBRARIES else ""
        return f"{package} {importlib.metadata.version(package)}" if package else ""

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of the library's version, or of what a user's module computes."""
        if self.library:
            return hashlib.sha256(self.library.encode()).hexdigest()
        if self.path.suffix != ".py":
            return hashlib.sha256(self.path.read_bytes()).hexdigest()
        return PluginSource(self.kind, self.name, self.path, self.module).digest

    def record(self, term: Term) -> Defense:
        """Load the rule and bind its arguments, once in a process.

        Raises:
            PluginError: importing its module raised anything.
            SpecError: there is no such rule, or it does not take the arguments.
        """
        key = self.path, str(term)
        if key not in _records:
            _records[key] = self._load(term.arguments)
        return _records[key]

    def _load(self, arguments: Mapping[str, Any]) -> Defense:
        library, _, name = self.name.partition(":")
        known = LIBRARIES.get(library)
        with imported(self.path), _reachable():
            module = known.load() if known else importlib.import_module(str(self.module))
        make = known.rule(module, name, arguments) if known else _function(module, name.partition(":")[2], arguments)
        try:
            make()
        except Exception as error:
            raise SpecError(f"{self.name}: {error}; write arguments that it takes") from error

        def weigh(round: Any) -> Step:
            if "rule" not in round.memory:  # the object may remember rounds, and a fork of the run copies it
                round.memory["rule"] = make()
            return Step(_vector(round.memory["rule"](round)))

        return Defense(weigh, requires=partial(_requires, self.name, cache(partial(_trial, make)), arguments),
                       amplifier=None, waives=WAIVES)  # fmt: skip


_records: dict[tuple[Path, str], Defense] = {}


def is_elsewhere(name: str) -> bool:
    """Return whether a name in a spec means a rule from elsewhere."""
    return ":" in name


def find(kind: str, name: str) -> Elsewhere:
    """Find a rule without importing its module.

    Raises:
        SpecError: no rule is wanted, the name is of another form, or its library or module is not installed.
    """
    if kind != "defense":
        raise SpecError(f"{name} is a rule from elsewhere and no {kind}; write it last in a defense's spec")
    library, *rest = name.split(":")
    if library in LIBRARIES and len(rest) == 1:
        known = LIBRARIES[library]
        spec = _spec_of(known.package)
        if spec is None:
            raise SpecError(f"{name}: {known.package} is not installed; write `python -m pip install {known.install}`")
        return Elsewhere("defense", name, Path(spec.origin or library))
    if library != "python" or len(rest) != 2:
        raise SpecError(f"{name!r} names no rule; write byzfl:RULE, flower:STRATEGY or python:MODULE:FUNCTION")
    spec = _spec_of(rest[0])
    if spec is None or spec.origin is None:
        raise SpecError(f"{name}: Python finds no module {rest[0]!r}; write one that is installed or in {Path.cwd()}")
    return Elsewhere("defense", name, Path(spec.origin), rest[0])


def byzfl() -> ModuleType:
    """Import byzfl without its benchmark subpackage, which needs torchvision and which no aggregation rule needs.

    Raises:
        AgrbenchError: it is not installed, or incomplete.
    """
    sys.modules.setdefault("byzfl.benchmark", ModuleType("byzfl.benchmark"))
    try:
        return importlib.import_module("byzfl")
    except ImportError as error:
        raise AgrbenchError(
            f"byzfl cannot be imported ({error}); write `python -m pip install --no-deps byzfl`, or leave it out"
        ) from error


def _byzfl(module: ModuleType, name: str, arguments: Mapping[str, Any]) -> Callable[[], Rule]:
    rule = _member(module, name, inspect.isclass)
    return lambda: partial(_apply, rule(**arguments))  # a partial, because a copy of it copies the object, too


def _apply(rule: Any, round: Any) -> Any:
    return rule(round.updates)


def _flower(module: ModuleType, name: str, arguments: Mapping[str, Any]) -> Callable[[], Rule]:
    """Read a strategy of Flower's, which aggregates whole models and believes claimed numbers of examples."""
    app, strategy = importlib.import_module("flwr.app"), _member(module, name, inspect.isclass)

    def aggregate(made: Any, round: Any) -> Tensor:
        model = round.server.model
        replies = [
            SimpleNamespace(has_error=lambda: False, content=app.RecordDict({
                "arrays": app.ArrayRecord({"model": app.Array(row.cpu().numpy())}),
                "metrics": app.MetricRecord({"num-examples": size}),
            }))
            for row, size in zip(round.updates + model, round.sizes.tolist(), strict=True)
        ]  # fmt: skip
        with _quiet():
            arrays, _ = made.aggregate_train(round.number, replies)
        if arrays is None:
            raise ValueError(f"{name} returned no model for {len(replies)} replies")
        step: Tensor = _vector(arrays["model"].numpy()).to(model) - model
        return step

    def make() -> Rule:
        with _quiet():
            return partial(aggregate, strategy(**arguments))

    return make


def _function(module: ModuleType, name: str, arguments: Mapping[str, Any]) -> Callable[[], Rule]:
    """Read a function of a user's module, which takes the updates and the arguments."""
    function = _member(module, name, callable)

    def make() -> Rule:
        inspect.signature(function).bind(None, **arguments)
        return lambda round: function(round.updates, **arguments)

    return make


LIBRARIES = {
    "byzfl": Library("byzfl", "--no-deps byzfl", byzfl, _byzfl),
    "flower": Library(
        "flwr", "'agrbench[flower]'", partial(importlib.import_module, "flwr.serverapp.strategy"), _flower
    ),
}


def _member(module: ModuleType, name: str, suits: Callable[[Any], bool]) -> Any:
    found = getattr(module, name, None)
    if found is None or not suits(found):
        known = [each for each, value in vars(module).items() if suits(value) and not each.startswith("_")]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)[:12]
        raise SpecError(f"{module.__name__} has no rule {name!r}; did you mean {' or '.join(near)}?")
    return found


def _requires(name: str, trial: Callable[[int], str], arguments: Mapping[str, Any], n: int, f: int) -> bool:
    """Return True, or raise `Inapplicable` with the reason."""
    for bound in BOUNDS:
        if isinstance(told := arguments.get(bound), int) and told < f:
            raise Inapplicable(f"{name} is told {bound}={told}, and the server assumes {f}; write {bound}={f}")
    if reason := trial(n):
        raise Inapplicable(f"{name} does not combine {n} rows: {reason}")
    return True


def _trial(make: Callable[[], Rule], n: int) -> str:
    """Return why a rule does not combine `n` ordinary rows; empty if it does."""
    import torch

    rows = torch.randn(n, COLUMNS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    server = SimpleNamespace(model=rows.new_zeros(COLUMNS))
    try:
        answer = _vector(make()(SimpleNamespace(updates=rows, sizes=rows.new_ones(n), server=server, number=1)))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "" if answer.shape == (COLUMNS,) else f"it returned {tuple(answer.shape)} for {tuple(rows.shape)}"


def _vector(answer: Any) -> Tensor:
    import torch

    if answer is None:
        raise TypeError("it returned None, not a vector")
    return answer if isinstance(answer, torch.Tensor) else torch.as_tensor(answer)


def _spec_of(module: str) -> ModuleSpec | None:
    try:
        with _reachable():
            return importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None


@contextmanager
def _reachable() -> Iterator[None]:
    """Let modules in the working directory be imported, as `python -m` does and installed commands do not."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(here)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Flower logs of every round."""
    logger = logging.getLogger("flwr")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
