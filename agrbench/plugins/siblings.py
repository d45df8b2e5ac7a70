"""Which files of its own a plugin imports: those in its folder or package, which count in its digest.

Standard modules, installed packages and the harness do not count, but shipped plugins do: a plugin may build on one.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from agrbench.data.files import is_file
from agrbench.errors import PluginError
from agrbench.plugins.parsing import parse

SUFFIXES = tuple(importlib.machinery.all_suffixes())
SHIPPED = ("attacks", "defenses", "datasets")
LONGEST = 200  # characters in the name of a module that is looked for
INSTALLED = ("site-packages", "dist-packages")
NEVER = sys.stdlib_module_names | {"agrbench", "click", "numpy", "pooch", "rich", "scipy", "sklearn", "torch"}
"""Modules that a file in a plugin's folder never replaces."""


@dataclass(frozen=True)
class Import:
    """One imported module: the number of leading dots, its name, and the names taken from it."""

    level: int
    module: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Home:
    """A folder in which absolute imports find a plugin's own files: all modules in it, or those of one package."""

    folder: Path
    package: str = ""

    def holds(self, module: str) -> bool:
        """Return whether a module may be one of the plugin's own files."""
        top = module.partition(".")[0]
        return top == self.package if self.package else top not in NEVER


def homes(path: Path, module: str | None) -> list[Home]:
    """Return where a plugin's own files are; shipped plugins have none, and neither has a module among installed ones.

    `module` is the import name of an installed plugin, `None` for a file that the user named.
    """
    if module is None:
        top = path
        while top.parent != top and is_file(top.parent / "__init__.py"):
            top = top.parent
        return [Home(path.parent), *([Home(top.parent, top.name)] if top != path else [])]
    parts = module.split(".")
    if parts[0] == "agrbench":
        return []
    folder = path.parents[len(parts) if path.stem == "__init__" else len(parts) - 1]
    if len(parts) > 1 or path.stem == "__init__":
        return [Home(folder, parts[0])]
    return [] if folder.name in INSTALLED else [Home(folder)]


def own_files(path: Path, module: str | None = None) -> list[Path]:
    """List the files of its own that a plugin imports, directly or through others, each once and without the plugin."""
    where, found, pending = homes(path, module), {path: None}, [path]
    while pending:
        importer = pending.pop()
        if importer != path and importer.suffix != ".py":
            continue
        for each in _imports(importer, content(importer)):
            new = [file for file in _files(each, importer, where) if file not in found]
            found.update(dict.fromkeys(new))
            pending += new
    return list(found)[1:]


def contents(path: Path, module: str | None = None) -> tuple[tuple[Path, bytes], ...]:
    """Return a plugin's file and its own files with their contents, empty for a file that cannot be read."""
    return tuple((file, content(file)) for file in (path, *own_files(path, module)))


def content(path: Path) -> bytes:
    """Return a file's bytes; none for a file that cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def locate(folder: Path, name: str) -> Path | None:
    """Return the file of a module or of a package in a folder, or the folder of a package without `__init__`."""
    if len(name) > LONGEST or "/" in name:
        return None
    package = folder / name
    for stem in (package / "__init__", package):
        for suffix in SUFFIXES:
            if is_file(file := stem.with_name(stem.name + suffix)):
                return file
    return package if package.is_dir() else None


def run_by(folder: Path, each: Import) -> list[Path]:
    """List the files under a folder that an import runs: packages, the module and modules among the names."""
    found: list[Path] = []
    for part in filter(None, each.module.split(".")):
        here = locate(folder, part)
        if here is None:
            return found
        found += [here] if is_file(here) else []
        folder = folder / part
    return found + [file for name in each.names if (file := locate(folder, name)) is not None and is_file(file)]


def imports(tree: ast.AST) -> Iterator[Import]:
    """List what a file imports, anywhere in it; `import_module` counts if its argument is a literal."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.level, node.module or "", tuple(alias.name for alias in node.names))
        elif isinstance(node, ast.Call) and (name := by_function(node)):
            bare = name.lstrip(".")
            yield Import(len(name) - len(bare), bare)


def by_function(call: ast.Call) -> str:
    """Return the module that a call of `import_module` names literally; empty for any other call."""
    called = call.func
    name = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
    argument = call.args[0] if call.args else None
    literal = argument.value if isinstance(argument, ast.Constant) else None
    return literal if name == "import_module" and isinstance(literal, str) else ""


def _files(each: Import, importer: Path, where: list[Home]) -> list[Path]:
    if each.level:
        return _relative(each, importer.parents[min(each.level, len(importer.parents)) - 1], where)
    package, _, inner = each.module.removeprefix("agrbench.").partition(".")
    if each.module.startswith("agrbench.") and package in SHIPPED:
        return run_by(shipped(package), Import(0, inner, each.names))
    for place in where:
        if place.holds(each.module) and (found := run_by(place.folder, each)):
            return found
    return []


def _relative(each: Import, folder: Path, where: list[Home]) -> list[Path]:
    for place in reversed(where):
        if folder.is_relative_to(place.folder):
            inside = folder.relative_to(place.folder).parts
            return run_by(place.folder, Import(0, ".".join([*inside, each.module]), each.names))
    return []


@cache
def shipped(package: str) -> Path:
    """Return the folder of the shipped attacks, defenses or datasets."""
    spec = importlib.util.find_spec(f"agrbench.{package}")
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


@cache
def _imports(path: Path, content: bytes) -> tuple[Import, ...]:
    """Read a file's imports; it is parsed again only if its content changed."""
    try:
        return tuple(imports(parse(path)))
    except PluginError:
        return ()
