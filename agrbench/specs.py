"""Parse and write specs such as `amp(kernel=3)+krum`: names joined by `+`, each with literal hyperparameters.

Where several specs are asked for, `amp(kernel=2|3)+krum` stands for two of them. A spec is parsed by `ast` as a Python
expression and never evaluated.
"""

from __future__ import annotations

import ast
import io
import itertools
import math
import tokenize
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agrbench.errors import SpecError

LONGEST = 1000  # characters in a spec
MOST = 1000  # specs that one with several values may stand for
UNNAMED = (int, float, str)  # types of values that may be written without a name
LARGEST = 2**53  # above it, floats no longer represent every whole number


@dataclass(frozen=True)
class Term:
    """One name in a spec, with its hyperparameters and, written before them, its unnamed values.

    The name may have parts, as `byzfl:TrMean` and `python:module:function` have.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    values: tuple[Any, ...] = ()

    def __str__(self) -> str:
        named = (f"{key}={written(value)}" for key, value in sorted(self.arguments.items()))
        inside = ",".join([*map(written, self.values), *named])
        return f"{self.name}({inside})" if inside else self.name


def written(value: Any) -> str:
    """Write a literal the same way in every process; sets, which have no order, are sorted."""
    if isinstance(value, complex) or value is ...:
        raise ValueError("no hyperparameter")
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(map(written, value)))}}}" if value else "set()"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{written(key)}: {written(each)}' for key, each in value.items())}}}"
    if isinstance(value, (list, tuple)):
        inside = ", ".join(map(written, value)) + ("," if isinstance(value, tuple) and len(value) == 1 else "")
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    return repr(value)


def parse(spec: str, unnamed: bool = False) -> tuple[Term, ...]:
    """Split a spec into its terms, left to right; `unnamed` allows values without names, as in `mlp(512, 1024)`.

    Raises:
        SpecError: the text is not a spec; the message shows the text and an example of a spec.
    """
    if len(spec.strip()) > LONGEST:
        raise SpecError(_not_a_spec(spec))
    try:
        return _terms(ast.parse(_dotted(spec.strip()), mode="eval").body, spec.strip(), unnamed)
    except SpecError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise SpecError(_not_a_spec(spec)) from error


def _dotted(spec: str) -> str:
    """Write a name's colons, which are those outside of brackets and quotes, as dots, which Python can parse."""
    if ":" not in spec:
        return spec
    lines, depth = spec.splitlines(keepends=True), 0
    for token in tokenize.generate_tokens(io.StringIO(spec).readline):
        depth += (token.string in "([{") - (token.string in ")]}") if token.type == tokenize.OP else 0
        if token.string == ":" and depth == 0:
            line, column = token.start
            lines[line - 1] = f"{lines[line - 1][:column]}.{lines[line - 1][column + 1 :]}"
    return "".join(lines)


def _terms(body: ast.expr, spec: str, unnamed: bool) -> tuple[Term, ...]:
    terms: list[Term] = []
    while isinstance(body, ast.BinOp) and isinstance(body.op, ast.Add):
        terms.append(_term(body.right, spec, unnamed))
        body = body.left
    terms.append(_term(body, spec, unnamed))
    return tuple(reversed(terms))


def join(terms: tuple[Term, ...]) -> str:
    """Write terms as a spec."""
    return "+".join(map(str, terms))


def spread(specs: Iterable[str]) -> list[str]:
    """Write out specs in which hyperparameters have several values: `amp(kernel=2|3)+krum`.

    Of several such hyperparameters, every combination is meant. A text that is no spec stays as it is.

    Raises:
        SpecError: a spec stands for more than `MOST` others.
    """
    return list(dict.fromkeys(each for spec in specs for each in _spread(spec)))


def _spread(spec: str) -> list[str]:
    try:
        tree = ast.parse(spec.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [spec]
    open_ones = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and _is_choice(node.value)]
    open_ones.sort(key=lambda node: (node.lineno, node.col_offset))
    choices = [_choices(node.value) for node in open_ones]
    if math.prod(map(len, choices)) > MOST:
        raise SpecError(f"{spec!r} stands for {math.prod(map(len, choices))} specs; write one for at most {MOST}")
    if not choices:
        return [spec]
    found = []
    for values in itertools.product(*choices):
        for node, value in zip(open_ones, values, strict=True):
            node.value = value
        found.append(ast.unparse(tree))
    return found


def _is_choice(node: ast.expr) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)


def _choices(node: ast.expr) -> list[ast.expr]:
    """Return the values between bars, left to right."""
    found: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        found.append(node.right)
        node = node.left
    return [node, *reversed(found)]


def natural(spec: str) -> tuple[Any, ...]:
    """Return a key that sorts specs by name and then by hyperparameters, numbers by value: `m=2` before `m=10`.

    A text that is no spec sorts by its letters, among the names.
    """
    try:
        terms = parse(spec, unnamed=True)
    except SpecError:
        return ((spec, (), ()),)
    return tuple(
        (term.name, _ranks(term.values), tuple((name, _rank(term.arguments[name])) for name in sorted(term.arguments)))
        for term in terms
    )


def _rank(value: Any) -> tuple[Any, ...]:
    """Return a key that sorts any literals: numbers first, by value, and sequences by their entries."""
    if isinstance(value, (int, float)):
        return 0, value, written(value)
    if isinstance(value, (list, tuple)):
        return 2, _ranks(value), written(value)
    return 1, written(value)


def _ranks(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(map(_rank, values))


def _term(node: ast.expr, spec: str, unnamed: bool) -> Term:
    if not isinstance(node, ast.Call):
        return Term(_name(node, spec))
    name = _name(node.func, spec)
    values = [part.value for part in node.args if isinstance(part, ast.Constant) and type(part.value) in UNNAMED]
    if node.args and not (unnamed and len(values) == len(node.args)):
        raise SpecError(f"{spec!r}: hyperparameters are named; write {name}(name={ast.unparse(node.args[0])})")
    arguments: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in arguments:
            raise SpecError(_not_a_spec(spec))
        try:
            value = ast.literal_eval(keyword.value)
            if ast.literal_eval(written(value)) != value:
                raise ValueError("not what it is read back as")
            arguments[keyword.arg] = value
        except (ValueError, TypeError, SyntaxError) as error:
            raise IllTyped(name, keyword.arg, ast.unparse(keyword.value)) from error
    return Term(name, arguments, tuple(values))


def _name(node: ast.expr, spec: str) -> str:
    """Return a name as it was written, colons included."""
    parts, part = list[str](), node
    while isinstance(part, ast.Attribute):
        parts, part = [*parts, part.attr], part.value
    name = ast.get_source_segment(spec, node) or ""
    if not isinstance(part, ast.Name) or bool(parts) != (":" in name) or any(map(str.isspace, name)):
        raise SpecError(_not_a_spec(spec))
    return name if parts else part.id


class IllTyped(SpecError):
    """Refuse a hyperparameter whose value is not a literal."""

    def __init__(self, name: str, argument: str, value: str) -> None:
        super().__init__(f"{name}({argument}={value}): {value} is no number, True, False, None or quoted text")
        self.name = name
        self.argument = argument
        self.value = value


def _not_a_spec(spec: str) -> str:
    shown = spec if len(spec) <= 80 else f"{spec[:80]}..."
    return f"{shown!r} is not a spec; write a name, or for example 'amp(kernel=3)+krum'"


def as_given(value: Any) -> Any:
    """Return the value unchanged."""
    return value


@dataclass(frozen=True)
class Option:
    """One hyperparameter of a setting: its default, the wanted values in words, and the test for them.

    `tidy` writes equal values alike, such as names in any order.
    """

    default: Any
    wanted: str
    holds: Callable[[Any], bool]
    example: str = ""
    tidy: Callable[[Any], Any] = as_given

    def read(self, value: Any) -> Any:
        """Convert a whole number to a float if the option takes floats: 1 and 1.0 are the same setting."""
        return float(value) if type(value) is int and self.wanted.startswith("a number") else self.tidy(value)


def number(low: float, high: float = math.inf, closed: bool = False) -> Callable[[Any], bool]:
    """Return a function that accepts numbers between `low` and `high`; `closed` includes `low`."""

    def holds(value: Any) -> bool:
        number = type(value) is float or (type(value) is int and abs(value) < LARGEST)
        return number and (low < value < high or (closed and value == low))

    return holds
