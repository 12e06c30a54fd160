"""The files that are sent, and what is looked at of their copies.

Each MiB of a file begins with its number and is random from there on, the same in all: what is misplaced, missing or sent twice
is found by comparing, and a file of 2 GiB is made in a second.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .entry import BenchError
from .pairs import RECEIVED, Folders, Job

SOURCE, WARM = "source", "warm"  # the file that is timed, and the small one before it
BLOCK: Final = 1 << 20
SPARE: Final = 256 << 20  # bytes of memory that stay free for the processes, and for the others on this machine


def check_room(folder: Path, size: int) -> None:
    """Raise `BenchError` unless `folder`, and memory, have room for a file of `size` bytes and its copy."""
    needed = 2 * size + SPARE
    for what, free in ((f"in {folder}", shutil.disk_usage(folder).free), ("of memory", available_memory())):
        if free < needed:
            raise BenchError(f"{needed >> 20:,} MiB {what} are needed, {free >> 20:,} are free: --size or --dir")


def available_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))


def make_files(folder: Path, sizes: Mapping[str, int]) -> Folders:
    """Make files of such names and sizes for both ends, once in memory; return their folders."""
    folders = Folders(folder / "served", folder / "own")
    folders.served.mkdir()
    folders.own.mkdir()
    random = os.urandom(BLOCK - 8)
    for name, size in sizes.items():
        with (folders.served / name).open("wb", buffering=0) as file:
            for start in range(0, size, BLOCK):
                file.write((start.to_bytes(8) + random)[: size - start])
        (folders.own / name).hardlink_to(folders.served / name)
    return folders


def clear(folders: Folders) -> None:
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            (folder / RECEIVED).unlink()


def check(folders: Folders, job: Job, *, thoroughly: bool) -> None:
    """Raise `BenchError` unless the copy has the right size, and thoroughly: the right bytes."""
    copy = folders.copy(job)
    if not copy.exists() or copy.stat().st_size != job.size:
        raise BenchError(f"{copy.stat().st_size if copy.exists() else 'none'} of {job.size} bytes arrived")
    if thoroughly and not same(copy, folders.source(job)):
        raise BenchError("what arrived is not what was sent")


def same(one: Path, other: Path) -> bool:
    with one.open("rb", buffering=0) as first, other.open("rb", buffering=0) as second:
        while block := first.read(BLOCK):
            if block != second.read(BLOCK):
                return False
        return not second.read(1)
