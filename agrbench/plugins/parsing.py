"""Read a plugin file as a syntax tree, without running it."""

from __future__ import annotations

import ast
from pathlib import Path

from agrbench.errors import PluginError
from agrbench.plugins import contract


def parse(path: Path) -> ast.Module:
    """Parse a plugin file as Python, without running it.

    Raises:
        PluginError: the file cannot be read, has a syntax error or is nested too deeply.
    """
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except OSError as error:
        raise PluginError(
            f"{path}: the plugin file cannot be read ({error.strerror}); give the path of a .py file"
        ) from error
    except (RecursionError, MemoryError) as error:
        raise PluginError(
            f"{path}: an expression in it is nested too deeply for Python; split it into several statements"
        ) from error
    except (SyntaxError, ValueError) as error:
        line = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
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


def record_call(tree: ast.Module, kind: str) -> ast.Call | None:
    """Return the call that creates the record of a kind, if the module assigns one, such as `Defense(...)`."""
    value, made_by = exports(tree).get(kind), contract.KINDS[kind].__name__
    if not isinstance(value, ast.Call):
        return None
    called = value.func
    name = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
    return value if name == made_by else None


def written(node: ast.expr) -> str:
    """Write an expression as Python does; `...` stands for one that is nested too deeply."""
    try:
        return ast.unparse(node)
    except RecursionError:
        return "..."
