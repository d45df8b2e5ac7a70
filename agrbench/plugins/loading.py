"""Load a plugin: an installed one by its import name, a user's file with the modules beside it as its own.

The folder of a user's file becomes a package with a unique name, and `import helpers` in the file imports
`agrbench_plugin_NAME_HASH.helpers`. So `sys.path` stays as it is, and two plugins' `helpers` are two modules.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from agrbench.plugins import moved, siblings
from agrbench.plugins.siblings import Import

PREFIX = "agrbench_plugin"


def load(name: str, path: Path, module: str | None) -> ModuleType:
    """Import a plugin's module; a user's file runs again at each call, with the modules beside it."""
    moved.forward()
    if module is not None:
        return importlib.import_module(module)
    _forward()
    content = hashlib.sha256(repr(siblings.contents(path)).encode()).hexdigest()
    package = f"{PREFIX}_{name}_{content[:16]}"
    _forget(package)
    sys.modules[package] = module_from_spec(_package(package, path.parent, path))
    try:
        return importlib.import_module(f"{package}.{path.stem}")
    except BaseException:
        _forget(package)
        raise


class PluginLoader(SourceFileLoader):
    """Compile a user's file from its text, never from a cache, with imports of the files beside it under its name."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the file's code."""
        path = Path(self.path)
        source = path.read_bytes()
        tree = ast.parse(source, str(path))
        renaming = Renaming(fullname.partition(".")[0], path)
        changed = any(renaming.concerns(each) for each in siblings.imports(tree))
        return compile(renaming.apply(tree) if changed else source, str(path), "exec", dont_inherit=True)


class PluginFinder(MetaPathFinder):
    """Find the modules beside a user's file under the file's unique name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for a module beside a user's file, `None` for any other."""
        if not fullname.startswith(f"{PREFIX}_") or not path:
            return None
        above, _, name = fullname.rpartition(".")
        plugin = _plugin(above)
        own = plugin is not None and plugin.stem == name
        file = plugin if own else siblings.locate(Path(path[0]), name)
        if file is None or file.is_dir():
            return None if file is None else _package(fullname, file)
        folders = [str(file.parent)] if file.stem.partition(".")[0] == "__init__" and not own else None
        loader = PluginLoader(fullname, str(file)) if own or file.suffix == ".py" else None
        return spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=folders)


class Renaming:
    """Put the plugin's unique package before the names of imported modules that are files beside the plugin."""

    def __init__(self, package: str, importer: Path) -> None:
        plugin = _plugin(package)
        assert plugin is not None
        self.package = package
        self.home = siblings.Home(plugin.parent)
        self.importer = importer

    def concerns(self, each: Import) -> bool:
        """Return whether an import gets a new name."""
        return not each.level and self.new(each) != each.module

    def apply(self, tree: ast.Module) -> ast.Module:
        """Rename imports in place; a literal argument of `import_module` counts as one."""
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                node.module = self.new(Import(0, node.module, tuple(alias.name for alias in node.names)))
            elif isinstance(node, ast.Call) and (name := siblings.by_function(node)) and name[0] != ".":
                node.args[0] = ast.copy_location(ast.Constant(self.new(Import(0, name))), node.args[0])
            for _, value in ast.iter_fields(node):
                if isinstance(value, list) and any(isinstance(each, ast.Import) for each in value):
                    value[:] = [new for each in value for new in self._statements(each)]
        return ast.fix_missing_locations(tree)

    def new(self, each: Import, module: str = "") -> str:
        """Return the new name of a module, by default of the one imported; its own if it is not beside the plugin."""
        files = siblings.run_by(self.home.folder, each) if self.home.holds(each.module) else []
        beside = files and files != [self.importer]  # a file that imports its own name means a module elsewhere
        return f"{self.package}.{module or each.module}" if beside else module or each.module

    def _statements(self, node: ast.AST) -> Iterator[ast.AST]:
        if isinstance(node, ast.Import):
            aliases = [new for alias in node.names for new in self._aliases(alias)]
            yield from (ast.copy_location(ast.Import([alias]), node) for alias in aliases)
        else:
            yield node

    def _aliases(self, alias: ast.alias) -> list[ast.alias]:
        """Write `import a.b` as two imports: the first imports `a.b`, the second binds `a`."""
        each, top = Import(0, alias.name), alias.name.partition(".")[0]
        new = self.new(each)
        if new == alias.name:
            return [alias]
        if alias.asname:
            return [ast.alias(new, alias.asname)]
        return [ast.alias(new, top), ast.alias(self.new(each, top), top)]


def _plugin(package: str) -> Path | None:
    """Return the plugin file for which a package was made; `None` for any other package."""
    spec = getattr(sys.modules.get(package), "__spec__", None)
    return Path(spec.origin) if spec is not None and "." not in package else None


def _package(name: str, folder: Path, plugin: Path | None = None) -> ModuleSpec:
    spec = ModuleSpec(name, None, origin=str(plugin) if plugin else None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    return spec


def _forward() -> None:
    if not any(isinstance(finder, PluginFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, PluginFinder())


def _forget(package: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]
