"""What is said of system calls that name files, each as the processor has it, made by this thread; none of them is made."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
import sys
import threading
from pathlib import Path

import pytest

from fastframe.servers import landlock
from fastframe.servers.attempts import Grants
from fastframe.servers.seccomp import Attempt

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads what Linux has of a thread")

HERE = -100  # AT_FDCWD
NO_FOLLOW = 0x100  # AT_SYMLINK_NOFOLLOW


class Caller:
    """This thread, in a directory with one place to read, one to write, and one outside."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.grants = Grants()
        for name, rights in (("read", landlock.READ), ("write", landlock.WRITE), ("outside", None)):
            (top / name).mkdir()
            (top / name / "file").write_text("text")
            (top / name / "file").chmod(0o644)
            if rights is not None:
                self.grants.add(str(top / name), rights)
        self.grants.add("/dev/null", landlock.DEVICE)
        (top / "link").symlink_to("outside/file")
        self._memory: list[object] = []

    def attempt(self, call: str, *arguments: bytes | int) -> Attempt:
        """Return a call whose bytes are in this process's memory."""
        numbers = [self._address(argument) if isinstance(argument, bytes) else argument for argument in arguments]
        return Attempt(0, threading.get_native_id(), call, tuple(number & 0xFFFFFFFFFFFFFFFF for number in numbers))

    def refuses(self, call: str, *arguments: bytes | int) -> str:
        return self.grants.refuses(self.attempt(call, *arguments))

    def _address(self, data: bytes) -> int:
        self._memory.append(ctypes.create_string_buffer(data))
        return ctypes.addressof(self._memory[-1])


@pytest.fixture
def caller(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Caller(tmp_path)


def how(flags: int) -> bytes:
    return struct.pack("QQQ", flags, 0, 0)


@pytest.mark.parametrize(
    ("call", "arguments", "refused"),
    [
        ("open", (b"read/file", os.O_RDONLY), ""),
        ("open", (b"read/file", os.O_RDONLY | os.O_TRUNC), "write"),
        ("open", (b"write/file", os.O_RDWR), ""),
        ("open", (b"write/new", os.O_WRONLY | os.O_CREAT), ""),
        ("open", (b"outside/file", os.O_RDONLY), "read"),
        ("open", (b"outside/new", os.O_RDONLY | os.O_CREAT), "write"),
        ("open", (b"outside/file", os.O_PATH), ""),
        ("open", (b"link", os.O_RDONLY), "read"),
        ("open", (b"/dev/null", os.O_WRONLY), ""),
        ("open", (b"/proc/self/cwd/outside/file", os.O_RDONLY), "read"),
        ("open", (b"/proc/thread-self/cwd/read/file", os.O_RDONLY), ""),
        ("creat", (b"read/file", 0o600), "write"),
        ("creat", (b"write/new", 0o600), ""),
        ("openat", (HERE, b"outside/file", os.O_RDONLY), "read"),
        ("openat", (HERE, b"write/file", os.O_WRONLY), ""),
        ("openat2", (HERE, b"read/file", how(os.O_RDONLY), 24), ""),
        ("openat2", (HERE, b"read/file", how(os.O_WRONLY), 24), "write"),
        ("truncate", (b"read/file", 0), "write"),
        ("truncate", (b"write/file", 0), ""),
        ("mkdir", (b"read/new/", 0o700), "write"),
        ("mknodat", (HERE, b"write/new", 0o600, 0), ""),
        ("symlink", (b"anything", b"outside/new"), "write"),
        ("symlinkat", (b"anything", HERE, b"write/new"), ""),
        ("link", (b"write/file", b"outside/new"), "write"),
        ("linkat", (HERE, b"write/file", HERE, b"write/new", 0), ""),
        ("unlink", (b"link",), "write"),
        ("unlinkat", (HERE, b"write/file", 0), ""),
        ("rmdir", (b"outside/",), "write"),
        ("rename", (b"write/file", b"write/new"), ""),
        ("rename", (b"write/file", b"outside/new"), "write"),
        ("renameat", (HERE, b"outside/file", HERE, b"write/new"), "write"),
        ("renameat2", (HERE, b"write/file", HERE, b"outside/file", 0), "write"),
    ],
)
def test_what_is_refused(caller, call, arguments, refused):
    assert caller.refuses(call, *arguments) == refused
    assert caller.refuses(call, *arguments) == refused  # also when it is known


@pytest.mark.parametrize(
    ("call", "arguments", "number"),
    [
        ("open", (b"outside/missing", os.O_RDONLY), errno.ENOENT),
        ("open", (b"", os.O_RDONLY), errno.ENOENT),
        ("open", (b"x" * 5000, os.O_RDONLY), errno.ENOENT),
        ("open", (0, os.O_RDONLY), errno.EFAULT),
        ("open", (b"outside/file", os.O_CREAT | os.O_EXCL), errno.EEXIST),
        ("open", (b"outside/file", os.O_RDONLY | os.O_DIRECTORY), errno.ENOTDIR),
        ("openat", (1 << 20, b"file", os.O_RDONLY), errno.ENOENT),
        ("mkdir", (b"outside", 0o700), errno.EEXIST),
        ("mkdir", (b"outside/missing/new", 0o700), errno.ENOENT),
        ("unlink", (b"outside/missing",), errno.ENOENT),
        ("link", (b"read/file", b"outside/file"), errno.EEXIST),
    ],
)
def test_what_fails_anyway_is_no_refusal(caller, call, arguments, number):
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        caller.refuses(call, *arguments)


def test_paths_are_relative_to_the_directory_of_the_call(caller):
    directory = os.open("outside", os.O_PATH)
    assert caller.refuses("openat", directory, b"file", os.O_RDONLY) == "read"
    assert caller.refuses("openat", directory, b"../read/file", os.O_RDONLY) == ""
    os.close(directory)


def test_what_is_no_file_is_not_landlocks(caller):
    ends = os.pipe()
    assert caller.refuses("open", b"/proc/self/fd/%d" % ends[0], os.O_RDONLY) == ""
    with pytest.raises(NotADirectoryError):
        caller.refuses("openat", ends[0], b"file", os.O_RDONLY)
    for end in ends:
        os.close(end)


def mode(path: str) -> int:
    return os.stat(path).st_mode & 0o7777


@pytest.mark.parametrize("place", ["read", "write", "outside"])
@pytest.mark.parametrize("call", ["chmod", "fchmod", "fchmodat", "fchmodat2"])
def test_modes_are_changed_where_it_may_write(caller, call, place):
    file = os.open(f"{place}/file", os.O_RDONLY)
    path = os.fsencode(f"{place}/file")
    arguments = {"chmod": (path, 0o751), "fchmod": (file, 0o751)}.get(call, (HERE, path, 0o751, 0))
    outcome = caller.grants.change_mode(caller.attempt(call, *arguments))
    os.close(file)
    if place == "write":
        assert (outcome, mode(f"{place}/file")) == ((0, ""), 0o751)
    else:
        assert (outcome, mode(f"{place}/file")) == ((errno.EACCES, "write"), 0o644)


@pytest.mark.parametrize(
    ("call", "arguments", "number"),
    [
        ("chmod", (b"write/missing", 0), errno.ENOENT),
        ("chmod", (0, 0), errno.EFAULT),
        ("fchmod", (1 << 20, 0), errno.EBADF),
    ],
)
def test_modes_of_what_is_not_there(caller, call, arguments, number):
    assert caller.grants.change_mode(caller.attempt(call, *arguments)) == (number, "")


def test_a_mode_goes_where_a_link_leads_unless_it_is_the_links(caller):
    (caller.top / "write/link").symlink_to("../outside/file")
    follow = caller.attempt("fchmodat2", HERE, b"write/link", 0o600, 0)
    assert caller.grants.change_mode(follow) == (errno.EACCES, "write")
    itself = caller.attempt("fchmodat2", HERE, b"write/link", 0o600, NO_FOLLOW)
    assert caller.grants.change_mode(itself) == (errno.EOPNOTSUPP, "")  # links have none
    assert mode("outside/file") == 0o644
