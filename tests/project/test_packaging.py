"""What the wheel contains: every package, and the files that packages read."""

import re
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


def needed() -> list[str]:
    """Return what the package and its extras depend on, without the extras that another one includes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    return [each for each in (*project["dependencies"], *extras) if not each.startswith("agrbench[")]


def test_every_dependency_has_a_lower_bound_and_no_upper_one() -> None:
    """`make lowest` tests the lower bounds; an upper one would keep agrbench out of others' environments."""
    assert [each for each in needed() if not re.fullmatch(r"[a-z-]+(\[python\])?>=[0-9.]+", each)] == []


def test_every_dependency_is_pinned_for_those_who_install_by_make() -> None:
    pinned = re.findall(r"^([a-z_-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert {re.split(r"\[|>=", each)[0] for each in needed()} <= {name.replace("_", "-") for name in pinned}
