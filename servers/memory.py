"""What the C library keeps of large blocks of memory that are given back: glibc's malloc decides it by two thresholds.

Elsewhere than on glibc all of this does nothing.
"""

from __future__ import annotations

import ctypes
from typing import Final

M_TRIM_THRESHOLD: Final = -1  # of glibc's malloc.h
M_MMAP_THRESHOLD: Final = -3
LOOP_BUFFER: Final = 256 * 1024  # what uvloop and aiofastnet allocate for each TLS connection, and hardly use
NEVER: Final = (1 << 31) - 1  # bytes, an int: a thread's heap is of 64 MiB at most
LARGEST: Final = 32 * 1024 * 1024  # glibc's DEFAULT_MMAP_THRESHOLD_MAX, above which it refuses


def spare() -> None:
    """Have large blocks mapped one by one, so that what a TLS connection's buffer never used takes no memory.

    glibc does so until the first such block is given back, and then cuts them from memory that was in use before: an idle
    connection took 48 KiB instead of 25 on uvloop. In return a payload of 256 KiB or more costs fresh pages, which is a few
    percent of what its encryption does.
    """
    _set(M_MMAP_THRESHOLD, LOOP_BUFFER)


def keep() -> None:
    """Have large blocks cut from memory that was in use before, and that memory kept: up to 32 MiB that nobody uses.

    For programs that receive large payloads one after the other. Otherwise each has fresh pages, which the kernel clears
    first: 100,000 page faults a GiB, and a quarter less throughput.
    """
    _set(M_MMAP_THRESHOLD, LARGEST)
    _set(M_TRIM_THRESHOLD, LARGEST)


def hold() -> None:
    """Have no memory given back to the system, for a thread that may open no file.

    Before the first time that it gives back what is not the main thread's, glibc reads /proc/sys/vm/overcommit_memory; free()
    waits for that, and in Python everybody for free().
    """
    _set(M_TRIM_THRESHOLD, NEVER)


def _set(parameter: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(parameter, value)
