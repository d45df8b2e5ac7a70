"""What the wheel contains: every package, and the files that packages read."""

import tomllib

from tests.helpers.project import ROOT

PLUGINS = {"agrbench.attacks": "attacks", "agrbench.defenses": "defenses", "agrbench.datasets": "datasets"}


def test_every_package_is_named_for_the_wheel() -> None:
    """A folder of the package that setuptools is not told of is missing from the wheel, and from nothing else."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = (path.parent.relative_to(ROOT) for path in (ROOT / "agrbench").rglob("__init__.py"))
    assert sorted(told["packages"]) == sorted([*(".".join(folder.parts) for folder in folders), *PLUGINS])
    assert told["package-dir"] == {"agrbench": "agrbench", **PLUGINS}
    assert told["package-data"]["agrbench.results.paper"] == ["*.csv"]
