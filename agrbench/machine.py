"""The machine that something ran on, and how much memory it took."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


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


def reset_peak() -> bool:
    """Forget the process's peak of resident memory, and say whether the system lets us."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True


def peak() -> int:
    """Give the process's peak of resident memory in bytes since the last reset."""
    with contextlib.suppress(OSError):
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def growth(work: Callable[[], object], device: str = "cpu") -> int | None:
    """Do some work; give the bytes by which memory in use grew at the highest, or `None` where nothing can tell.

    On CUDA it is what torch's allocator handed out. Elsewhere it is resident memory, after what the process had freed
    and kept went back to the system; the kernel counts it to about a MiB.
    """
    gc.collect()
    if device.startswith("cuda"):
        return _cuda_growth(work, device)
    _give_back()
    if not reset_peak():
        return None
    before = peak()
    work()
    return max(peak() - before, 0)


def _cuda_growth(work: Callable[[], object], device: str) -> int:
    import torch

    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return max(torch.cuda.max_memory_allocated(device) - before, 0)


def _give_back() -> None:
    """Return freed memory to the system: what is still resident would hide that it is taken again."""
    with contextlib.suppress(AttributeError, OSError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
