"""The memory that this process takes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path


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
