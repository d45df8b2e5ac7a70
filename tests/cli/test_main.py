"""The command line as a whole: every command explains itself, and help loads no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.helpers.commands import agrbench


def test_help_and_list_import_no_torch() -> None:
    for words in (["--help"], ["list"], ["grid", "--help"], ["grid", "-d", "kurm"], ["grid", "-d", "krum(x=1)"]):
        code = (
            "import sys; from agrbench.cli import main\n"
            f"try: main({words!r})\nexcept SystemExit: pass\n"
            "sys.exit('torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, words


def test_every_command_explains_itself(tmp_path: Path) -> None:
    for words in ([], ["grid"], ["table"], ["show"], ["list"], ["data"], ["data", "list"], ["data", "get"]):
        assert "Usage:" in agrbench(*words, "--help", cwd=tmp_path).stdout


def test_the_command_line_is_a_module_too() -> None:
    done = subprocess.run([sys.executable, "-m", "agrbench", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("agrbench ")


def test_options_are_made_with_a_click_whose_types_take_no_parameter() -> None:
    """As in click 8.1 to 8.3."""
    code = (
        "import click\n"
        "def refuse(kind, item): raise TypeError(\"type 'ParamType' is not subscriptable\")\n"
        "click.ParamType.__class_getitem__ = classmethod(refuse)\n"
        "from agrbench.cli import options\n"
        "print(options.Amount().convert('0.3', None, None), options.Numbers().convert('5,2', None, None))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0.3 (2, 5)\n"
