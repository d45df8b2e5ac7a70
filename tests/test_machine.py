"""Memory: a thousand rounds take no more than a hundred, and what is freed is kept for the next round."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agrbench import machine
from agrbench.cells import Cell
from agrbench.plugins.registry import Registry
from agrbench.simulation.run import Run

FAULTS = """
import resource, sys
from agrbench import machine
if sys.argv[1] == "large":
    machine.use_large_pages()
import torch
torch.ones(25_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(25_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
LARGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def held() -> tuple[int, int]:
    """Count the tensors alive, and the bytes of their storages, each once."""
    gc.collect()
    tensors = (each for each in gc.get_objects() if type(each) is torch.Tensor)
    alive = [each for each in tensors if each.layout == torch.strided]  # a sparse one, of another test, has no storage
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in alive}
    return len(alive), sum(storages.values())


@pytest.mark.parametrize(
    ("defense", "attack", "schedule"),
    [
        ("amp+fldetector", "mimic", "sgd"),
        ("foolsgold", "scaling", "adam"),
        ("amp+fang", "min_max", "sgd(momentum=0.9)"),
    ],
)
def test_a_thousand_rounds_hold_no_more_than_a_hundred(defense: str, attack: str, schedule: str) -> None:
    settings = {"clients": 5, "malicious": 1, "rounds": 1100, "start": 10, "model": "mlp(8)", "schedule": schedule}
    run = Run(Cell("digits", defense, attack, **settings), Registry())  # type: ignore[arg-type]
    run.play(100)
    tensors = held()
    machine.reset_peak()
    before = machine.peak()
    run.play(1100)
    assert held() == tensors
    # the curves' own numbers, and the interpreter's: 1,000 copies of the updates would be 120 MB
    assert machine.peak() - before < 16e6


def test_large_pages_are_faulted_in_by_the_hundred_where_the_system_has_them() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("large", "small")
    }
    if LARGE.exists() and "[madvise]" in LARGE.read_text():
        # 100 MB are 24,414 pages of 4 KiB, or 48 of 2 MiB and what lies before and after them
        assert faults["large"] < 1000 < 20_000 < faults["small"]
    else:
        assert faults["large"] <= faults["small"]


def test_importing_what_workers_run_does_not_load_torch() -> None:
    code = "import sys; import agrbench.simulation.execution; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
