"""Plugin files for tests to load."""

from pathlib import Path
from textwrap import dedent

from tests.helpers import planted

DEFENSE = '''"""A rule under test."""
import torch
from agrbench.plugins import Defense

'''
RULE = """
import torch
from agrbench.plugins import Defense

def rule(round, *, power: float = 1.0, count: int | None = None):
    return torch.full((len(round.view),), power)

defense = Defense(rule)
"""
ATTACK = '''"""An attack under test."""
import os
from agrbench.plugins import Attack

'''


def write(folder: Path, name: str, text: str) -> Path:
    """Write a plugin file; its text may be indented like the test that holds it."""
    path = folder / f"{name}.py"
    path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
    return path


def defense(folder: Path, name: str, body: str) -> Path:
    """Write a plugin file that imports torch and `Defense` and then says `body`."""
    return write(folder, name, f"{DEFENSE}{dedent(body).strip()}\n")


def rule(folder: Path, name: str, body: str) -> Path:
    """Write a plugin file that defines `weigh` as `body` does, and makes a defense of it without an amplified form."""
    return defense(folder, name, f"{dedent(body)}\n\ndefense = Defense(weigh, amplifier=None)")


def attack(folder: Path, name: str, body: str) -> Path:
    """Write a plugin file that imports `Attack` and then says `body`."""
    return write(folder, name, f"{ATTACK}{dedent(body).strip()}\n")


def faulty(name: str, folder: Path) -> str:
    """Write one of the planted faults."""
    return str(write(folder, name, planted.source(name)))
