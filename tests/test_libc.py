"""Calls of the C library."""

from __future__ import annotations

import errno
import sys

import pytest

from fastframe.servers import libc


def test_what_a_call_returns():
    assert libc.checked(libc.LIBRARY.getpagesize()) > 0


def test_a_call_that_fails_raises_what_it_set():
    with pytest.raises(FileNotFoundError, match="No such file or directory") as info:
        libc.checked(libc.LIBRARY.chdir(b"/nonexistent"))
    assert info.value.errno == errno.ENOENT


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux's")
def test_prctl_refuses_what_the_kernel_does_not_know():
    with pytest.raises(OSError, match="Invalid argument"):
        libc.prctl(-1, 0)
