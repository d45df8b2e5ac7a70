"""The memory that this process takes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import platform
from collections.abc import Callable
from pathlib import Path

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's mallopt(3)
KEPT = 1 << 30  # bytes


def keep_blocks() -> None:
    """Let this process keep what it frees, since the next round asks for it again; where malloc is glibc's.

    Otherwise blocks above 32 MiB go back to the system every round, and come again page by page, zeroed.
    """
    with contextlib.suppress(OSError, TypeError, AttributeError):
        malloc = ctypes.CDLL(None)
        malloc.mallopt(MMAP_THRESHOLD, KEPT)
        malloc.mallopt(TRIM_THRESHOLD, KEPT)


def reset_peak() -> bool:
    """Give back what is free, forget the peak of what was computed before, and say whether the system lets us."""
    _give_back()
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
