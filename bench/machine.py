"""What a result cannot be read without: the machine, the versions, the settings of glibc, the implementation, the date."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import fastframe

from .measure import measure

STEADY_MEMCPY: Final = "GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=0x10000000"
# Of processes that are measured: large blocks are kept, and copies do not stumble. Else page faults would outweigh what is
# compared, and a long-lived server has reached that state by itself.
STEADY: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # the most that glibc takes
    "MALLOC_TRIM_THRESHOLD_": str(512 << 20),
    **dict([STEADY_MEMCPY.split("=", 1)]),
}


def memcpy_stumble() -> float:
    """Return how many times longer a copy of 16 KiB takes if it goes 16 bytes further into its page than where it comes from.

    1 where all is well. About 20 on AMD Zen 3 and 4 with glibc before 2.39 (sourceware.org/bugzilla/show_bug.cgi?id=30994):
    there one copy in 130 of random alignment falls into the hole, and figures for payloads of 4 KiB and more are a matter of
    luck, for every contender. `STEADY_MEMCPY` in the environment, when Python starts, avoids it.
    """
    length, page = 16 << 10, 4096
    source, target = ctypes.create_string_buffer(length + page), ctypes.create_string_buffer(length + 2 * page)
    start = ctypes.addressof(source)
    aligned = ctypes.addressof(target) + (start - ctypes.addressof(target)) % page

    def copy(to: int) -> None:
        for _ in range(50):
            ctypes.memmove(to, start, length)

    results = measure({"aligned": lambda: copy(aligned), "further": lambda: copy(aligned + 16)}, 5)
    return results.ratio("further", "aligned").median


def machine() -> dict[str, Any]:
    """Return what a result depends on and what it cannot be read without."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": platform.python_compiler(),
        "libc": " ".join(platform.libc_ver()),
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
        "memcpy_stumble": round(memcpy_stumble(), 1),
        "fastframe": fastframe.__version__,
        "implementation": fastframe.IMPLEMENTATION,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or "unknown"


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those of these packages that are installed."""
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def environment_text(environment: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in environment.items())
