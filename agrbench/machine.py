"""The machine that a process runs on: its hardware and versions, how busy it is, and the memory that is used."""

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

from agrbench.errors import AgrbenchError

LEAST = 10**9  # bytes of address space
BUSY, MOMENT = 0.15, 0.5  # share of the processor above which others disturb timing; seconds


def environment(device: str, threads: int) -> dict[str, Any]:
    """Return the versions, processor, threads and device that a result depends on.

    `cpu_capability` is the instruction set that torch uses, which decides how sums round. The variables that change it,
    or that of MKL, are told if they are set.
    """
    import torch

    chosen = {name: os.environ[name] for name in ("ATEN_CPU_CAPABILITY", "MKL_CBWR") if name in os.environ}
    return {
        "agrbench": _version("agrbench"),
        "torch": torch.__version__,
        "numpy": _version("numpy"),
        "python": platform.python_version(),
        "cpu": cpu(),
        "threads": threads,
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        **chosen,
    }


@cache
def _version(package: str) -> str:
    return version(package)


def check_address_space() -> None:
    """Refuse to start with so little address space that libraries, which retry for ever, would hang.

    Raises:
        AgrbenchError: the limit is below what importing them takes; the message says how to raise it.
    """
    try:
        import resource
    except ImportError:  # not on Windows
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST:
        raise AgrbenchError(
            f"this process may map {limit / 1e9:.1f} GB of memory, and the libraries that it imports take "
            f"{LEAST / 1e9:.0f} GB; write `ulimit -v unlimited`, or ask for more memory"
        )


def noise() -> str | None:
    """Watch the processor for a moment; return a warning if others keep it busy, `None` if not or if unknown."""
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
    """Return the processor's idle time and total time, in ticks."""
    counts = [int(count) for count in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return counts[3] + counts[4], sum(counts)


def age() -> float:
    """Return for how many seconds this process has run, 0 where /proc does not tell."""
    try:
        began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began
    except (OSError, AttributeError):
        return 0.0


def cores() -> int:
    """Count the cores that this process may use."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@cache
def cpu() -> str:
    """Name the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def use_large_pages() -> None:
    """Let torch, which must not be loaded yet, use large pages if the system has them.

    A tensor above 32 MiB returns to the system when it is freed, so a fresh one costs time for each of its pages.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


@cache
def keep_freed() -> None:
    """Map 31 MiB and free them untouched: from then on glibc keeps the memory of smaller blocks when they are freed.

    Otherwise every thread returns its freed blocks to the system and maps them again page by page.
    """
    import torch

    torch.empty(31 << 20, dtype=torch.uint8)


def reset_peak() -> bool:
    """Reset the process's peak memory; return whether the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak() -> int:
    """Return the peak resident memory in bytes since the last reset."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def resident(process: int | None) -> int:
    """Return the resident memory of a process in bytes, where the system tells it (Linux), or else 0."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def growth(work: Callable[[], object], device: str = "cpu") -> int | None:
    """Do some work and return by how many bytes memory use peaked above its start; `None` if that is unknown.

    On CUDA this is the memory handed out by torch's allocator. Elsewhere it is resident memory, measured after freed
    memory was returned to the system; the kernel counts it to about a MiB.
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
    """Return freed memory to the system: if it stayed resident, using it again would not count as growth."""
    with contextlib.suppress(AttributeError, OSError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
