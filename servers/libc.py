"""Calls of the C library that Python has no function for: one that fails raises the OSError that it would raise in `os`."""

from __future__ import annotations

import ctypes
import os
from typing import Final

LIBRARY: Final = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> int:
    """Return what a call of `LIBRARY` returned; raise the OSError that it set if that is less than 0."""
    if result < 0:
        raise oserror(ctypes.get_errno())
    return result


def prctl(option: int, value: int) -> None:
    """Change something of the calling thread or its process; raise OSError."""
    checked(LIBRARY.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))))


def oserror(number: int) -> OSError:
    return OSError(number, os.strerror(number))
