"""Read specs such as `amp(kernel=3)+krum`: names joined by `+`, each with hyperparameters that are literals.

A spec is read as a Python expression by `ast` and never evaluated.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agrbench.errors import SpecError


@dataclass(frozen=True)
class Term:
    """One name of a spec with its hyperparameters."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.arguments:
            return self.name
        return f"{self.name}({','.join(f'{key}={value!r}' for key, value in sorted(self.arguments.items()))})"


def parse(spec: str) -> tuple[Term, ...]:
    """Split a spec into its terms, left to right.

    Raises:
        SpecError: the text is no spec; the message shows what was given and how one is written.
    """
    try:
        body = ast.parse(spec.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise SpecError(_not_a_spec(spec)) from error
    terms: list[Term] = []
    while isinstance(body, ast.BinOp) and isinstance(body.op, ast.Add):
        terms.append(_term(body.right, spec))
        body = body.left
    terms.append(_term(body, spec))
    return tuple(reversed(terms))


def join(terms: tuple[Term, ...]) -> str:
    """Write terms as a spec."""
    return "+".join(map(str, terms))


def _term(node: ast.expr, spec: str) -> Term:
    if isinstance(node, ast.Name):
        return Term(node.id)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise SpecError(_not_a_spec(spec))
    name = node.func.id
    if node.args:
        raise SpecError(f"{spec!r}: hyperparameters are named; write {name}(name={ast.unparse(node.args[0])})")
    arguments: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in arguments:
            raise SpecError(_not_a_spec(spec))
        try:
            arguments[keyword.arg] = ast.literal_eval(keyword.value)
        except ValueError as error:
            value = ast.unparse(keyword.value)
            raise IllTyped(name, keyword.arg, value) from error
    return Term(name, arguments)


class IllTyped(SpecError):
    """Refuse a hyperparameter whose value is no literal, or one of another type than the plugin's signature says."""

    def __init__(self, name: str, argument: str, value: str) -> None:
        super().__init__(f"{name}({argument}={value}): {value} is no number, True, False, None or quoted text")
        self.name = name
        self.argument = argument
        self.value = value


def _not_a_spec(spec: str) -> str:
    return f"{spec!r} is not a spec; write a name, or for example 'amp(kernel=3)+krum'"
