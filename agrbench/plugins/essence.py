"""What source text computes: everything but layout, comments, docstrings, claims and the harness's module paths.

Docstrings count if a file reads docstrings, and claims count if a file reads claims. Trees are walked with a list of
pending pieces instead of recursion, so an expression may be as deep as Python can parse.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import TypeGuard

from agrbench.plugins import contract
from agrbench.plugins.parsing import record_call

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
READS_DOCSTRINGS = frozenset({"__doc__", "__code__", "getdoc", "inspect", "pydoc", "help"})


def digest(tree: ast.Module, helpers: Sequence[tuple[str, ast.Module | bytes]] = ()) -> str:
    """Return the SHA-256 of what a file and the named files that it imports compute; bytes count as they are."""
    trees = [tree, *(each for _, each in helpers if isinstance(each, ast.Module))]
    documented = any(not READS_DOCSTRINGS.isdisjoint(_named(each)) for each in trees)
    claims = [] if any(map(_reads_claims, trees)) else [keyword for each in trees for keyword in _claims(each)]
    essence = _Essence(documented, frozenset(claims))
    text = essence.text(tree)
    if helpers:
        text = json.dumps([text, *([name, essence.of(content)] for name, content in helpers)])
    return hashlib.sha256(text.encode()).hexdigest()


class _Text(str):
    """A finished piece of JSON."""

    __slots__ = ()


class _Essence:
    """Write syntax trees as JSON lists that are the same on every version of Python."""

    def __init__(self, documented: bool, claims: frozenset[ast.keyword]) -> None:
        self.documented = documented
        self.claims = claims

    def of(self, content: ast.Module | bytes) -> str:
        """Write a helper: a tree as `text` does, any other file as the SHA-256 of its bytes."""
        return self.text(content) if isinstance(content, ast.Module) else hashlib.sha256(content).hexdigest()

    def text(self, tree: ast.Module) -> str:
        """Write one tree."""
        done: list[str] = []
        pending: list[object] = [tree]
        while pending:
            piece = pending.pop()
            if isinstance(piece, _Text):
                done.append(piece)
            else:
                pending += reversed(self._pieces(piece))
        return "".join(done)

    def _pieces(self, node: object) -> list[object]:
        if isinstance(node, list):
            return _listed([[each] for each in self._kept(node)])
        if isinstance(node, ast.AST):
            return _listed([[_quoted(type(node).__name__)], *self._fields(node)])
        return [_quoted(_literal(node))]

    def _kept(self, nodes: list[object]) -> list[object]:
        kept = [each for each in nodes if each not in self.claims and not is_harness(each)]
        names = sorted(ast.unparse(name) for each in nodes if is_harness(each) for name in each.names)
        return [_Text(json.dumps(["agrbench", names])), *kept] if names else kept

    def _fields(self, node: ast.AST) -> Iterator[list[object]]:
        for name, value in ast.iter_fields(node):
            if name == "body" and isinstance(node, DOCUMENTED) and not self.documented and _docstring(node):
                value = value[1:]
            if value is not None and not (isinstance(value, list) and not self._kept(value)):
                yield _listed([[_quoted(name)], [value]])


def is_harness(node: object) -> TypeGuard[ast.ImportFrom]:
    """Recognise `from agrbench... import names`: only the names count, because harness modules may move."""
    return isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "agrbench"


def _listed(items: list[list[object]]) -> list[object]:
    pieces: list[object] = [_Text("[")]
    for number, item in enumerate(items):
        pieces += [_Text(", "), *item] if number else item
    return [*pieces, _Text("]")]


def _quoted(text: str) -> _Text:
    return _Text(json.dumps(text))


def _literal(value: object) -> str:
    try:
        return repr(value)
    except ValueError:  # a whole number with more digits than Python writes
        return hex(value) if isinstance(value, int) else type(value).__name__


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return ast.get_docstring(node, clean=False) is not None


def _claims(tree: ast.Module) -> Iterator[ast.keyword]:
    """Return the claims in the calls that create the file's records, made by the harness's own classes."""
    imported = {alias.name for node in tree.body if is_harness(node) for alias in node.names if not alias.asname}
    for kind, record in contract.KINDS.items():
        call = record_call(tree, kind)
        if call is None or (isinstance(call.func, ast.Name) and imported.isdisjoint({record.__name__, "*"})):
            continue
        yield from (each for each in call.keywords if each.arg in contract.CLAIMS and not _assigns(each))


def _assigns(keyword: ast.keyword) -> bool:
    return any(isinstance(node, ast.NamedExpr) for node in ast.walk(keyword.value))


def _named(tree: ast.Module) -> Iterator[str]:
    """Return every name that a file mentions, also as text, such as "__doc__" in `getattr(f, "__doc__")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield from node.name.split(".")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _reads_claims(tree: ast.Module) -> bool:
    """Return whether a file reads a record or a claim, as in `defense.bound` and `getattr(record, "bound")`."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Load):
            if (node.attr in contract.CLAIMS) if isinstance(node, ast.Attribute) else (node.id in contract.KINDS):
                return True
        elif isinstance(node, ast.Constant) and node.value in contract.CLAIMS:
            return True
    return False
