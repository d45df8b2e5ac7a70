"""The machine that something ran on."""

from __future__ import annotations

import contextlib
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

BUSY, MOMENT = 0.15, 0.5  # share of the processor from which on others disturb; seconds


def environment(device: str, threads: int) -> dict[str, Any]:
    """Name the versions, the processor and the device that a result depends on."""
    import torch

    return {
        "agrbench": version("agrbench"),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "python": platform.python_version(),
        "cpu": cpu(),
        "threads": threads,
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
    }


def noise() -> str | None:
    """Watch for a moment, doing nothing, and say how busy others keep the processor; `None`: not, or nobody knows."""
    try:
        before = _ticks()
        time.sleep(MOMENT)
        idle, total = (now - then for now, then in zip(_ticks(), before, strict=True))
    except OSError:
        return None
    busy = 1 - idle / max(total, 1)
    if busy <= BUSY:
        return None
    return (
        f"Other processes kept the processor {100 * busy:.0f} % busy when this began: times, and ratios too, are noisy."
    )


def _ticks() -> tuple[int, int]:
    """Count the time that the processor did nothing, and all, in ticks."""
    counts = [int(count) for count in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return counts[3] + counts[4], sum(counts)


def cpu() -> str:
    """Name the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
