"""`agrbench list`: describe plugins from their source text, in two lines each or in full."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any, cast

import click

from agrbench.cli.options import plugin_option
from agrbench.plugins.source import PluginSource

WIDTH = 112
CUT = "Any dataset can be cut: mnist(rows=2000) keeps 2,000 of the training examples, the same ones every time."
VARIANTS = r"\bVariants?: (.*?)(?:\n\n|\Z)"
STATED = ("Knowledge", "Space", "Sign", "Goal")  # stated about an attack, in this order, in one paragraph
STATEMENT = r"\b{}:\s(.*?)\.(?=\s(?:Space|Sign|Goal):|\n\n|\Z)"
AMPLIFIED = {"pooled": "judges pooled updates", "restored": "judges restored updates"}


def short(entry: PluginSource) -> str:
    """Write a plugin's signature and first line."""
    return f"  {entry.signature}\n      {entry.summary}"


def full(entry: PluginSource) -> str:
    """Write a plugin's signature, its first line, and whatever else its source states, one fact per paragraph."""
    lines = [short(entry)]
    for name, value in _facts(entry):
        text = " ".join(value.split())
        lines.append(textwrap.fill(text, WIDTH, initial_indent=f"      {name:<10} ", subsequent_indent=" " * 17))
    return "\n".join(lines)


def paper(entry: PluginSource) -> str:
    """Return the citation in brackets that ends the first line; empty if there is none."""
    found = re.search(r"\(([^()]*\b\d{4}\b[^()]*)\)\.?$", entry.summary)
    return found.group(1) if found else ""


def variants(entry: PluginSource) -> str:
    """Return what the explanation says about variants, up to the end of that paragraph."""
    found = re.search(VARIANTS, entry.explanation, re.DOTALL)
    return found.group(1) if found else ""


def stated(entry: PluginSource, word: str) -> str:
    """Return what an attack's explanation says after a word such as `Knowledge:`; empty if the word is missing."""
    found = re.search(STATEMENT.format(word), entry.explanation, re.DOTALL)
    return found.group(1) if found else ""


def formula(entry: PluginSource) -> str:
    """Return the explanation without the parts listed separately and the shape that ends its first sentence."""
    text = re.sub(VARIANTS, "", entry.explanation, flags=re.DOTALL)
    for word in STATED:
        text = re.sub(STATEMENT.format(word), "", text, flags=re.DOTALL)
    words = " ".join(text.split())
    return re.sub(r": `\([a-z, ]*\)`\.", ".", words, count=1)


def _facts(entry: PluginSource) -> Iterator[tuple[str, str]]:
    for name, read in (("paper", paper), ("formula", formula), ("variants", variants)):
        if read(entry):
            yield name, read(entry)
    for word in STATED:
        if entry.kind == "attack" and stated(entry, word):
            yield word.lower(), stated(entry, word)
    if entry.kind not in ("defense", "stage"):
        return
    waives = cast(dict[str, Any], entry.literal("waives", {}))
    if entry.kind == "defense":
        yield "family", str(entry.literal("family", "other"))
    yield "requires", entry.requirement
    if entry.kind == "defense":
        form = entry.literal("amplifier", "pooled")
        yield "amplified", AMPLIFIED.get(str(form)) or f"no: {waives.get('amplified', 'it has no amplified form')}"
    for name, reason in waives.items():
        if name != "amplified":
            yield "waives", f"{name}: {reason}"


@click.command("list")
@click.argument("kind", type=click.Choice(["attacks", "defenses", "stages", "datasets", "suites"]), required=False)
@click.option("--long", "in_full", is_flag=True, help="Name papers, formulas, variants and requirements.")
@plugin_option
def list_plugins(kind: str | None, in_full: bool, plugins: tuple[str, ...]) -> None:
    """List attacks, defenses, stages, datasets and suites, with their hyperparameters."""
    from agrbench.plugins.registry import Registry
    from agrbench.simulation import suites

    registry = Registry(plugins)
    for each in ("attacks", "defenses", "stages", "datasets"):
        if kind not in (None, each):
            continue
        entries = [registry.entry(each.removesuffix("s"), name) for name in registry.names(each.removesuffix("s"))]
        click.echo(f"{each}:")
        for entry in entries:
            click.echo(full(entry) if in_full else short(entry))
        if each == "datasets":
            click.echo(f"  {CUT}")
    if kind in (None, "suites"):
        click.echo("suites:")
        for name in suites.shipped():
            click.echo(f"  {name}\n      {suites.read(name).title}")
