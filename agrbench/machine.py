"""The machine that something runs on: its name and versions, how busy it is, and the memory that a process takes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import time
from collections.abc import Callable
from functools import cache
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


def cores() -> int:
    """Count the cores that this process may use."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def cpu() -> str:
    """Name the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def use_large_pages() -> None:
    """Let torch, which must not be loaded yet, ask for large pages where the system has them.

    Tensors above 32 MiB are given back to the system when they are freed, and a fresh one costs its time page by page.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


@cache
def keep_freed() -> None:
    """Map 31 MiB and free them unread: from then on glibc keeps what it mapped for smaller blocks when they are freed.

    Otherwise every thread returns its blocks to the system, and takes them again page by page.
    """
    import torch

    torch.empty(31 << 20, dtype=torch.uint8)


def reset_peak() -> bool:
    """Forget the peak of what was computed before, and say whether the system lets us."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak() -> int:
    """Give the peak resident memory in bytes since the last reset."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
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
