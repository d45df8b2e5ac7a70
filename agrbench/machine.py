"""The machine that something ran on."""

from __future__ import annotations

import contextlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any


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


def cpu() -> str:
    """Name the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
