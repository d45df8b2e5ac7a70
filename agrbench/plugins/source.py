"""What a plugin's source text shows without importing it: name, first line, hyperparameters, requirement, digest."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeGuard, cast

from agrbench.errors import PluginError
from agrbench.plugins import contract

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


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
        except (ValueError, SyntaxError):
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
        """Return the SHA-256 of what the file computes.

        It ignores layout, comments, docstrings, claims, and from which modules of `agrbench` names are imported.
        """
        return hashlib.sha256(json.dumps(_essence(self._tree)).encode()).hexdigest()

    @cached_property
    def record_call(self) -> ast.Call | None:
        """Return the expression that creates the record, if the module assigns one."""
        value = exports(self._tree).get(self.kind)
        made_by = contract.KINDS[self.kind].__name__
        return value if isinstance(value, ast.Call) and ast.unparse(value.func).endswith(made_by) else None

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
                annotation = ast.unparse(argument.annotation) if argument.annotation else ""
                text = ast.unparse(default) if default else "..."
                found.setdefault(argument.arg, Parameter(argument.arg, annotation, text))
        return found

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
        except ValueError:
            return default

    @cached_property
    def requirement(self) -> str:
        """Return the condition on `n` and `f` as the source writes it, or the name of the function that checks it."""
        node = self.field("requires")
        if node is None:
            return "nothing"
        return ast.unparse(node.body if isinstance(node, ast.Lambda) else node)

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


def parse(path: Path) -> ast.Module:
    """Parse a plugin file as Python, without running it.

    Raises:
        PluginError: the file cannot be read or has a syntax error.
    """
    try:
        return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except OSError as error:
        raise PluginError(
            f"{path}: the plugin file cannot be read ({error.strerror}); give the path of a .py file"
        ) from error
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        line = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise PluginError(
            f"{path}: not Python{line} ({getattr(error, 'msg', error)}); mend the file and try again"
        ) from error


def exports(tree: ast.Module) -> dict[str, ast.expr]:
    """Return the expressions that a module assigns, at its top level, to the names of plugin kinds."""
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name) and target.id in contract.KINDS:
                found[target.id] = node.value
    return found


def _essence(node: object) -> object:
    """Write a syntax tree, without docstrings and claims, as lists that are the same on every version of Python."""
    if isinstance(node, list):
        kept = [_essence(each) for each in node if not _is_claim(each) and not _is_harness(each)]
        names = sorted(ast.unparse(name) for each in node if _is_harness(each) for name in each.names)
        return [["agrbench", names], *kept] if names else kept
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
        fields["body"] = fields["body"][1:]
    given = {name: _essence(value) for name, value in fields.items() if value is not None}
    return [type(node).__name__, *([name, value] for name, value in given.items() if value)]


def _is_harness(node: object) -> TypeGuard[ast.ImportFrom]:
    """Recognise `from agrbench... import names`: only the names count, because harness modules may move."""
    return isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "agrbench"


def _is_claim(node: object) -> bool:
    return isinstance(node, ast.keyword) and node.arg in contract.CLAIMS


def _options(annotation: ast.expr) -> list[ast.expr]:
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return [*_options(annotation.left), *_options(annotation.right)]
    return [annotation]


def _choices(option: ast.expr) -> list[ast.expr]:
    """Return the values of a `Literal`; an empty list for any other type."""
    if not isinstance(option, ast.Subscript) or ast.unparse(option.value) != "Literal":
        return []
    return option.slice.elts if isinstance(option.slice, ast.Tuple) else [option.slice]


def _matches(option: ast.expr, value: object) -> bool:
    choices = _choices(option)
    if choices:
        return value in [ast.literal_eval(choice) for choice in choices]
    types: dict[str, tuple[type, ...]] = {
        "int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "None": (type(None),), "tuple": (tuple,)
    }  # fmt: skip
    known = types.get(ast.unparse(option).partition("[")[0])
    return known is None or (isinstance(value, known) and (known == (bool,) or not isinstance(value, bool)))
