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
