"""What a plugin's source text shows without importing it: name, first line, hyperparameters, requirement, digest."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from agrbench.errors import PluginError
from agrbench.plugins import contract, essence, siblings
from agrbench.plugins.parsing import parse, record_call, written

UNREADABLE = (ValueError, TypeError, SyntaxError, RecursionError, MemoryError)
"""What `ast.literal_eval` raises for an expression that is not a literal."""


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter, as written in the source text."""

    name: str
    annotation: str
    default: str

    def __str__(self) -> str:
        return f"{self.name}: {self.annotation} = {self.default}" if self.annotation else f"{self.name}={self.default}"

    def accepts(self, value: object) -> bool:
        """Return whether a literal fits the annotation; an annotation of unknown form accepts everything."""
        if not self.annotation:
            return True
        try:
            self.read(value)
        except OverflowError:
            return False
        return any(_matches(option, value) for option in _options(ast.parse(self.annotation, mode="eval").body))

    @property
    def values(self) -> str:
        """Write in words what the annotation accepts: `'a' or 'b'`, `int or None`."""
        words: list[str] = []
        for option in _options(ast.parse(self.annotation, mode="eval").body):
            words += map(ast.unparse, _choices(option) or [option])
        return " or ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)

    def read(self, value: object) -> object:
        """Convert a whole number to a float if the annotation allows only floats: 1 and 1.0 are the same cell."""
        kinds = {ast.unparse(option) for option in _options(ast.parse(self.annotation or "Any", mode="eval").body)}
        whole = type(value) is int and "float" in kinds and "int" not in kinds
        return float(cast(int, value)) if whole else value

    def is_default(self, value: object) -> bool:
        """Return whether the value is the default."""
        try:
            default = ast.literal_eval(self.default)
        except UNREADABLE:
            return False
        return type(self.read(default)) is type(value) and default == value


@dataclass(frozen=True)
class PluginSource:
    """One plugin, read from its source text without importing it."""

    kind: str
    name: str
    path: Path
    module: str | None = None

    @cached_property
    def _tree(self) -> ast.Module:
        return parse(self.path)

    @cached_property
    def summary(self) -> str:
        """Return the first line of the module's docstring."""
        return (ast.get_docstring(self._tree) or "").partition("\n")[0]

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of what the file computes, together with the files of its own that it imports.

        It ignores layout, comments, docstrings, claims, and from which modules of `agrbench` names are imported.
        """
        return essence.digest(self._tree, [_helper(file) for file in siblings.own_files(self.path, self.module)])

    @property
    def library(self) -> str:
        """Name the library that a rule from elsewhere is of; empty for plugins."""
        return ""

    @property
    def shipped(self) -> bool:
        """Return whether the plugin comes with agrbench, so that its text says all about its record."""
        return self.module is not None and self.module.startswith("agrbench.")

    @cached_property
    def record_call(self) -> ast.Call | None:
        """Return the expression that creates the record, if the module assigns one."""
        return record_call(self._tree, self.kind)

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """Return the hyperparameters: keyword-only arguments of every function in the record's expression."""
        functions = self._functions
        found: dict[str, Parameter] = {}
        for node in ast.walk(self.record_call) if self.record_call else ():
            arguments = None
            if isinstance(node, ast.Name) and node.id in functions:
                arguments = functions[node.id].args
            elif isinstance(node, ast.Lambda):
                arguments = node.args
            if arguments is None:
                continue
            for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
                annotation = written(argument.annotation) if argument.annotation else ""
                text = written(default) if default else "..."
                found.setdefault(argument.arg, Parameter(argument.arg, annotation, text))
        return found

    @property
    def defaults(self) -> dict[str, Any]:
        """Return the hyperparameters that have a value by default, as far as the text tells."""
        found = {}
        for name, parameter in self.parameters.items():
            with contextlib.suppress(*UNREADABLE):
                found[name] = ast.literal_eval(parameter.default)
        return {name: value for name, value in found.items() if value is not None and value is not ...}

    @cached_property
    def _functions(self) -> dict[str, ast.FunctionDef]:
        return {node.name: node for node in self._tree.body if isinstance(node, ast.FunctionDef)}

    def field(self, name: str) -> ast.expr | None:
        """Return the expression for a field in the record's expression; `None` if it is not set."""
        call = self.record_call
        if call is None:
            return None
        fields = [each.name for each in dataclasses.fields(contract.KINDS[self.kind])]
        given = dict(zip(fields, call.args, strict=False)) | {
            each.arg: each.value for each in call.keywords if each.arg
        }
        return given.get(name)

    def literal(self, name: str, default: object) -> object:
        """Return the value of a field that is written as a literal, or else `default`."""
        node = self.field(name)
        try:
            return default if node is None else ast.literal_eval(node)
        except UNREADABLE:
            return default

    @cached_property
    def requirement(self) -> str:
        """Return the condition on `n` and `f` as the source writes it, or the name of the function that checks it."""
        node = self.field("requires")
        if node is None:
            return "nothing"
        return written(node.body if isinstance(node, ast.Lambda) else node)

    @cached_property
    def explanation(self) -> str:
        """Return the docstring of the function that does the plugin's work; empty if it has none."""
        for name in ("weigh", "mix", "columns", "forge", "poison", "load"):
            node = self.field(name)
            if isinstance(node, ast.Name) and node.id in self._functions:
                return ast.get_docstring(self._functions[node.id]) or ""
        return ""

    @property
    def signature(self) -> str:
        """Write the plugin's name with its hyperparameters, as a user may type them."""
        inside = ", ".join(map(str, self.parameters.values()))
        return f"{self.name}({inside})" if inside else self.name

    @property
    def has_columns(self) -> bool:
        """Return whether this is a column stage."""
        return self.kind == "stage" and self.field("columns") is not None


def digest(entries: Sequence[PluginSource]) -> str:
    """Return one SHA-256 for some plugins, followed by the libraries that rules from elsewhere are of."""
    digests = [entry.digest for entry in entries]
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return " ".join([whole, *(entry.library for entry in entries if entry.library)])


def _helper(file: Path) -> tuple[str, ast.Module | bytes]:
    """Read a file that a plugin imports; one that is no Python counts by its bytes, and importing it says why."""
    try:
        return file.name, parse(file) if file.suffix == ".py" else siblings.content(file)
    except PluginError:
        return file.name, siblings.content(file)


def _options(annotation: ast.expr) -> list[ast.expr]:
    options, pending = [], [annotation]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            pending += [node.right, node.left]
        else:
            options.append(node)
    return options


def _choices(option: ast.expr) -> list[ast.expr]:
    """Return the values of a `Literal`; an empty list for any other type."""
    if not isinstance(option, ast.Subscript) or ast.unparse(option.value) != "Literal":
        return []
    return option.slice.elts if isinstance(option.slice, ast.Tuple) else [option.slice]


def _matches(option: ast.expr, value: object) -> bool:
    choices = _choices(option)
    if choices:
        try:
            return value in [ast.literal_eval(choice) for choice in choices]
        except UNREADABLE:
            return True
    types: dict[str, tuple[type, ...]] = {
        "int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "None": (type(None),), "tuple": (tuple,)
    }  # fmt: skip
    known = types.get(ast.unparse(option).partition("[")[0])
    return known is None or (isinstance(value, known) and (known == (bool,) or not isinstance(value, bool)))
