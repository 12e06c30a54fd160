"""A directory to be confined to, something outside of it, and a process that exchanges the two while they are looked at."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OUTSIDE = b"outside"
INSIDE = b"inside"

# Exchanges two names until it is ended, or orphaned.
EXCHANGE = """
import ctypes, os, sys
renameat2, first, second, parent = ctypes.CDLL(None).renameat2, sys.argv[1].encode(), sys.argv[2].encode(), os.getppid()
print(renameat2(-100, first, -100, second, 2), flush=True)
while os.getppid() == parent:
    for _ in range(1000):
        renameat2(-100, first, -100, second, 2)
"""


def plant(top: Path) -> Path:
    """Make `top/root` and `top/outside` with the same names in them, and return the first."""
    for name, content in (("root", INSIDE), ("outside", OUTSIDE)):
        for directory in ("d/sub", "e"):
            (top / name / directory).mkdir(parents=True)
        for file in ("f", "d/f", "d/sub/f", "e/f"):
            (top / name / file).write_bytes(content)
    return top / "root"


@contextlib.contextmanager
def exchanging(first: Path, second: Path) -> Iterator[None]:
    """Exchange `first` and `second` all the time, in another process."""
    command = [sys.executable, "-S", "-c", EXCHANGE, os.fspath(first), os.fspath(second)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"0\n"
            yield
        finally:
            process.kill()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
