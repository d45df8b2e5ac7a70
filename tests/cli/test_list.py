"""`agrbench list`: every plugin, and what `--long` says of each, read from its source text."""

from __future__ import annotations

from pathlib import Path

import pytest

from agrbench.cli import list as listing
from agrbench.plugins.registry import Registry
from agrbench.plugins.source import PluginSource
from tests.helpers.commands import agrbench
from tests.helpers.project import ROOT

REGISTRY = Registry()
RULES = [REGISTRY.entry(kind, name) for kind in ("defense", "stage") for name in REGISTRY.names(kind)]
CONTROLS = {"sample", "mean_pool"}  # stages of ours, without a paper


def entry(tmp_path: Path, body: str, kind: str = "defense") -> PluginSource:
    path = tmp_path / "mine.py"
    path.write_text(body)
    return PluginSource(kind, "mine", path)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_names_its_paper_formula_requirement_and_amplified_form(rule: PluginSource) -> None:
    text = listing.full(rule)
    assert rule.name in CONTROLS or listing.paper(rule)
    assert listing.formula(rule).endswith(".")
    assert "  requires " in text
    if rule.kind == "defense":
        assert "  family " in text
        assert "  amplified  judges " in text or "  amplified  no: " in text
        assert "it has no amplified form" not in text, "say why"


@pytest.mark.parametrize("name", REGISTRY.names("attack"))
def test_every_attack_states_its_knowledge_space_sign_and_goal(name: str) -> None:
    entry = REGISTRY.entry("attack", name)
    text = listing.full(entry)
    for word in ("knowledge", "space", "sign", "goal", "formula"):
        assert f"      {word} " in text
    assert name == "none" or listing.paper(entry)
    assert not {"Knowledge", "Space:", "Sign:", "Goal:"} & set(listing.formula(entry).split())
    assert listing.stated(entry, "Space") in ("data", "updates", "data and updates", "local models")


BODY = '''"""Mine: trust some (Ours, 2026)."""
def weigh(round, *, share=0.5):
    """Keep a share: `(rows,)`.

    More of it. Variants: `share=1` is theirs;
    `share=0` nobody's.

    The end.
    """

defense = Defense(weigh, "own", requires=lambda n, f: f < n, amplifier=None, waives={"amplified": "why", "moves": "no"})
'''


def test_facts_are_read_from_the_source_whether_fields_are_named_or_not(tmp_path: Path) -> None:
    assert listing.full(entry(tmp_path, BODY)).splitlines() == [
        "  mine(share=0.5)",
        "      Mine: trust some (Ours, 2026).",
        "      paper      Ours, 2026",
        "      formula    Keep a share. More of it. The end.",
        "      variants   `share=1` is theirs; `share=0` nobody's.",
        "      family     own",
        "      requires   f < n",
        "      amplified  no: why",
        "      waives     moves: no",
    ]


def test_what_a_source_does_not_say_is_left_out(tmp_path: Path) -> None:
    bare = entry(tmp_path, '"""Mine."""\ndefense = Defense(lambda round: 1)\n')
    assert listing.full(bare).splitlines() == [
        "  mine",
        "      Mine.",
        "      family     other",
        "      requires   nothing",
        "      amplified  judges pooled updates",
    ]


def test_record_that_is_made_elsewhere_is_listed_by_its_first_line(tmp_path: Path) -> None:
    assert listing.full(entry(tmp_path, '"""Mine."""\ndefense = make()\n')).startswith("  mine\n      Mine.")


def test_waivers_that_are_no_literal_are_left_out(tmp_path: Path) -> None:
    body = '"""Mine."""\nWHY = {}\ndefense = Defense(lambda round: 1, waives=WHY)\n'
    assert "waives" not in listing.full(entry(tmp_path, body))


def test_list_names_every_plugin_file(tmp_path: Path) -> None:
    shown = agrbench("list", cwd=tmp_path).stdout
    for path in [*ROOT.glob("attacks/[!_]*.py"), *ROOT.glob("defenses/[!_]*.py"), *ROOT.glob("datasets/[!_]*.py")]:
        assert f"\n  {path.stem}" in shown
