"""Where modules of agrbench 0.1.0 have moved: imports in plugin files written for it still work."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

HOMES: Mapping[str, tuple[str, ...]] = {
    "agrbench.amplifiers": ("agrbench.server.amplifier", "agrbench.server.pooling"),
    "agrbench.cifar": ("agrbench.data.cifar",),
    "agrbench.clusters": ("agrbench.server.history",),
    "agrbench.coefficients": ("agrbench.server.weighted_means",),
    "agrbench.data": ("agrbench.data.files",),
    "agrbench.features": ("agrbench.clients.pretrained",),
    "agrbench.federation": ("agrbench.data.examples", "agrbench.clients.insider", "agrbench.clients.federation"),
    "agrbench.geometry": ("agrbench.server.geometry",),
    "agrbench.histories": ("agrbench.server.history",),
    "agrbench.models": ("agrbench.clients.models",),
    "agrbench.perturbations": ("agrbench.clients.perturbations",),
    "agrbench.poisoning": ("agrbench.clients.poisoning",),
    "agrbench.quasinewton": ("agrbench.server.history",),
    "agrbench.reading": ("agrbench.data.bits", "agrbench.data.examples"),
    "agrbench.rounds": ("agrbench.server.rounds", "agrbench.clients.insider", "agrbench.plugins"),
    "agrbench.selection": ("agrbench.server.scores", "agrbench.server.ranks"),
    "agrbench.subsets": ("agrbench.server.subsets",),
}
"""For each module of 0.1.0, the modules that hold its names now; earlier ones take precedence."""


RENAMED: Mapping[str, Mapping[str, str]] = {"agrbench.coefficients": {"spread": "principal", "Spread": "Principal"}}
"""For a module of 0.1.0, names that have changed as well: the old one and the present one."""


class Moved(MetaPathFinder, Loader):
    """Import hook that stands in for removed modules of 0.1.0 and takes their names from where they are now."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for a module that has moved, `None` for any other."""
        return ModuleSpec(fullname, self) if fullname in HOMES else None

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module with the names of its new homes."""
        for home in reversed(HOMES[module.__name__]):
            module.__dict__.update(vars(importlib.import_module(home)) | {"__name__": module.__name__})
        for old, new in RENAMED.get(module.__name__, {}).items():
            setattr(module, old, getattr(module, new))


def forward() -> None:
    """Make imports of moved modules succeed from now on; modules that exist are found first."""
    if not any(isinstance(finder, Moved) for finder in sys.meta_path):
        sys.meta_path.append(Moved())
