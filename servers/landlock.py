"""Landlock: what files, network and processes a thread, and all that it starts, can reach. No privileges are needed.

In go files and directories with what may be done beneath each of them; out comes the descriptor of a ruleset, and `restrict`
holds the calling thread to it for good. What no rule grants is refused by the kernel, with EACCES as a rule.

Kernels differ: each ABI version knows more than the one before it. A ruleset asks for all that is listed here and that the
running kernel knows. Sources of the numbers: linux/landlock.h, landlock(7), Documentation/userspace-api/landlock.rst.

What Landlock cannot refuse, on any kernel so far: stat, chdir, access, chmod, chown, utime and extended attributes. Of these,
chmod and attributes are seccomp's and confinement's. Names and sizes of files outside can be seen, and the times of those that
belong to the command's user be set.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable
from typing import Final

from . import libc

# Numbers of the calls, the same on every machine but Alpha; the C library has no functions for them.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH: Final = 1  # LANDLOCK_RULE_PATH_BENEATH

_EXECUTE: Final = 1 << 0
_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_TRUNCATE: Final = 1 << 14
_IOCTL_DEV: Final = 1 << 15
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV  # a rule for a file has no others, or EINVAL

READ: Final = _EXECUTE | _READ_FILE | _READ_DIR
DEVICE: Final = _READ_FILE | _WRITE_FILE | _TRUNCATE  # /dev/null and its like: no program needs their ioctls
WRITE: Final = (1 << 16) - 1  # everything: what is built there may be run, and a device that is named may be set up

# All rights to files from the ABI on that is named: REFER came with 2, TRUNCATE with 3, IOCTL_DEV with 5.
_FILES: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_NETWORK: Final = {4: 0b11}  # TCP: bind, connect
_SCOPES: Final = {6: 0b11}  # abstract Unix sockets and signals: only to what is in the same sandbox, or deeper

_syscall = libc.LIBRARY.syscall


def version() -> int:
    """Return the ABI version of the running kernel's Landlock, 0 where there is none or where it is switched off."""
    if sys.platform != "linux":
        return 0
    abi: int = _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    return max(0, abi)


def _known(rights: dict[int, int], abi: int) -> int:
    return max((value for since, value in rights.items() if since <= abi), default=0)


def create(network: bool) -> int:
    """Return the descriptor of a ruleset without rules: it refuses files, TCP unless `network`, and signals to others.

    Raise OSError, ENOSYS or EOPNOTSUPP where there is no Landlock.
    """
    abi = version()
    handled = struct.pack("QQQ", _known(_FILES, abi), 0 if network else _known(_NETWORK, abi), _known(_SCOPES, abi))
    # An older kernel takes a structure that is longer than its own if the rest is zero, and it is.
    return libc.checked(_syscall(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0))


def grant(ruleset: int, path: str, rights: int) -> str:
    """Allow `rights` to the file `path`, or to the directory and everything beneath it; return its path without links.

    It is the file or directory that is meant, not its name: renamed, it stays allowed. Raise OSError with the path.
    """
    held = os.open(path, os.O_PATH)
    try:
        if not stat.S_ISDIR(os.fstat(held).st_mode):
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights & _known(_FILES, version()), held)
        libc.checked(_syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
        return os.readlink(f"/proc/self/fd/{held}")
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(held)


def grant_what_exists(ruleset: int, paths: Iterable[str], rights: int) -> list[str]:
    """Do the same for those of `paths` that are there."""
    return [grant(ruleset, path, rights) for path in paths if os.path.exists(path)]


def restrict(ruleset: int) -> None:
    """Hold the calling thread, and what it starts, to `ruleset` for good; raise OSError, EPERM without no-new-privs."""
    libc.checked(_syscall(_RESTRICT_SELF, ruleset, 0))
